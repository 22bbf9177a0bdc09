"""What is measured, beside BentoML's own request metrics."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

STAGE_SECONDS = Histogram(
    "derain_stage_seconds", "Time a picture spends in a stage", ["stage"], buckets=_SECONDS
)
PIXELS = Counter("derain_pixels_total", "Pixels derained")
REJECTED = Counter("derain_rejected_total", "Pictures not derained, by reason", ["reason"])
WAITING = Gauge("derain_waiting", "Pictures waiting for their turn", multiprocess_mode="livesum")
IN_WORK = Gauge("derain_in_work", "Pictures being worked on", multiprocess_mode="livesum")
MODEL = Gauge(
    "derain_model_info",
    "1 for the model served",
    ["model", "sha256", "provider"],
    multiprocess_mode="livemax",
)
