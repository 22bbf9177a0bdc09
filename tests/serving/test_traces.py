"""Traces reach a collector: a receiver of OTLP over HTTP."""

from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from derain.images.formats import PNG
from derain.images.plain import encode
from tests.conftest import free_port, noise
from tests.receiver import Sent, receiving
from tests.serving.server import serving

pytestmark = pytest.mark.slow

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


STAGES = ["queue", "decode", "infer", "monitor", "encode"]
RAINY = encode(noise(40, 60), PNG)


def spans_of_our_trace(came: SimpleQueue[Sent]) -> list[Span]:
    """All that came, in the order in which they began."""
    spans = []
    while not came.empty():
        for resource in ExportTraceServiceRequest.FromString(came.get().body).resource_spans:
            for scope in resource.scope_spans:
                spans += [span for span in scope.spans if span.trace_id.hex() == TRACE]
    return sorted(spans, key=lambda span: span.start_time_unix_nano)


def traced(model: Path, folder: Path, path: str, flag: str = "01", **picture: Any) -> list[Span]:
    """Of one request; the service is told to end at once, and sends before that what it has."""
    with receiving() as (address, came):
        with (
            serving(model, folder, trace_endpoint=f"{address}/v1/traces") as server,
            server.client() as client,
        ):
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flag}"}
            client.post(path, headers=headers, **picture).raise_for_status()
        return spans_of_our_trace(came)


def assert_within(span: Span, outer: Span) -> None:
    assert span.parent_span_id == outer.span_id
    assert outer.start_time_unix_nano <= span.start_time_unix_nano
    assert span.end_time_unix_nano <= outer.end_time_unix_nano


def test_a_trace_goes_on_in_the_service_with_a_span_for_each_stage(model: Path, tmp_path: Path) -> None:
    spans = traced(model, tmp_path, "/v1/derain", content=RAINY)
    (request,) = [span for span in spans if span.parent_span_id.hex() == PARENT]
    assert request.name == "POST /v1/derain"
    stages = {span.name: span for span in spans if span.name in STAGES}
    assert set(stages) == set(STAGES)
    for span in stages.values():
        assert_within(span, request)
    # The picture is looked at while it is encoded.
    for before, after in [*pairwise(["queue", "decode", "infer", "encode"]), ("infer", "monitor")]:
        assert stages[before].end_time_unix_nano <= stages[after].start_time_unix_nano


def test_each_picture_of_a_batch_has_spans(model: Path, tmp_path: Path) -> None:
    files = [("images", (f"{number}.png", RAINY)) for number in range(2)]
    spans = traced(model, tmp_path, "/v1/derain/batch", files=files)
    (request,) = [span for span in spans if span.parent_span_id.hex() == PARENT]
    stages = [span for span in spans if span.name in STAGES]
    assert sorted(span.name for span in stages) == sorted(STAGES * 2)
    for span in stages:
        assert_within(span, request)


def test_a_trace_that_its_caller_does_not_want_is_not_sent(model: Path, tmp_path: Path) -> None:
    assert traced(model, tmp_path, "/v1/derain", flag="00", content=RAINY) == []


def test_a_collector_that_is_not_there_keeps_nobody_waiting(model: Path, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}/v1/traces"
    with serving(model, tmp_path, trace_endpoint=endpoint) as server, server.client() as client:
        client.post("/v1/derain", content=RAINY).raise_for_status()
    assert server.process.returncode == 0
