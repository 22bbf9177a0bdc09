"""Traces reach a collector: a receiver of OTLP over HTTP, as small as can be."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from derain.image import PNG, encode
from tests.conftest import noise
from tests.serving.server import serving

pytestmark = pytest.mark.slow

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def collector() -> Iterator[tuple[str, "Queue[Span]"]]:
    spans: Queue[Span] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                raise AssertionError("not expected to be compressed")
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        spans.put(span)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
        finally:
            server.shutdown()
            thread.join()


def test_a_trace_goes_on_in_the_service(model: Path, tmp_path: Path) -> None:
    with collector() as (endpoint, spans):
        with serving(model, tmp_path, trace_endpoint=endpoint) as server, server.client() as client:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            client.post("/v1/derain", content=encode(noise(40, 60), PNG), headers=headers).raise_for_status()
            while (span := spans.get(timeout=60)).trace_id.hex() != TRACE:
                pass
        assert span.name.startswith("POST")
        names = {span.parent_span_id.hex()}
        while span.parent_span_id.hex() != PARENT:
            span = spans.get(timeout=60)
            names.add(span.parent_span_id.hex())
        assert PARENT in names
