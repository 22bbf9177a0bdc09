"""The manifests of both overlays: valid, hardened, and true of one another, which no schema checks."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.settings import Settings
from tests.conftest import ROOT
from tests.deploy.conftest import tool

Object = dict[str, Any]

OVERLAYS = ("cpu", "gpu")


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that an overlay makes, in one file."""
    folder = tmp_path_factory.mktemp(request.param)
    made = subprocess.run(
        [tool("kubectl"), "kustomize", ROOT / "deploy" / "overlays" / request.param],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    (folder / "all.yaml").write_text(made.stdout)
    return folder


@pytest.fixture
def objects(manifests: Path) -> dict[str, Object]:
    """By kind; of each kind there is one."""
    documents = list(yaml.safe_load_all((manifests / "all.yaml").read_text()))
    by_kind = {document["kind"]: document for document in documents}
    assert len(by_kind) == len(documents)
    return by_kind


def pod(objects: dict[str, Object]) -> Object:
    spec: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def container(objects: dict[str, Object]) -> Object:
    (only,) = pod(objects)["containers"]
    return dict(only)


@pytest.mark.slow
def test_the_schemas_hold(manifests: Path) -> None:
    command: list[str | Path] = [tool("kubernetes-validate"), "--strict", "--quiet", manifests / "all.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_checkov_finds_nothing(manifests: Path) -> None:
    command: list[str | Path] = [
        tool("checkov"),
        "--framework",
        "kubernetes",
        "--skip-download",
        "--compact",
        "--quiet",
        "-d",
    ]
    done = subprocess.run([*command, manifests], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert re.search(r"Passed checks: [1-9]\d+, Failed checks: 0", done.stdout), done.stdout


def test_selectors_select(objects: dict[str, Object]) -> None:
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        pod(objects)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ):
        assert selector, "selects everything"
        assert selector.items() <= labels
    monitored = objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert monitored
    assert monitored.items() <= objects["Service"]["metadata"]["labels"].items()


def test_ports_lead_somewhere(objects: dict[str, Object]) -> None:
    ports = {port["name"]: port["containerPort"] for port in container(objects)["ports"]}
    services = {port["name"]: port["targetPort"] for port in objects["Service"]["spec"]["ports"]}
    assert set(services.values()) <= set(ports)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container(objects)[probe]["httpGet"]["port"] in ports
    allowed = {port["port"] for rule in objects["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]}
    assert allowed == set(ports)
    assert objects["ServiceMonitor"]["spec"]["endpoints"][0]["port"] in services
    (rule,) = objects["Ingress"]["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == objects["Service"]["metadata"]["name"]
    assert services[backend["port"]["name"]] == "http", "only the public port is for the public"
    assert ports["private"] == int(environment(objects)["DERAIN_PRIVATE_PORT"])


def test_one_scaler_scales_the_deployment(objects: dict[str, Object]) -> None:
    """An HPA and a ScaledObject, which makes one as well, would undo each other's work."""
    (kind,) = {"HorizontalPodAutoscaler", "ScaledObject"} & set(objects)
    spec = objects[kind]["spec"]
    assert spec["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    least, most = (
        (spec["minReplicas"], spec["maxReplicas"])
        if kind == "HorizontalPodAutoscaler"
        else (spec["minReplicaCount"], spec["maxReplicaCount"])
    )
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] < least < most
    assert "replicas" not in objects["Deployment"]["spec"]


def test_all_is_in_the_namespace(objects: dict[str, Object]) -> None:
    namespace = objects.pop("Namespace")["metadata"]["name"]
    assert {document["metadata"]["namespace"] for document in objects.values()} == {namespace}
    if "ScaledObject" in objects:
        (trigger,) = objects["ScaledObject"]["spec"]["triggers"]
        assert set(re.findall(r'namespace="(.*?)"', trigger["metadata"]["query"])) == {namespace}


def test_no_more_is_requested_than_is_allowed(objects: dict[str, Object]) -> None:
    resources = container(objects)["resources"]
    assert {"cpu", "memory", "ephemeral-storage"} <= set(resources["limits"])
    for name, limit in resources["limits"].items():
        assert 0 < amount(resources["requests"][name]) <= amount(limit), name


def amount(quantity: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(m|Mi|Gi|)", quantity, flags=re.ASCII).groups()  # type: ignore[union-attr]
    return float(number) * {"m": 0.001, "": 1, "Mi": 2**20, "Gi": 2**30}[unit]


def test_pod_security_restricted(objects: dict[str, Object]) -> None:
    """What the standard `restricted` asks for, and a root that cannot be written to."""
    assert objects["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    security = pod(objects)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 10001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod(objects))
    assert not any("hostPort" in port for port in container(objects)["ports"])
    assert pod(objects)["automountServiceAccountToken"] is False
    assert pod(objects)["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]


def test_what_is_written_to_is_there_and_bounded(objects: dict[str, Object]) -> None:
    volumes = {volume["name"]: volume for volume in pod(objects)["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container(objects)["volumeMounts"]}
    assert set(mounts) == {"/tmp", environment(objects)["BENTOML_HOME"]}
    for name in mounts.values():
        assert "sizeLimit" in volumes[name]["emptyDir"]


def test_the_image_has_a_version(objects: dict[str, Object]) -> None:
    image = container(objects)["image"]
    assert re.search(r"(:\d+\.\d+\.\d+-(cpu|gpu)|@sha256:[0-9a-f]{64})$", image), image


def environment(objects: dict[str, Object]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(objects)["env"]}


def settings(objects: dict[str, Object]) -> Settings:
    ours = {
        name.removeprefix("DERAIN_").lower(): value
        for name, value in environment(objects).items()
        if name.startswith("DERAIN_")
    }
    assert set(ours) <= set(Settings.model_fields)
    return Settings.model_validate(ours)


def test_a_pod_has_time_to_deliver_what_is_in_work(objects: dict[str, Object]) -> None:
    asked = settings(objects)
    (_, pause_s) = container(objects)["lifecycle"]["preStop"]["exec"]["command"]
    longest_s = int(pause_s) + asked.upload_timeout_s + asked.timeout_s
    assert pod(objects)["terminationGracePeriodSeconds"] > longest_s
    annotations = objects["Ingress"]["metadata"]["annotations"]
    assert float(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > longest_s - int(pause_s)


def test_one_worker_a_pod(objects: dict[str, Object]) -> None:
    assert settings(objects).workers == 1
    assert "BENTOML_CONTAINERIZED" in environment(objects)


def test_the_gpu_is_asked_for(manifests: Path, objects: dict[str, Object]) -> None:
    image = container(objects)["image"]
    assert ("nvidia.com/gpu" in container(objects)["resources"]["limits"]) == image.endswith("-gpu")
