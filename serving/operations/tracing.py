"""Traces: which one a request belongs to, and a span for each stage, under that of its request."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_HEADERS = TraceContextTextMapPropagator()
_TRACER = trace.get_tracer("derain")  # does nothing until there is a provider


@contextmanager
def in_a_trace(headers: Mapping[str, str]) -> Iterator[None]:
    """The one that BentoML has begun or, without, the caller's; where there is neither, one of our own."""
    if current_span().is_valid:
        yield
        return
    around = _HEADERS.extract(dict(headers))
    if not trace.get_current_span(around).get_span_context().is_valid:
        number = uuid.uuid4().int
        own = SpanContext(trace_id=number, span_id=number >> 64, is_remote=False)
        around = trace.set_span_in_context(NonRecordingSpan(own))
    token = context.attach(around)
    try:
        yield
    finally:
        context.detach(token)


def current_span() -> SpanContext:
    return trace.get_current_span().get_span_context()


def stage_span(stage: str, request: SpanContext) -> AbstractContextManager[object]:
    """Of a stage, wherever it runs: threads and tasks of an image have no context of the request."""
    if not request.trace_flags.sampled:
        return nullcontext()
    around = trace.set_span_in_context(NonRecordingSpan(request), Context())
    return _TRACER.start_as_current_span(stage, around, record_exception=False)
