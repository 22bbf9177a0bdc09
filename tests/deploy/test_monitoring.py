"""Rules and dashboard: sound, tested case by case, and of metrics that there are."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from deploy.monitoring.generate import DASHBOARD, OPERATOR_RULES, RULES, written
from serving.operations import metrics
from tests.conftest import ROOT
from tests.deploy.conftest import debian_program, tool

MONITORING = ROOT / "deploy" / "monitoring"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS = [rule["alert"] for rule in rules() if "alert" in rule]
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def dashboard_expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def scaler_expression() -> str:
    scaler = yaml.safe_load((ROOT / "deploy" / "overlays" / "gpu" / "scaledobject.yaml").read_text())
    return str(scaler["spec"]["triggers"][0]["metadata"]["query"])


@pytest.mark.parametrize("path", [DASHBOARD, OPERATOR_RULES], ids=lambda path: path.name)
def test_what_is_made_is_up_to_date(path: Path) -> None:
    assert path.read_text() == written()[path], "make monitoring"


@pytest.mark.parametrize(
    "words",
    [
        ("promtool", "check", "config", "prometheus.yaml"),
        ("promtool", "check", "rules", "rules.yaml"),
        pytest.param(
            ("promtool", "test", "rules", "rules_test.yaml", "rules_days_test.yaml"), marks=pytest.mark.slow
        ),
        ("amtool", "check-config", "alertmanager.yaml"),
    ],
    ids=" ".join,
)
def test_debian_s_tools_find_nothing(words: tuple[str, ...]) -> None:
    program, *arguments = words
    done = subprocess.run(
        [debian_program(program), *arguments], cwd=MONITORING, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_case_that_fires_it_and_one_that_does_not(alert: str) -> None:
    cases = [
        case for path in MONITORING.glob("*_test.yaml") for case in yaml.safe_load(path.read_text())["tests"]
    ]
    fires = {
        bool(test["exp_alerts"])
        for case in cases
        for test in case["alert_rule_test"]
        if test["alertname"] == alert
    }
    assert fires == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_in_the_runbook(alert: str) -> None:
    (rule,) = (rule for rule in rules() if rule.get("alert") == alert)
    page, heading = rule["annotations"]["runbook"].split("#")
    headings = re.findall(r"^#+ (\w+)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert heading in [found.lower() for found in headings]
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_all_metrics_are_the_service_s() -> None:
    ours = {
        sample
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
        for family in metric.describe()
        for sample in _samples(family.name, family.type)
    }
    expressions = [*dashboard_expressions(), scaler_expression(), *(rule["expr"] for rule in rules())]
    used = {name for expression in expressions for name in re.findall(r"\bderain_\w+", expression)}
    assert used - ours == set()
    recorded = {name for expression in expressions for name in re.findall(r"\bderain:[\w:]+", expression)}
    assert recorded == RECORDED


def _samples(name: str, kind: str) -> list[str]:
    if kind == "histogram":
        return [f"{name}_bucket", f"{name}_count", f"{name}_sum"]
    return [f"{name}_total" if kind == "counter" else name]


def test_the_objective_of_latency_is_a_bound_of_the_histogram() -> None:
    (bound,) = {bound for rule in rules() for bound in re.findall(r'le="(.*?)"', rule["expr"])}
    assert float(bound) in metrics._SECONDS
    assert bound == str(float(bound)), "as prometheus_client writes it"


def test_every_query_can_be_parsed() -> None:
    program = "import json, sys, promql_parser\nfor query in json.load(sys.stdin): promql_parser.parse(query)"
    queries = [
        expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
        for expression in [*dashboard_expressions(), scaler_expression()]
    ]
    done = subprocess.run(
        [tool("python"), "-c", program], input=json.dumps(queries), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
