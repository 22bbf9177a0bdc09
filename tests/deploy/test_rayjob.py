"""The RayJob: its pods have their schemas, its fields are KubeRay's, and the image has what they ask for."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from derain import __version__
from derain.arguments import SOME_FAILED
from derain.bulk.cli import make_parser
from tests.conftest import ROOT
from tests.deploy.conftest import tool
from tests.deploy.test_manifests import amount

Object = dict[str, Any]

MANIFEST = ROOT / "deploy" / "ray" / "rayjob.yaml"

# Of KubeRay's API, ray.io/v1: no package has its schema.
JOB_FIELDS = {
    *("activeDeadlineSeconds", "backoffLimit", "clusterSelector", "entrypoint", "entrypointNumCpus"),
    *("entrypointNumGpus", "entrypointResources", "jobId", "rayClusterSpec", "runtimeEnvYAML"),
    *("shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend"),
    "ttlSecondsAfterFinished",
}
CLUSTER_FIELDS = {
    *("authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "headGroupSpec", "rayVersion"),
    *("headServiceAnnotations", "suspend", "workerGroupSpecs"),
}
HEAD_FIELDS = {"serviceType", "headService", "enableIngress", "rayStartParams", "template"}
WORKER_FIELDS = {
    *("groupName", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas"),
    *("scaleStrategy", "template"),
}


def documents() -> dict[str, Object]:
    """By kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}


def job() -> Object:
    spec: Object = documents()["RayJob"]["spec"]
    return spec


def templates() -> dict[str, Object]:
    cluster = job()["rayClusterSpec"]
    return {
        "submitter": job()["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
        **{group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]},
    }


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What KubeRay makes of the templates, and the rest."""
    made = [documents()["NetworkPolicy"]]
    for name, template in templates().items():
        named = {"name": f"derain-bulk-{name}", "namespace": "derain"}
        if name == "submitter":
            spec = {"template": template}
            made.append({"apiVersion": "batch/v1", "kind": "Job", "metadata": named, "spec": spec})
        else:
            metadata = named | template["metadata"]
            made.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    folder = tmp_path_factory.mktemp("pods")
    (folder / "all.yaml").write_text("---\n".join(map(yaml.safe_dump, made)))
    return folder


@pytest.mark.slow
def test_the_schemas_of_its_pods_hold(pods: Path) -> None:
    command: list[str | Path] = [tool("kubernetes-validate"), "--strict", "--quiet", pods / "all.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_checkov_finds_nothing(pods: Path) -> None:
    """43: the digest is known when the image is pushed. 35: the clients of stores read variables."""
    skipped = ["--skip-check", "CKV_K8S_43,CKV_K8S_35"]
    command: list[str | Path] = [tool("checkov"), "--framework", "kubernetes", "--skip-download", "--compact"]
    done = subprocess.run(
        [*command, "--quiet", *skipped, "-d", pods], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"Passed checks: [1-9]\d+, Failed checks: 0", done.stdout), done.stdout


def test_its_fields_are_kuberays() -> None:
    assert set(job()) <= JOB_FIELDS
    cluster = job()["rayClusterSpec"]
    assert set(cluster) <= CLUSTER_FIELDS
    assert {"rayStartParams", "template"} <= set(cluster["headGroupSpec"]) <= HEAD_FIELDS
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in cluster["workerGroupSpecs"]:
        assert {"groupName", "minReplicas", "maxReplicas", "template"} <= set(group) <= WORKER_FIELDS
        assert 0 < group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_command_is_one_that_there_is() -> None:
    """And nothing that it names is in one machine alone."""
    # KubeRay pastes it into `ray job submit ... -- ENTRYPOINT ;`: one word for a shell of the job.
    *shell, script = shlex.split(job()["entrypoint"])
    assert shell == ["bash", "-c"]
    command, _, otherwise = script.partition(" || ")
    assert otherwise == f"[ $? -eq {SOME_FAILED} ]", "what failed is in the report"
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "derain", "bulk"]
    options = make_parser().parse_args(words[4:])
    assert options.engine == "ray"
    assert all(name.startswith("s3://") for name in (options.source, options.target, options.report))


def test_the_cluster_is_of_the_version_that_is_locked() -> None:
    lock = (ROOT / "requirements" / "ray.txt").read_text()
    (version,) = re.findall(r"^ray==(\S+)", lock, flags=re.MULTILINE)
    assert job()["rayClusterSpec"]["rayVersion"] == version
    for package in ("aiohttp", "s3fs"):  # jobs are submitted by the one, and buckets are read by the other
        assert re.search(rf"^{package}==", lock, flags=re.MULTILINE), package


def test_a_cluster_has_the_codecs_and_the_engine_of_one_machine() -> None:
    """Or its bytes would be others."""
    locks = [(ROOT / "requirements" / name).read_text() for name in ("ray.txt", "serve.txt")]
    for package in ("numpy", "onnxruntime", "opencv-python-headless", "pi-heif", "pillow", "simplejpeg"):
        found = [re.findall(rf"^{package}==([^\\]+)", lock, flags=re.MULTILINE) for lock in locks]
        assert found[0] == found[1] != [], package


def test_the_image_is_the_dockerfiles() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert " AS ray\n" in dockerfile
    for template in templates().values():
        (container,) = template["spec"]["containers"]
        assert container["image"] == f"derain:{__version__}-ray"
        assert "wget" not in str(container), "the image has none"


def test_pods_are_restricted() -> None:
    for template in templates().values():
        spec = template["spec"]
        (container,) = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in container["volumeMounts"]:
            assert "sizeLimit" in volumes[mount["name"]]["emptyDir"]
        for name, limit in container["resources"]["limits"].items():
            assert 0 < amount(container["resources"]["requests"][name]) <= amount(limit), name


def test_strangers_do_not_reach_ray() -> None:
    """Whoever does, and has a token, runs code there."""
    assert job()["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    policy = documents()["NetworkPolicy"]["spec"]
    selected = policy["podSelector"]["matchLabels"].items()
    assert all(selected <= template["metadata"]["labels"].items() for template in templates().values())
    inside, operator = policy["ingress"]
    assert inside["from"] == [{"podSelector": policy["podSelector"]}]
    ports = {
        port["name"]: port["containerPort"] for port in templates()["head"]["spec"]["containers"][0]["ports"]
    }
    assert operator["ports"] == [{"port": ports["dashboard"]}]


def test_workers_have_whole_cores() -> None:
    """Ray starts a worker on each; of a part it would start none."""
    for group in job()["rayClusterSpec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert amount(container["resources"]["limits"]["cpu"]).is_integer()
    assert job()["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
