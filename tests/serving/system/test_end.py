"""A service that is told to end delivers what is in work, and sends the traces it has to a receiver."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from derain.images.formats import JPEG, PNG
from derain.images.plain import encode
from tests.conftest import noise, scene, write_model
from tests.receiver import Sent, receiving
from tests.serving.server import END_S, Server, serving, until

pytestmark = pytest.mark.slow

PARENT = "00f067aa0ba902b7"
ALONE, BATCH, UNWANTED = (f"4bf92f3577b34da6a3ce929d0e0e473{digit}" for digit in "678")
STAGES = ["queue", "decode", "infer", "monitor", "encode"]
RAINY = encode(noise(40, 60), PNG)
LARGE = encode(scene(900, 900), JPEG)  # keeps the slow model busy for half a second or so


@dataclass(frozen=True)
class Ended:
    """What is left of a service that was told to end with an image in work."""

    server: Server
    last: httpx.Response
    spans: list[Span]  # in the order in which they began

    def of_trace(self, trace: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id.hex() == trace]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("end")
    model = write_model(folder / "models" / "slow", channels=64)
    with receiving() as (address, came):
        with serving(model, folder, threads=1, trace_endpoint=f"{address}/v1/traces") as server:
            post(server, ALONE, "/v1/derain", content=RAINY)
            files = [("images", (f"{number}.png", RAINY)) for number in range(2)]
            post(server, BATCH, "/v1/derain/batch", files=files)
            post(server, UNWANTED, "/v1/derain", flag="00", content=RAINY)
            with a_caller_who_is_gone(server):
                last = told_to_end_in_the_middle(server)
        return Ended(server, last, spans_of(came))


def post(server: Server, trace: str, path: str, flag: str = "01", **body: Any) -> None:
    headers = {"traceparent": f"00-{trace}-{PARENT}-{flag}"}
    with server.client() as client:
        client.post(path, headers=headers, **body).raise_for_status()


@contextmanager
def a_caller_who_is_gone(server: Server) -> Iterator[None]:
    """Who hangs up in the middle leaves nothing behind that would have to be waited for."""
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.sendall(b"POST /v1/derain HTTP/1.1\r\nHost: rain\r\nContent-Length: 1000\r\n\r\nhalf")
    yield


def told_to_end_in_the_middle(server: Server) -> httpx.Response:
    with ThreadPoolExecutor(1) as caller, server.client() as client, server.client() as other:
        answer = caller.submit(client.post, "/v1/derain", content=LARGE)
        until(lambda: "derain_work_images 1.0" in other.get("/metrics").text)
        server.process.terminate()
        answer.result()
    server.process.wait(END_S / 2)
    return answer.result()


def spans_of(came: SimpleQueue[Sent]) -> list[Span]:
    spans: list[Span] = []
    while not came.empty():
        for resource in ExportTraceServiceRequest.FromString(came.get().body).resource_spans:
            for scope in resource.scope_spans:
                spans += scope.spans
    return sorted(spans, key=lambda span: span.start_time_unix_nano)


def test_an_image_in_work_is_delivered(ended: Ended) -> None:
    assert ended.last.status_code == 200
    assert "Traceback" not in ended.server.said()


def test_nobody_listens_any_more(ended: Ended) -> None:
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", ended.server.port)):
        pass


def assert_within(span: Span, outer: Span) -> None:
    assert span.parent_span_id == outer.span_id
    assert outer.start_time_unix_nano <= span.start_time_unix_nano
    assert span.end_time_unix_nano <= outer.end_time_unix_nano


def test_a_trace_goes_on_in_the_service_with_a_span_for_each_stage(ended: Ended) -> None:
    spans = ended.of_trace(ALONE)
    (request,) = [span for span in spans if span.parent_span_id.hex() == PARENT]
    assert request.name == "POST /v1/derain"
    stages = {span.name: span for span in spans if span.name in STAGES}
    assert set(stages) == set(STAGES)
    for span in stages.values():
        assert_within(span, request)
    # The image is looked at while it is encoded.
    for before, after in [*pairwise(["queue", "decode", "infer", "encode"]), ("infer", "monitor")]:
        assert stages[before].end_time_unix_nano <= stages[after].start_time_unix_nano


def test_each_image_of_a_batch_has_spans(ended: Ended) -> None:
    spans = ended.of_trace(BATCH)
    (request,) = [span for span in spans if span.parent_span_id.hex() == PARENT]
    stages = [span for span in spans if span.name in STAGES]
    assert sorted(span.name for span in stages) == sorted(STAGES * 2)
    for span in stages:
        assert_within(span, request)


def test_a_trace_that_its_caller_does_not_want_is_not_sent(ended: Ended) -> None:
    assert ended.of_trace(UNWANTED) == []
