"""The API, described for programs: OpenAPI 3.0."""

import json
from http import HTTPStatus
from typing import Any

from derain import __version__
from derain.errors import ImageTooLargeError
from derain.images.formats import FORMATS, known_formats
from serving.batch import ROUTE as BATCH_ROUTE
from serving.batch import ZIP
from serving.multipart import MULTIPART
from serving.parameters import Parameters
from serving.problems import ALL_TYPES, MEDIA_TYPE, PROBLEM_TYPES
from serving.progress import ROUTE as PROGRESS_ROUTE
from serving.uploads import ROUTE

Description = dict[str, Any]

_BINARY: Description = {"type": "string", "format": "binary"}

# Generators of clients know no images; what they make of this one returns the bytes. Accept may name it.
_BYTES = "application/octet-stream"
_OBJECT: Description = {"type": "object"}

_PROBLEM: Description = {
    "type": "object",
    "description": "What went wrong, in words (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "By which programs tell errors; /errors explains each.",
        },
        "title": {"type": "string", "description": "Of the type."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "For people: the bad value, and the allowed one."},
    },
    "example": {
        "type": PROBLEM_TYPES[ImageTooLargeError].uri,
        "title": PROBLEM_TYPES[ImageTooLargeError].title,
        "status": HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value,
        "detail": "12000 x 9000 is 108,000,000 pixels: at most 50,000,000 are allowed",
    },
}

_MODEL: Description = {
    "type": "object",
    "required": ["name", "sha256", "provider", "parameters", "kmac_per_pixel", "created"],
    "properties": {
        "name": {"type": "string"},
        "sha256": {"type": "string", "description": "Of the ONNX file."},
        "provider": {"type": "string", "description": "What it runs on: cpu, cuda or tensorrt."},
        "parameters": {"type": "integer"},
        "kmac_per_pixel": {"type": "number", "description": "Thousand multiply-adds a pixel costs."},
        "created": {"type": "string", "format": "date-time"},
    },
    "example": {
        "name": "base",
        "sha256": "4e35b956cf45792e4caa5885e69fba00bdbc6ffafbfa020300e549b208ee5ff1",
        "provider": "cpu",
        "parameters": 1_360_000,
        "kmac_per_pixel": 40.4,
        "created": "2026-11-29T12:00:00+00:00",
    },
}

_MEANINGS = {
    HTTPStatus.BAD_REQUEST: "A parameter that cannot be; a body that is empty, damaged, or holds no picture.",
    HTTPStatus.UNAUTHORIZED: "A key is needed, or this one is not known.",
    HTTPStatus.FORBIDDEN: "The key may not do this.",
    HTTPStatus.NOT_FOUND: "There is no such model here.",
    HTTPStatus.NOT_ACCEPTABLE: "None of the formats in the Accept header can be written.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time.",
    HTTPStatus.CONFLICT: "The new model cannot be served; the old one stays.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too many bytes or too many pixels.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is no picture in a known format, or has several frames.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too much is waiting, or was sent; Retry-After says when to come again.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A fault in the service.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not ready.",
    HTTPStatus.GATEWAY_TIMEOUT: "Not done in time.",
}

_FOR_KEYS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_FOR_UPLOADS = (
    HTTPStatus.BAD_REQUEST,
    *_FOR_KEYS,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.GATEWAY_TIMEOUT,
)


def _problems(*statuses: HTTPStatus) -> Description:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        str(status.value): {"description": f"{_MEANINGS[status]} {_types(status)}", "content": content}
        for status in statuses
    }


def _types(status: HTTPStatus) -> str:
    return f"`type`: {', '.join(f'`{known.uri}`' for known in ALL_TYPES if known.status == status)}."


def _json(description: str, schema: Description) -> Description:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _parameters() -> dict[str, Description]:
    """The schemas of the fields of `Parameters`.

    Their defaults are in words: generated clients would send them, and so overrule fields of a form.
    """
    schemas = {}
    for name, schema in Parameters.model_json_schema()["properties"].items():
        # What may be absent is not null when it is there.
        said: Description = next((kind for kind in schema.get("anyOf", ()) if kind.get("type") != "null"), {})
        kept = {key: value for key, value in schema.items() if key not in ("anyOf", "title", "default")}
        if (default := schema.get("default")) is not None:
            kept["description"] += f" Default: {json.dumps(default).strip(chr(34))}."
        schemas[name] = said | kept
    return schemas


