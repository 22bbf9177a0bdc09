"""Log lines: JSON, one an event; never anything of an image's content."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from opentelemetry import trace

_LOGGERS = ("bentoml", "derain", "uvicorn")


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace_id := trace.get_current_span().get_span_context().trace_id:
            line["trace_id"] = trace.format_trace_id(trace_id)
        line |= getattr(record, "request", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(levelname)s] %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if request := getattr(record, "request", None):
            line += " " + " ".join(f"{name}={value}" for name, value in request.items())
        return line


def set_up_logs(form: Literal["json", "text"]) -> None:
    """Once BentoML has set up its own, in a worker or in the process around it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.getLogger().handlers = [handler]
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)
    # Callers' mistakes, which are answered in words.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # Says at every request what our own line says as well.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
