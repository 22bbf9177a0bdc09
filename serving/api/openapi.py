"""The API, described for programs: OpenAPI 3.0."""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Protocol

from derain import __version__
from derain.errors import ImageTooLargeError
from derain.images.formats import FORMATS, known_formats
from serving.api.images.batch import ZIP
from serving.api.images.multipart import MULTIPART
from serving.api.problems import ALL_TYPES, MEDIA_TYPE, PROBLEM_TYPES
from serving.pipeline.options import Options

Description = dict[str, Any]

_BINARY: Description = {"type": "string", "format": "binary"}

# Generators of clients know no images; what they make of this one returns the bytes. Accept may name it.
_BYTES = "application/octet-stream"
OBJECT: Description = {"type": "object"}

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
        "sha256": {"type": "string", "description": "Of the hashes of its ONNX files."},
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
    HTTPStatus.BAD_REQUEST: "A parameter that cannot be; a body that is empty, damaged, or holds no image.",
    HTTPStatus.UNAUTHORIZED: "A key is needed, or this one is not known.",
    HTTPStatus.FORBIDDEN: "The key may not do this.",
    HTTPStatus.NOT_FOUND: "There is no such model here.",
    HTTPStatus.NOT_ACCEPTABLE: "None of the formats in the Accept header can be written.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time.",
    HTTPStatus.CONFLICT: "The new model cannot be served; the old one stays.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too many bytes or too many pixels.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is no image in a known format, or has several frames.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too much is waiting, or was sent; Retry-After says when to come again.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A fault in the service.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not ready.",
    HTTPStatus.GATEWAY_TIMEOUT: "Not done in time.",
}

FOR_KEYS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_FOR_UPLOADS = (
    HTTPStatus.BAD_REQUEST,
    *FOR_KEYS,
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


def json_answer(description: str, schema: Description) -> Description:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _parameters() -> dict[str, Description]:
    """The schemas of the fields of `Options`.

    Their defaults are in words: generated clients would send them, and so overrule fields of a form.
    """
    schemas = {}
    for name, schema in Options.model_json_schema()["properties"].items():
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
    X_Derain_Residual_Rain="Probability, 0 to 1, that rain was left in the image.",
    Derain_Rain="found, or none: then the image comes back as it was, unless force=true; absent at "
    "strength=0.",
    Derain_Dropped="What the file held and the answer does not: gain-map, gps, video ...; absent if nothing.",
    ETag="Of the answer's bytes.",
)


def derain() -> Description:
    example = {"examples": {"rain": {"summary": "A photograph in the rain", "externalValue": "/example.jpg"}}}
    written = {known.media_type: {"schema": _BINARY} for known in FORMATS if known.writable}
    properties = {"image": _BINARY, **_parameters()}
    form = {"type": "object", "required": ["image"], "properties": properties}
    return {
        "operationId": "derain",
        "summary": "Take the rain out of an image",
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
                "description": "The image without rain: same size, upright, in the format that came in, "
                "or the one asked for.",
                "headers": ANSWER_HEADERS,
                "content": written | {_BYTES: {"schema": _BINARY}},
            },
            **_problems(*_FOR_UPLOADS),
        },
    }


def derain_with_progress() -> Description:
    alone = derain()
    return {
        "operationId": "derain_with_progress",
        "summary": "Take the rain out of an image, with progress reports",
        "description": "As /v1/derain, but the answer starts at once. JSON parts report the stage (queue, "
        "decode, infer, monitor, encode) and, in infer, how many pixels are done, of how many. The last "
        "part is the image with the headers of /v1/derain, or a problem. A disconnect cancels the work.",
        "parameters": alone["parameters"],
        "requestBody": alone["requestBody"],
        "responses": {
            "200": {
                "description": "Progress reports, then the image. Each part states its length.",
                "headers": _headers(X_Request_ID=ANSWER_HEADERS["X-Request-ID"]["description"]),
                "content": {MULTIPART: {"schema": _BINARY}},
            },
            **_problems(*_FOR_UPLOADS),
        },
    }


def derain_batch() -> Description:
    files = {"type": "array", "items": _BINARY, "minItems": 1}
    form = {"type": "object", "required": ["images"], "properties": {"images": files, **_parameters()}}
    return {
        "operationId": "derain_batch",
        "summary": "Take the rain out of several images",
        "description": "Send the files as a multipart form, whose other fields are parameters. "
        "The answer has a file for each: the image, or "
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


def get(operation: str, summary: str, answer: Description, *problems: HTTPStatus) -> Description:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": answer, **_problems(*problems, HTTPStatus.INTERNAL_SERVER_ERROR)},
    }


def get_of_model(operation: str, summary: str, answer: Description, *problems: HTTPStatus) -> Description:
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    return {**get(operation, summary, answer, *problems), "parameters": [name]}


MODEL: Description = {"$ref": "#/components/schemas/Model"}
MODEL_LIST: Description = {
    "type": "object",
    "required": ["default", "models"],
    "properties": {"default": {"type": "string"}, "models": {"type": "array", "items": MODEL}},
}


def model_and(**properties: Description) -> Description:
    return {"allOf": [MODEL, {**OBJECT, "properties": properties}]}


YES: Description = {"description": "Yes."}
METRICS_TEXT: Description = {
    "description": "In Prometheus's format.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
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


class Described(Protocol):
    """What is read of a row of the table of routes."""

    @property
    def path(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def operation(self) -> Description | None: ...


def describe(routes: Iterable[Described]) -> Description:
    """The API as these routes make it; those without an operation are for people."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Derain",
            "version": __version__,
            "description": "Takes rain out of photographs. "
            "Within /v1 what is here stays; other things may come.",
        },
        "servers": [{"url": "/", "description": "The service that this comes from."}],
        "tags": [{"name": name, "description": meaning} for name, meaning in _TAGS.items()],
        "paths": {
            route.path: {route.method.lower(): route.operation | {"tags": [_tag(route.path)]}}
            for route in routes
            if route.operation is not None
        },
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
