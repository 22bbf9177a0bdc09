"""What is measured. BentoML's own request metrics are off: they have a series for each path that is tried."""

import os
import resource
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from derain.inference.resources import usable_memory

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SHARES = tuple(tenth / 10 for tenth in range(1, 11))
_TILES = (1, 2, 3, 4, 6, 8, 12, 16, 32)
_LEVELS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)  # of 255

REQUESTS = Counter("derain_http_requests_total", "Requests answered", ["route", "method", "status"])
REQUEST_SECONDS = Histogram(
    "derain_http_request_seconds", "From the first byte in to the last one out", ["route"], buckets=_SECONDS
)
RECEIVED = Counter("derain_received_bytes_total", "Bytes of request bodies")
SENT = Counter("derain_sent_bytes_total", "Bytes of response bodies")

STAGE_SECONDS = Histogram(
    "derain_stage_seconds", "Time an image spends in a stage", ["stage"], buckets=_SECONDS
)
RUN_TILES = Histogram("derain_run_tiles", "Tiles in one run of the network", buckets=_TILES)
PIXELS = Counter("derain_pixels_total", "Pixels derained", ["model"])
EXAMINED = Counter(
    "derain_examined_total", "Images examined, by whether rain was found in them", ["model", "rain"]
)
REJECTED = Counter(
    "derain_rejected_total", "Requests, and files of batches, that were refused, by reason", ["reason"]
)

# Of all workers together.
QUEUE_IMAGES = Gauge("derain_queue_images", "Images waiting", multiprocess_mode="livesum")
QUEUE_PIXELS = Gauge("derain_queue_pixels", "Pixels waiting", multiprocess_mode="livesum")
QUEUE_LIMIT_IMAGES = Gauge("derain_queue_limit_images", "Images that may wait", multiprocess_mode="livesum")
QUEUE_LIMIT_PIXELS = Gauge("derain_queue_limit_pixels", "Pixels that may wait", multiprocess_mode="livesum")
WORK_IMAGES = Gauge("derain_work_images", "Images in work", multiprocess_mode="livesum")
WORK_PIXELS = Gauge("derain_work_pixels", "Pixels in work", multiprocess_mode="livesum")
BUFFERED = Gauge("derain_buffered_bytes", "Bytes of uploads in memory", multiprocess_mode="livesum")
RESIDENT = Gauge("derain_resident_bytes", "Memory of the workers", multiprocess_mode="livesum")
MEMORY_LIMIT = Gauge(
    "derain_memory_limit_bytes", "Memory of the machine or the container", multiprocess_mode="livemax"
)

MODEL = Gauge(
    "derain_model_info",
    "1 for the model served",
    ["model", "sha256", "provider"],
    multiprocess_mode="livemax",
)
RELOADS = Counter("derain_model_reloads_total", "Reloads asked for, by outcome", ["outcome"])

# Of the generalisation monitor, see derain/monitor.py.
RESIDUAL_RAIN_PROBABILITY = Histogram(
    "derain_residual_rain_probability", "Probability that rain was left, by key", ["key"], buckets=_SHARES
)
REMOVED_ENERGY = Histogram("derain_removed_energy", "RMS of what was taken away, of 255", buckets=_LEVELS)
STREAK_LIKENESS = Histogram(
    "derain_streak_likeness", "How much what was taken away runs in one direction", buckets=_SHARES
)
RESIDUAL_RAIN_LINES = Histogram(
    "derain_residual_rain_lines", "RMS of the lines that are left, of 255", buckets=_LEVELS
)


def exposition() -> bytes:
    """All of it in Prometheus's text format, of all workers."""
    RESIDENT.set(_resident_bytes())
    MEMORY_LIMIT.set(usable_memory())
    registry = REGISTRY
    if (folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR")) is not None:
        _forget_dead_workers(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_dead_workers(folder: Path) -> None:
    """What they had in work and in memory: one that was killed has not said so itself."""
    for path in folder.glob("gauge_live*_*.db"):
        process = int(path.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:  # alive, and somebody else's
            pass


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not on Linux: the most there has been, which macOS gives in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
