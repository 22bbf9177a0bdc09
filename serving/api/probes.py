"""What orchestrators and Prometheus ask: is it alive, is it ready, what was measured."""

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from serving.api.services import services_of
from serving.errors import NotReadyError
from serving.operations.metrics import exposition

_ALIVE_WITHIN_S = 5.0


async def probe(request: Request) -> Response:
    """Of the public port's event loop, whichever port is asked; raises NotReadyError.

    Whoever can answer is ready: nothing is answered before the models are there.
    """
    loop = services_of(request).loop
    if loop is not asyncio.get_running_loop() and not await asyncio.to_thread(_answers, loop):
        raise NotReadyError("The service does not answer.")
    return PlainTextResponse("\n")


async def is_live(_request: Request) -> Response:
    return JSONResponse({"live": True})


async def is_ready(_request: Request) -> Response:
    return JSONResponse({"ready": True})


async def metrics(_request: Request) -> Response:
    text = await asyncio.to_thread(exposition)
    return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})


def _answers(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether it does; of a thread other than its own."""
    answer = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)
    try:
        answer.result(timeout=_ALIVE_WITHIN_S)
    except TimeoutError:
        return False
    return True
