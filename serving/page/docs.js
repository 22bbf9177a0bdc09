// Swagger UI, which asks nobody but us.
SwaggerUIBundle({ url: 'openapi.json', dom_id: '#api', validatorUrl: null });
