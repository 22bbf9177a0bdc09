"""One request, or one image of a batch: what becomes known of it from the first byte to the last."""

import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.trace import SpanContext

from serving.operations.metrics import STAGE_SECONDS
from serving.operations.tracing import current_span, stage_span

_KEY = "derain.record"

# The stage of an image and, during inference, its pixels: done and in total, else 0 and 0.
NoteProgress = Callable[[str, int, int], object]


@dataclass
class RequestRecord:
    """Kept in the scope of the request, where all that handle it find it."""

    id: str
    key: str = "none"  # the name of the caller's
    stages_ms: dict[str, float] = field(default_factory=dict)  # in the order they ended
    facts: dict[str, Any] = field(default_factory=dict)  # for the log
    span: SpanContext = field(default_factory=current_span)  # the request's
    charge: Callable[[int], None] = lambda images: None  # images besides the first against the key's rate
    note_progress: NoteProgress | None = None  # where somebody watches; from any thread, returns at once

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Reported, traced and, where it ends well, measured."""
        if self.note_progress is not None:
            self.note_progress(name, 0, 0)
        started = time.perf_counter()
        with stage_span(name, self.span):
            yield
        seconds = time.perf_counter() - started
        STAGE_SECONDS.labels(name).observe(seconds)
        self.stages_ms[name] = 1000 * seconds

    def keep_in(self, scope: MutableMapping[str, Any]) -> None:
        scope[_KEY] = self


def record_of(scope: MutableMapping[str, Any]) -> RequestRecord:
    record = scope[_KEY]
    assert isinstance(record, RequestRecord)
    return record
