"""The API, described for programs: OpenAPI 3.0."""

from http import HTTPStatus
from typing import Any

from derain.image import FORMATS
from serving.problems import MEDIA_TYPE, STATUSES
from serving.uploads import ROUTE

Description = dict[str, Any]

_BINARY: Description = {"type": "string", "format": "binary"}

_PROBLEM: Description = {
    "type": "object",
    "description": "What went wrong, in words (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}

_MEANINGS = {
    HTTPStatus.BAD_REQUEST: "The body is empty, damaged, or no single picture.",
    HTTPStatus.NOT_ACCEPTABLE: "None of the formats in the Accept header can be written.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too many bytes or too many pixels.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is no picture in a known format, or has several frames.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many pictures are waiting; Retry-After says when to come again.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A fault in the service.",
    HTTPStatus.GATEWAY_TIMEOUT: "Not done in time.",
}


def _problem(meaning: str) -> Description:
    return {
        "description": meaning,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _derain() -> Description:
    pictures = {known.media_type: {"schema": _BINARY} for known in FORMATS}
    form = {"type": "object", "required": ["image"], "properties": {"image": _BINARY}}
    statuses = sorted({*STATUSES.values(), HTTPStatus.INTERNAL_SERVER_ERROR})
    done: Description = {
        "description": "The picture without rain: same size, upright, in the format that came in, "
        "or the best one that the Accept header allows.",
        "headers": {
            "Server-Timing": {
                "description": "Milliseconds in queue, decode, infer and encode.",
                "schema": {"type": "string"},
            },
            "X-Derain-Model": {"description": "The model that did it.", "schema": {"type": "string"}},
        },
        "content": pictures,
    }
    return {
        "operationId": "derain",
        "summary": "Take the rain out of a picture",
        "description": "Send the file as the body, or as the one file of a multipart form. "
        "The format is told from the bytes, whatever the Content-Type says.",
        "requestBody": {
            "required": True,
            "content": {
                **pictures,
                "application/octet-stream": {"schema": _BINARY},
                "multipart/form-data": {"schema": form},
            },
        },
        "responses": {
            "200": done,
            **{str(status.value): _problem(_MEANINGS[status]) for status in statuses},
        },
    }


def _probe(summary: str, *, can_fail: bool) -> Description:
    responses: Description = {"200": {"description": "Yes."}}
    if can_fail:
        responses["503"] = _problem("No.")
    return {"summary": summary, "responses": responses}


DESCRIPTION: Description = {
    "openapi": "3.0.3",
    "info": {
        "title": "Derain",
        "version": "1",
        "description": "Takes rain out of photographs.",
    },
    "paths": {
        ROUTE: {"post": _derain()},
        "/livez": {"get": _probe("Is the process alive?", can_fail=False)},
        "/readyz": {"get": _probe("Is the model loaded, can pictures be sent?", can_fail=True)},
        "/metrics": {"get": _probe("Metrics for Prometheus", can_fail=False)},
    },
    "components": {"schemas": {"Problem": _PROBLEM}},
}
