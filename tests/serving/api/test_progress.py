"""Progress reports and then the image, in one answer."""

import asyncio
import io
import json
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PilImage
from starlette.types import ASGIApp

from serving.operations.metrics import REJECTED, WORK_IMAGES
from tests.conftest import noise, write_model
from tests.serving.app import App, call, running
from tests.serving.server import assert_problem, until

ROUTE = "/v1/derain/progress"


def png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    PilImage.fromarray(noise(height, width)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = write_model(tmp_path_factory.mktemp("progress") / "tiny", channels=32)
    limits = {"max_bytes": 1_000_000, "parallel": 1, "queue": 0, "timeout_s": 60, "upload_timeout_s": 5}
    with running(folder, threads=1, tile_pixels=64 * 64, **limits) as service:
        yield service


def post(service: App, content: bytes, query: str = "") -> httpx.Response:
    with service.client() as client:
        return client.post(ROUTE + query, content=content)


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


def test_reports_come_in_order_and_the_image_last(service: App) -> None:
    image = png(400, 400)
    *reports, last = parts_of(post(service, image))
    said = [json.loads(body_of(report)) for report in reports]
    assert all(report.get_content_type() == "application/json" for report in reports)
    stages = [word["stage"] for word in said]
    order = {"queue": 0, "decode": 1, "infer": 2, "monitor": 3, "encode": 3}  # the last two at the same time
    assert stages == sorted(stages, key=order.__getitem__)
    done = [word["done"] for word in said if "done" in word]
    assert done == sorted(done)
    assert {word["of"] for word in said if "of" in word} == {400 * 400}
    assert len(done) > 2  # of several at once only the latest is sent

    # The image and its headers are those of an answer without reports.
    assert last.get_content_type() == "image/png"
    assert last["x-derain-model"] == "tiny"
    assert "infer;dur=" in last["server-timing"]
    with service.services.models.use(None) as served:
        expected = served.engine.derain(noise(400, 400))
    body = body_of(last)
    assert int(last["content-length"]) == len(body)
    assert np.array_equal(np.asarray(PilImage.open(io.BytesIO(body))), expected)


def test_it_takes_the_parameters_and_forms_too(service: App) -> None:
    files = {"image": ("a.png", png(20, 30), "image/png")}
    with service.client() as client:
        answer = client.post(f"{ROUTE}?format=jpeg&strength=0", files=files)
    assert parts_of(answer)[-1].get_content_type() == "image/jpeg"


@pytest.mark.parametrize("accept", ["multipart/mixed", "image/webp;q=0.5, Multipart/Mixed"])
def test_who_accepts_the_answer_that_is_described_gets_it(service: App, accept: str) -> None:
    with service.client() as client:
        answer = client.post(ROUTE, content=png(20, 30), headers={"accept": accept})
    assert parts_of(answer)[-1].get_content_type() == "image/png"


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
    service: App, content: bytes, query: str, status: int, words: str
) -> None:
    assert words in assert_problem(post(service, content, query), status)


def test_what_goes_wrong_in_the_work_is_the_last_part(service: App) -> None:
    damaged = png(150, 120)[:2000]
    *reports, last = parts_of(post(service, damaged))
    assert json.loads(body_of(reports[-1]))["stage"] == "decode"
    assert last.get_content_type() == "application/problem+json"
    problem = json.loads(body_of(last))
    assert problem["status"] == 400
    assert "damaged or cut short" in problem["detail"]


async def _call(app: ASGIApp, body: bytes, disconnect_after: int) -> list[dict[str, Any]]:
    """What is sent to a caller who disconnects after so many reports of pixels."""
    enough, reports = asyncio.Event(), 0

    def note(message: dict[str, Any]) -> None:
        nonlocal reports
        reports += b'"of"' in message.get("body", b"")
        if reports >= disconnect_after:
            enough.set()

    messages = await call(app, ROUTE, body, enough, note)
    await asyncio.to_thread(until, lambda: not WORK_IMAGES._value.get())  # threads end after their caller
    return messages


def test_who_disconnects_ends_the_work(service: App) -> None:
    disconnected = REJECTED.labels("DisconnectedError")
    before = disconnected._value.get()
    messages = service.run(_call(service.app, png(500, 500), disconnect_after=3))
    assert [message["status"] for message in messages if "status" in message] == [200]
    sent = b"".join(message.get("body", b"") for message in messages)
    pixels = [json.loads(b"{" + line.split(b"{")[1]) for line in sent.split(b"\r\n") if b'"of"' in line]
    assert pixels[-1]["done"] < pixels[-1]["of"]
    assert b"image/png" not in sent
    assert disconnected._value.get() == before + 1
    assert service.services.upload_buffer._taken == 0


def test_a_busy_service_says_so_by_its_status(service: App) -> None:
    """Before any report: a caller who only looks at the status knows when to come again."""

    async def crowd() -> httpx.Response:
        gone, begun = asyncio.Event(), asyncio.Event()

        def note(message: dict[str, Any]) -> None:
            if b'"of"' in message.get("body", b""):
                begun.set()

        first = asyncio.create_task(call(service.app, ROUTE, png(500, 500), gone, note))
        await begun.wait()
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post(ROUTE, content=png(20, 20))
        gone.set()
        await first
        await asyncio.to_thread(until, lambda: not WORK_IMAGES._value.get())  # threads end after their caller
        return answer

    answer = service.run(crowd())
    assert "try again in a moment" in assert_problem(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1


def test_an_image_at_strength_0_is_not_looked_at(service: App) -> None:
    """It was asked for as it is: that rain is left in it is no news for the monitor."""
    assert "x-derain-residual-rain" not in parts_of(post(service, png(40, 40), "?strength=0"))[-1]
    assert "x-derain-residual-rain" in parts_of(post(service, png(40, 40)))[-1]


@pytest.mark.slow
def test_who_watches_hears_of_smaller_tiles(tmp_path: Path) -> None:
    """A tile as large as is best for speed takes many seconds of a core: nobody would see it move."""
    file = io.BytesIO()
    PilImage.new("RGB", (2400, 1600)).save(file, "PNG")
    with running(write_model(tmp_path / "tiny"), threads=1, tile_pixels=8 * 1024**2) as service:
        *reports, _ = parts_of(post(service, file.getvalue()))
    done = [json.loads(body_of(report)).get("done", 0) for report in reports]
    assert any(0 < pixels < 2400 * 1600 for pixels in done)
