"""Traces reach a collector: a receiver of OTLP over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from derain.image import PNG, encode
from tests.conftest import noise
from tests.receiver import Sent, receiving
from tests.serving.server import serving

pytestmark = pytest.mark.slow

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def spans_of(came: SimpleQueue[Sent]) -> Iterator[Span]:
    """As they come, for ever."""
    while True:
        for resource in ExportTraceServiceRequest.FromString(came.get(timeout=60).body).resource_spans:
            for scope in resource.scope_spans:
                yield from scope.spans


def test_a_trace_goes_on_in_the_service(model: Path, tmp_path: Path) -> None:
    with receiving() as (address, came):
        endpoint = f"{address}/v1/traces"
        with serving(model, tmp_path, trace_endpoint=endpoint) as server, server.client() as client:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            client.post("/v1/derain", content=encode(noise(40, 60), PNG), headers=headers).raise_for_status()
            ours = (span for span in spans_of(came) if span.trace_id.hex() == TRACE)
            request = next(span for span in ours if span.parent_span_id.hex() == PARENT)
            assert request.name.startswith("POST")
