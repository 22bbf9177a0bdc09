"""What is answered beside pictures and pages: models, probes, metrics, administration."""

import asyncio
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from derain.errors import DerainError
from serving.metrics import exposition
from serving.models import Models, Served
from serving.problems import problem_of

Answer = Callable[[Request], Response]


def model_routes(models: Models) -> list[BaseRoute]:
    """What is served; also as the Open Inference Protocol has it, under /v2."""

    def listed(_request: Request) -> Response:
        return JSONResponse(
            {
                "default": models.default_name,
                "models": [_summary(name, models.get(name)) for name in models.names()],
            }
        )

    def described(request: Request) -> Response:
        name = request.path_params["name"]
        served = models.get(name)
        manifest = served.manifest.model_dump(mode="json")
        return JSONResponse({**_summary(name, served), "manifest": manifest})

    def server(_request: Request) -> Response:
        return JSONResponse({"name": "derain", "version": "1", "extensions": []})

    def as_protocol(request: Request) -> Response:
        served = models.get(request.path_params["name"])
        picture = {"datatype": "FP32", "shape": [-1, 3, -1, -1]}
        engine = served.engine
        return JSONResponse(
            {
                "name": request.path_params["name"],
                "versions": [served.manifest.sha256[:12]],
                "platform": "onnxruntime_onnx",
                "inputs": [{"name": given, **picture} for given in engine.network.input_names],
                "outputs": [{"name": engine.network.output_name, **picture}],
            }
        )

    def is_ready(request: Request) -> Response:
        name = request.path_params["name"]
        models.get(name)
        return JSONResponse({"name": name, "ready": True})

    return [
        Route("/v1/models", _told(listed)),
        Route("/v1/models/{name}", _told(described)),
        Route("/v2", _told(server)),
        Route("/v2/models/{name}", _told(as_protocol)),
        Route("/v2/models/{name}/ready", _told(is_ready)),
    ]


def probe_routes() -> list[BaseRoute]:
    """The Open Inference Protocol's; BentoML has /livez, /readyz and /healthz of its own.

    Whoever can answer is ready: nothing is answered before the models are there.
    """

    async def live(_request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_request: Request) -> Response:
        return JSONResponse({"ready": True})

    return [Route("/v2/health/live", live), Route("/v2/health/ready", ready)]


def metrics_route() -> BaseRoute:
    async def metrics(_request: Request) -> Response:
        text = await asyncio.to_thread(exposition)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    return Route("/metrics", metrics)


def admin_route(models: Models, announce: Callable[[], None]) -> BaseRoute:
    """`announce` tells the other workers."""

    async def reload(_request: Request) -> Response:
        before = models.default.manifest.sha256
        try:
            is_new = await asyncio.to_thread(models.reload)
        except DerainError as error:
            return problem_of(error).response()
        if is_new:
            announce()
        served = models.default
        return JSONResponse(
            {
                "outcome": "swapped" if is_new else "unchanged",
                "before": before,
                **_summary(models.default_name, served),
            }
        )

    return Route("/admin/reload", reload, methods=["POST"])


def _told(answer: Answer) -> Callable[[Request], object]:
    """Errors in words."""

    async def told(request: Request) -> Response:
        try:
            return answer(request)
        except DerainError as error:
            return problem_of(error).response()

    return told


def _summary(name: str, served: Served) -> dict[str, object]:
    manifest = served.manifest
    return {
        "name": name,
        "sha256": manifest.sha256,
        "provider": str(served.engine.provider),
        "parameters": manifest.parameters,
        "kmac_per_pixel": manifest.kmac_per_pixel,
        "created": manifest.created.isoformat(),
    }
