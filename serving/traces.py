"""Which trace a request belongs to, for the log, where BentoML traces nothing."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

_HEADERS = TraceContextTextMapPropagator()


@contextmanager
def in_a_trace(headers: Headers) -> Iterator[None]:
    """The one that BentoML has begun or, without, the caller's; where there is neither, one of our own."""
    if _is_valid(trace.get_current_span()):
        yield
        return
    around = _HEADERS.extract(dict(headers))
    if not _is_valid(trace.get_current_span(around)):
        number = uuid.uuid4().int
        own = SpanContext(trace_id=number, span_id=number >> 64, is_remote=False)
        around = trace.set_span_in_context(NonRecordingSpan(own))
    token = context.attach(around)
    try:
        yield
    finally:
        context.detach(token)


def _is_valid(span: trace.Span) -> bool:
    return span.get_span_context().is_valid
