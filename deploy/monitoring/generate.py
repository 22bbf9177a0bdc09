"""Writes what others read: the Grafana dashboard, and the rules as the Prometheus operator has them.

`make monitoring`; a test compares the files with what this gives.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).parent
RULES = _HERE / "rules.yaml"
DASHBOARD = _HERE / "dashboard.json"
OPERATOR_RULES = _HERE.parent / "base" / "prometheusrule.yaml"

_COLUMNS = 24  # of Grafana's grid
_HEIGHT = 8
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# Of the service, on the replicas that the reader has chosen.
_OURS = 'job="derain", instance=~"$instance"'


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    queries: tuple[Query, ...]
    description: str = ""


def _rate(metric: str, more: str = "") -> str:
    return f"rate({metric}{{{_OURS}{more}}}[$__rate_interval])"


def _quantiles(metric: str, more: str = "", by: str = "") -> tuple[Query, ...]:
    return tuple(
        Query(
            f"histogram_quantile({quantile}, sum by (le{by}) ({_rate(f'{metric}_bucket', more)}))",
            f"{'{{' + by.strip(', ') + '}} ' if by else ''}{name}",
        )
        for quantile, name in ((0.5, "median"), (0.95, "95%"), (0.99, "99%"))
    )


def _mean(metric: str) -> Query:
    return Query(f"sum({_rate(f'{metric}_sum')}) / sum({_rate(f'{metric}_count')})", "mean")


_OF_IMAGES = ', route="/v1/derain"'

SECTIONS: dict[str, tuple[Panel, ...]] = {
    "Is it well?": (
        Panel(
            "Requests",
            "reqps",
            (Query(f"sum by (status) ({_rate('derain_http_requests_total')})", "{{status}}"),),
        ),
        Panel(
            "Errors of ours",
            "percentunit",
            (
                Query('derain:errors:ratio_rate5m{job="derain"}', "5 minutes"),
                Query('derain:errors:ratio_rate1h{job="derain"}', "an hour"),
                Query('derain:errors:ratio_rate6h{job="derain"}', "six hours"),
            ),
            "Share of the requests to /v1/derain that end in 5xx; the objective is below 0.5%.",
        ),
        Panel(
            "Slow answers",
            "percentunit",
            (
                Query('derain:slow:ratio_rate5m{job="derain"}', "5 minutes"),
                Query('derain:slow:ratio_rate1h{job="derain"}', "an hour"),
                Query('derain:slow:ratio_rate6h{job="derain"}', "six hours"),
            ),
            "Share of the requests to /v1/derain that take more than 10 s; the objective is below 5%.",
        ),
        Panel("Time to answer", "s", _quantiles("derain_http_request_seconds", _OF_IMAGES)),
    ),
    "How busy is it?": (
        Panel(
            "Images",
            "short",
            (
                Query(f"sum(derain_work_images{{{_OURS}}})", "in work"),
                Query(f"sum(derain_queue_images{{{_OURS}}})", "waiting"),
                Query(f"sum(derain_queue_limit_images{{{_OURS}}})", "may wait"),
            ),
        ),
        Panel(
            "Pixels",
            "short",
            (
                Query(f"sum(derain_work_pixels{{{_OURS}}})", "in work"),
                Query(f"sum(derain_queue_pixels{{{_OURS}}})", "waiting"),
                Query(f"sum(derain_queue_limit_pixels{{{_OURS}}})", "may wait"),
            ),
        ),
        Panel(
            "Fullest queue",
            "percentunit",
            (
                Query(
                    f"max(derain_queue_images{{{_OURS}}} / derain_queue_limit_images{{{_OURS}}})",
                    "of images",
                ),
                Query(
                    f"max(derain_queue_pixels{{{_OURS}}} / derain_queue_limit_pixels{{{_OURS}}})", "of pixels"
                ),
            ),
            "Of the replica where it is fullest; at 100% callers are turned away.",
        ),
        Panel(
            "Rejected", "reqps", (Query(f"sum by (reason) ({_rate('derain_rejected_total')})", "{{reason}}"),)
        ),
    ),
    "Where does the time go?": (
        Panel("Stages, 95%", "s", (_quantiles("derain_stage_seconds", by=", stage")[1],)),
        Panel(
            "Tiles a run",
            "short",
            (_mean("derain_run_tiles"),),
            "Tiles in one run of the network; 1 on the CPU, where batches gain nothing.",
        ),
        Panel(
            "Pixels a second",
            "short",
            (Query(f"sum by (model) ({_rate('derain_pixels_total')})", "{{model}}"),),
        ),
        Panel(
            "Traffic",
            "Bps",
            (
                Query(f"sum({_rate('derain_received_bytes_total')})", "received"),
                Query(f"sum({_rate('derain_sent_bytes_total')})", "sent"),
            ),
        ),
        Panel(
            "Memory, of the limit",
            "percentunit",
            (
                Query(
                    f"derain_resident_bytes{{{_OURS}}} / derain_memory_limit_bytes{{{_OURS}}}",
                    "{{instance}}",
                ),
            ),
        ),
    ),
    "Which model, and is it any good?": (
        Panel(
            "Served",
            "short",
            (
                Query(
                    f"count by (model, sha256, provider) (derain_model_info{{{_OURS}}} == 1)",
                    "{{model}} {{sha256}} on {{provider}}",
                ),
            ),
            "Replicas by what they serve: more than one line for long is a mismatch.",
        ),
        Panel(
            "Reloads",
            "short",
            (Query(f"sum by (outcome) (derain_model_reloads_total{{{_OURS}}})", "{{outcome}}"),),
            "Since the replicas started; empty until the first one is asked for.",
        ),
        Panel(
            "Residual rain",
            "percentunit",
            _quantiles("derain_residual_rain_probability"),
            "Probability that rain was left in an image.",
        ),
        Panel(
            "What is taken away, what is left",
            "short",
            tuple(
                Query(_mean(metric).expr, legend)
                for metric, legend in (
                    ("derain_removed_energy", "removed energy"),
                    ("derain_streak_likeness", "streak likeness"),
                    ("derain_residual_rain_lines", "residual lines"),
                )
            ),
            "Means of the generalisation monitor.",
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, section in SECTIONS.items():
        panels.append({"type": "row", "title": title, "gridPos": _place(0, top, _COLUMNS, 1)})
        width = _COLUMNS // len(section)
        panels += [
            _panel(panel, _place(i * width, top + 1, width, _HEIGHT)) for i, panel in enumerate(section)
        ]
        top += 1 + _HEIGHT
    return {
        "uid": "derain",
        "title": "Derain",
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "instance",
                    "type": "query",
                    "datasource": _DATASOURCE,
                    "query": 'label_values(up{job="derain"}, instance)',
                    "refresh": 2,
                    "includeAll": True,
                    "allValue": ".*",
                    "multi": True,
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, start=1)],
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "gridPos": place,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "expr": query.expr,
                "legendFormat": query.legend,
                "datasource": _DATASOURCE,
            }
            for i, query in enumerate(panel.queries)
        ],
    }


def operator_rules() -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "derain"},
        "spec": yaml.safe_load(RULES.read_text()),
    }


def written() -> dict[Path, str]:
    """What each file should contain."""
    rules = yaml.safe_dump(operator_rules(), sort_keys=False, width=110, allow_unicode=True)
    return {
        DASHBOARD: json.dumps(dashboard(), indent=1) + "\n",
        OPERATOR_RULES: f"# For the Prometheus operator; `make monitoring` makes it of rules.yaml.\n{rules}",
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
