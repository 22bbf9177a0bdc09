"""Progress reports and then the image, in one answer."""

import asyncio
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PilImage
from starlette.types import ASGIApp

from serving.exchange import Exchanges
from serving.metrics import REJECTED, WORK_PICTURES
from serving.models import Models
from serving.pipeline import Pipeline
from serving.progress import ROUTE, Progress
from serving.settings import Settings
from serving.uploads import Buffer, Limits
from tests.conftest import noise, send, write_model
from tests.derain.inference.test_tile_batcher import until
from tests.serving.server import assert_problem

TILES = 4


def png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    PilImage.fromarray(noise(height, width)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Service:
    pipeline: Pipeline
    buffer: Buffer
    app: ASGIApp

    def post(self, content: bytes, query: str = "", **request: Any) -> httpx.Response:
        return send(self.app, "POST", ROUTE + query, content=content, **request)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = write_model(tmp_path_factory.mktemp("progress") / "tiny", channels=32)
    settings = Settings(
        model=folder, models=folder.parent, threads=1, tile_pixels=64 * 64, parallel=1, queue=0, timeout_s=60
    )
    models = Models(settings)
    buffer = Buffer(10_000_000)
    pipeline = Pipeline(models, settings)
    progress = Progress(pipeline, Limits(1_000_000, timeout_s=5), buffer)
    yield Service(pipeline, buffer, Exchanges(progress, [ROUTE]))
    models.close()


def parts_of(answer: httpx.Response) -> list[Message]:
    assert answer.status_code == 200, answer.text
    head = f"content-type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + answer.content).get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]


def body_of(part: Message) -> bytes:
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    return body


def test_reports_come_in_order_and_the_image_last(service: Service) -> None:
    picture = png(400, 400)
    *reports, last = parts_of(service.post(picture))
    said = [json.loads(body_of(report)) for report in reports]
    assert all(report.get_content_type() == "application/json" for report in reports)
    stages = [word["stage"] for word in said]
    order = {"queue": 0, "decode": 1, "infer": 2, "monitor": 3, "encode": 3}  # the last two at the same time
    assert stages == sorted(stages, key=order.__getitem__)
    done = [word["done"] for word in said if "done" in word]
    assert done == sorted(done)
    (tiles,) = {word["tiles"] for word in said if "tiles" in word}
    assert tiles >= TILES
    assert len(done) > 2  # of several at once only the latest is sent

    # The image and its headers are those of an answer without reports.
    assert last.get_content_type() == "image/png"
    assert last["x-derain-model"] == "tiny"
    assert "infer;dur=" in last["server-timing"]
    with service.pipeline.models.use(None) as served:
        expected = served.engine.derain(noise(400, 400))
    body = body_of(last)
    assert int(last["content-length"]) == len(body)
    assert np.array_equal(np.asarray(PilImage.open(io.BytesIO(body))), expected)


def test_it_takes_the_parameters_and_forms_too(service: Service) -> None:
    files = {"image": ("a.png", png(20, 30), "image/png")}
    answer = send(service.app, "POST", f"{ROUTE}?format=jpeg&strength=0", files=files)
    assert parts_of(answer)[-1].get_content_type() == "image/jpeg"


@pytest.mark.parametrize(
    ("content", "query", "status", "words"),
    [
        (b"", "", 400, "the body is empty"),
        (b"rain" * 10, "", 415, "not an image in a known format"),
        (png(8, 8), "?strength=2", 400, "less than or equal to 1"),
        (png(8, 8), "?model=best", 404, "no model 'best'"),
        (b"x" * 1_000_001, "", 413, "at most 1,000,000 bytes"),
    ],
)
def test_what_is_refused_before_the_work_has_a_status(
    service: Service, content: bytes, query: str, status: int, words: str
) -> None:
    assert words in assert_problem(service.post(content, query), status)


def test_what_goes_wrong_in_the_work_is_the_last_part(service: Service) -> None:
    damaged = png(150, 120)[:2000]
    *reports, last = parts_of(service.post(damaged))
    assert json.loads(body_of(reports[-1]))["stage"] == "decode"
    assert last.get_content_type() == "application/problem+json"
    problem = json.loads(body_of(last))
    assert problem["status"] == 400
    assert "damaged or cut short" in problem["detail"]


async def _call(app: ASGIApp, body: bytes, hang_up_after: int) -> list[dict[str, Any]]:
    """What is sent to a caller who hangs up after so many reports of tiles."""
    messages: list[dict[str, Any]] = []
    enough = asyncio.Event()
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await enough.wait()
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def take(message: Any) -> None:
        messages.append(message)
        if sum(b'"tiles"' in each.get("body", b"") for each in messages) >= hang_up_after:
            enough.set()

    scope = {"type": "http", "method": "POST", "path": ROUTE, "query_string": b"", "headers": []}
    await app(scope, receive, take)
    await asyncio.to_thread(until, lambda: not WORK_PICTURES._value.get())  # threads end after their caller
    return messages


def test_who_hangs_up_ends_the_work(service: Service) -> None:
    hung_up = REJECTED.labels("HungUpError")
    before = hung_up._value.get()
    messages = asyncio.run(_call(service.app, png(500, 500), hang_up_after=3))
    assert [message["status"] for message in messages if "status" in message] == [200]
    sent = b"".join(message.get("body", b"") for message in messages)
    tiles = [json.loads(b"{" + line.split(b"{")[1]) for line in sent.split(b"\r\n") if b'"tiles"' in line]
    assert tiles[-1]["done"] < tiles[-1]["tiles"]
    assert b"image/png" not in sent
    assert hung_up._value.get() == before + 1
    assert service.buffer._taken == 0


def test_a_busy_service_says_so_by_its_status(service: Service) -> None:
    """Before any report: a caller who only looks at the status knows when to come again."""

    async def crowd() -> httpx.Response:
        first = asyncio.create_task(_call(service.app, png(500, 500), hang_up_after=4))
        await asyncio.to_thread(until, lambda: bool(WORK_PICTURES._value.get()))
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post(ROUTE, content=png(20, 20))
        await first
        return answer

    answer = asyncio.run(crowd())
    assert "try again in a moment" in assert_problem(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1


def test_an_image_at_strength_0_is_not_looked_at(service: Service) -> None:
    """It was asked for as it is: that rain is left in it is no news for the monitor."""
    assert "x-derain-residual-rain" not in parts_of(service.post(png(40, 40), "?strength=0"))[-1]
    assert "x-derain-residual-rain" in parts_of(service.post(png(40, 40)))[-1]


def test_who_watches_hears_of_smaller_tiles(tmp_path: Path) -> None:
    """A tile as large as is best for speed takes many seconds of a core: nobody would see it move."""
    folder = write_model(tmp_path / "tiny")
    models = Models(Settings(model=folder, models=tmp_path, threads=1, tile_pixels=8 * 1024**2))
    pipeline = Pipeline(models, Settings(threads=1))
    app = Exchanges(Progress(pipeline, Limits(20_000_000, timeout_s=5), Buffer(20_000_000)), [ROUTE])
    file = io.BytesIO()
    PilImage.new("RGB", (2400, 1600)).save(file, "PNG")
    *reports, _ = parts_of(send(app, "POST", ROUTE, content=file.getvalue()))
    models.close()
    (tiles,) = {said["tiles"] for report in reports if "tiles" in (said := json.loads(body_of(report)))}
    assert tiles > 1
