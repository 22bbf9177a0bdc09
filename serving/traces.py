"""Traces: a span for each stage of a picture, under that of its request."""

from contextlib import AbstractContextManager, nullcontext

from bentoml._internal.configuration.containers import BentoMLContainer
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext

from serving.settings import Settings

_TRACER = trace.get_tracer("derain")  # does nothing until there is a provider


def set_up_traces(settings: Settings) -> TracerProvider | None:
    """Makes everybody's what BentoML gives to its own middleware alone; None where nothing is traced."""
    if settings.trace_endpoint is None:
        return None
    provider: TracerProvider = BentoMLContainer.tracer_provider.get()
    trace.set_tracer_provider(provider)
    return provider


def current_span() -> SpanContext:
    return trace.get_current_span().get_span_context()


def stage_span(stage: str, request: SpanContext) -> AbstractContextManager[object]:
    """Of a stage, wherever it runs: threads and tasks of a picture have no context of the request."""
    if not request.trace_flags.sampled:
        return nullcontext()
    around = trace.set_span_in_context(NonRecordingSpan(request), Context())
    return _TRACER.start_as_current_span(stage, around, record_exception=False)