def _query() -> list[Description]:
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema["description"],
            "schema": {key: value for key, value in schema.items() if key not in ("description", "example")},
            **({"example": schema["example"]} if "example" in schema else {}),
        }
        for name, schema in _parameters().items()
    ]


def _headers(**meanings: str) -> Description:
    return {
        name.replace("_", "-"): {"description": meaning, "schema": {"type": "string"}}
        for name, meaning in meanings.items()
    }


# Of an image that is answered; what is not here, scripts of other origins cannot read.
ANSWER_HEADERS = _headers(
    X_Request_ID="Yours, where you sent one of up to 128 letters, digits and ._:/+=-.",
    Server_Timing="Milliseconds in queue, decode, infer, monitor and encode.",
    X_Derain_Model="The model that did it.",
    X_Derain_Residual_Rain="Probability, 0 to 1, that rain was left in the picture.",
    Derain_Rain="found, or none: then the picture comes back as it was, unless force=true; absent at "
    "strength=0.",
    Derain_Dropped="What the file held and the answer does not: gain-map, gps, video ...; absent if nothing.",
    ETag="Of the answer's bytes.",
)


def _derain() -> Description:
    example = {"examples": {"rain": {"summary": "A photograph in the rain", "externalValue": "/example.jpg"}}}
    written = {known.media_type: {"schema": _BINARY} for known in FORMATS if known.writable}
    properties = {"image": _BINARY, **_parameters()}
    form = {"type": "object", "required": ["image"], "properties": properties}
    return {
        "operationId": "derain",
        "summary": "Take the rain out of a picture",
        "description": "Send the file as the body, or as the one file of a multipart form, whose other "
        f"fields are parameters; the query goes before them. Formats: {known_formats()}, told from the "
        "bytes, whatever the Content-Type says. Content-Encoding may be gzip.",
        "parameters": _query(),
        "requestBody": {
            "required": True,
            "content": {
                _BYTES: {"schema": _BINARY},
                "image/*": {"schema": _BINARY, **example},
                "multipart/form-data": {"schema": form},
            },
        },
        "responses": {
            "200": {
                "description": "The picture without rain: same size, upright, in the format that came in, "
                "or the one asked for.",
                "headers": ANSWER_HEADERS,
                "content": written | {_BYTES: {"schema": _BINARY}},
            },
            **_problems(*_FOR_UPLOADS),
        },
    }


def _progress() -> Description:
    derain = _derain()
    return {
        "operationId": "derain_with_progress",
        "summary": "Take the rain out of a picture, with progress reports",
        "description": "As /v1/derain, but the answer starts at once. JSON parts report the stage (queue, "
        "decode, infer, monitor, encode) and, in infer, the tiles done and their total. The last part is the "
        "picture with the headers of /v1/derain, or a problem. A disconnect cancels the work.",
        "parameters": derain["parameters"],
        "requestBody": derain["requestBody"],
        "responses": {
            "200": {
                "description": "Progress reports, then the picture. Each part states its length.",
                "headers": _headers(X_Request_ID=ANSWER_HEADERS["X-Request-ID"]["description"]),
                "content": {MULTIPART: {"schema": _BINARY}},
            },
            **_problems(*_FOR_UPLOADS),
        },
    }


def _batch() -> Description:
    files = {"type": "array", "items": _BINARY, "minItems": 1}
    form = {"type": "object", "required": ["images"], "properties": {"images": files, **_parameters()}}
    return {
        "operationId": "derain_batch",
        "summary": "Take the rain out of several pictures",
        "description": "Send the files as a multipart form, whose other fields are parameters. "
        "The answer has a file for each: the picture, or "
        "a problem in JSON; in a zip `results.json` lists them.",
        "parameters": _query(),
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": {
            "200": {
                "description": "All files, as they were done.",
                "headers": _headers(X_Request_ID=ANSWER_HEADERS["X-Request-ID"]["description"]),
                "content": {media_type: {"schema": _BINARY} for media_type in (ZIP, MULTIPART, _BYTES)},
            },
            **_problems(*_FOR_UPLOADS),
        },
    }


def _get(operation: str, summary: str, answer: Description, *problems: HTTPStatus) -> Description:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": answer, **_problems(*problems, HTTPStatus.INTERNAL_SERVER_ERROR)},
    }


