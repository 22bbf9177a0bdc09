"""The BentoML service: a picture in the rain comes in, the same without rain goes out."""

import logging
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from derain.engine import Engine
from derain.errors import DerainError
from serving.metrics import MODEL, REJECTED
from serving.negotiation import choose_format
from serving.pages import pages
from serving.pipeline import Pipeline
from serving.problems import ProblemResponses, problem_of
from serving.settings import settings_or_exit
from serving.uploads import ROUTE, Uploads

logger = logging.getLogger("bentoml.derain")

settings = settings_or_exit()

# BentoML's own limit answers without a problem document and cannot stop the work, so it is
# only a backstop behind the pipeline's.
_BACKSTOP_S = settings.timeout_s + 30


@bentoml.service(name="derain", workers=1, traffic={"timeout": _BACKSTOP_S})
@bentoml.mount_asgi_app(pages(with_demo=settings.page), path="/")
class DerainService:
    """Takes rain out of photographs."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check() -> None:
        """Before any worker starts: BentoML would start one that fails again and again, for ever."""
        try:
            _open_engine().close()
        except DerainError as error:
            raise SystemExit(f"derain: {error}") from None

    def __init__(self) -> None:
        engine = _open_engine()
        self._pipeline = Pipeline(engine, settings)
        manifest = engine.manifest
        MODEL.labels(manifest.name, manifest.file.sha256, engine.provider).set(1)
        logger.info("serving model %s on %s, %d threads", manifest.name, engine.provider, engine.threads)

    @bentoml.api(route=ROUTE)  # type: ignore[untyped-decorator]
    async def derain(
        self, image: Annotated[bytes, ContentType("image/*")], /, ctx: bentoml.Context
    ) -> Annotated[bytes, ContentType("image/*")]:
        """The picture without rain, in the format it came in or the one the Accept header asks for."""
        accept = ctx.request.headers.get("accept")
        answer = ctx.response
        try:
            derained = await self._pipeline.derain(image, lambda source: choose_format(accept, source))
        except DerainError as error:
            REJECTED.labels(type(error).__name__).inc()
            problem = problem_of(error)
            answer.status_code = problem.status
            answer.headers.update(problem.headers)
            return problem.body
        answer.headers["content-type"] = derained.format.media_type
        answer.headers["server-timing"] = derained.timings.header()
        answer.headers["x-derain-model"] = self._pipeline.engine.manifest.name
        return derained.data


def _open_engine() -> Engine:
    return Engine(settings.model, settings.provider, settings.threads, settings.tile_pixels)


def _guard(service: bentoml.Service[DerainService]) -> None:
    """Middleware around the service; the first one is the outermost."""
    service.add_asgi_middleware(ProblemResponses)
    service.add_asgi_middleware(Uploads, max_bytes=settings.max_bytes)


_guard(DerainService)
