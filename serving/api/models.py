"""The models that are served: listed, described, as the Open Inference Protocol has them, and reloaded."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.api.services import services_of
from serving.pipeline.model_pool import ServedModel


async def list_models(request: Request) -> Response:
    models = services_of(request).models
    return JSONResponse(
        {
            "default": models.default_name,
            "models": [_summary(name, models.get(name)) for name in models.names()],
        }
    )


async def describe_model(request: Request) -> Response:
    name, served = _named(request)
    manifest = served.manifest.model_dump(mode="json")
    return JSONResponse({**_summary(name, served), "manifest": manifest})


async def describe_server(_request: Request) -> Response:
    return JSONResponse({"name": "derain", "version": "1", "extensions": []})


async def describe_in_protocol(request: Request) -> Response:
    name, served = _named(request)
    tensor = {"datatype": "FP32", "shape": [-1, 3, -1, -1]}
    return JSONResponse(
        {
            "name": name,
            "versions": [served.manifest.sha256[:12]],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": given, **tensor} for given in served.engine.network.input_names],
            "outputs": [{"name": served.engine.network.output_name, **tensor}],
        }
    )


async def is_model_ready(request: Request) -> Response:
    name, _ = _named(request)
    return JSONResponse({"name": name, "ready": True})


async def reload_models(request: Request) -> Response:
    """Raises RefusedReloadError. After a success the other workers reload as well."""
    services = services_of(request)
    models = services.models
    before = models.default.manifest.sha256
    is_new = await asyncio.to_thread(models.reload)
    if is_new and services.reload_file is not None:
        services.reload_file.touch()
    return JSONResponse(
        {
            "outcome": "swapped" if is_new else "unchanged",
            "before": before,
            **_summary(models.default_name, models.default),
        }
    )


def _named(request: Request) -> tuple[str, ServedModel]:
    """The one in the path; raises UnknownModelError."""
    name = request.path_params["name"]
    return name, services_of(request).models.get(name)


def _summary(name: str, served: ServedModel) -> dict[str, object]:
    manifest = served.manifest
    return {
        "name": name,
        "sha256": manifest.sha256,
        "provider": str(served.engine.provider),
        "parameters": manifest.parameters,
        "kmac_per_pixel": manifest.kmac_per_pixel,
        "created": manifest.created.isoformat(),
    }