def _of_model(described: Description) -> Description:
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    return {"get": {**described, "parameters": [name]}}


def _paths() -> dict[str, Description]:
    model = {"$ref": "#/components/schemas/Model"}
    listed = {
        "type": "object",
        "required": ["default", "models"],
        "properties": {"default": {"type": "string"}, "models": {"type": "array", "items": model}},
    }
    with_manifest = {"allOf": [model, {**_OBJECT, "properties": {"manifest": _OBJECT}}]}
    yes: Description = {"description": "Yes."}
    text: Description = {
        "description": "In Prometheus's format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    absent = (*_FOR_KEYS, HTTPStatus.NOT_FOUND)
    unready = HTTPStatus.SERVICE_UNAVAILABLE
    reload = _get(
        "reload_models",
        "Serve what the models folder has now",
        _json(
            "It is served.", {"allOf": [model, {**_OBJECT, "properties": {"outcome": {"type": "string"}}}]}
        ),
        *_FOR_KEYS,
        HTTPStatus.CONFLICT,
    )
    return {
        ROUTE: {"post": _derain()},
        PROGRESS_ROUTE: {"post": _progress()},
        BATCH_ROUTE: {"post": _batch()},
        "/v1/models": {
            "get": _get(
                "list_models", "The models that are served", _json("All of them.", listed), *_FOR_KEYS
            )
        },
        "/v1/models/{name}": _of_model(
            _get("get_model", "A model, and its manifest with scores", _json("It.", with_manifest), *absent)
        ),
        "/v2": {"get": _get("server_metadata", "Open Inference Protocol: the server", _json("It.", _OBJECT))},
        "/v2/health/live": {
            "get": _get("server_live", "Open Inference Protocol: alive?", _json("Yes.", _OBJECT))
        },
        "/v2/health/ready": {
            "get": _get("server_ready", "Open Inference Protocol: ready?", _json("Yes.", _OBJECT), unready)
        },
        "/v2/models/{name}": _of_model(
            _get("model_metadata", "Open Inference Protocol: a model", _json("It.", _OBJECT), *absent)
        ),
        "/v2/models/{name}/ready": _of_model(
            _get("model_ready", "Open Inference Protocol: is it ready?", _json("Yes.", _OBJECT), *absent)
        ),
        "/livez": {"get": _get("livez", "Is the process alive?", yes, unready)},
        "/readyz": {"get": _get("readyz", "Are the models loaded, can pictures be sent?", yes, unready)},
        "/metrics": {"get": _get("metrics", "Metrics for Prometheus", text)},
        "/admin/reload": {"post": reload},
    }


_TAGS = {
    "images": "Rain taken out of photographs.",
    "models": "What is served.",
    "inference": "The same as the Open Inference Protocol has it.",
    "operations": "Probes, metrics, administration.",
}


def _tag(path: str) -> str:
    starts = {"/v1/derain": "images", "/v1/models": "models", "/v2": "inference"}
    return next((tag for start, tag in starts.items() if path.startswith(start)), "operations")


def _with_tags(paths: dict[str, Description]) -> dict[str, Description]:
    return {
        path: {method: operation | {"tags": [_tag(path)]} for method, operation in operations.items()}
        for path, operations in paths.items()
    }


DESCRIPTION: Description = {
    "openapi": "3.0.3",
    "info": {
        "title": "Derain",
        "version": __version__,
        "description": "Takes rain out of photographs. Within /v1 what is here stays; other things may come.",
    },
    "servers": [{"url": "/", "description": "The service that this comes from."}],
    "tags": [{"name": name, "description": meaning} for name, meaning in _TAGS.items()],
    "paths": _with_tags(_paths()),
    "components": {
        "schemas": {"Problem": _PROBLEM, "Model": _MODEL},
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        },
    },
    # A service with keys wants one of them, a service without wants none.
    "security": [{}, {"bearer": []}, {"key": []}],
}

# All paths that are answered, for telling them from those that are only tried.
TEMPLATES = [
    *DESCRIPTION["paths"],
    "/",
    "/docs",
    "/errors",
    "/docs.json",
    "/openapi.json",
    "/example.jpg",
    "/page/{name}",
    "/examples/{name}",
    "/healthz",
    "/schema.json",
]
