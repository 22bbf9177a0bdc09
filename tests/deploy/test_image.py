"""Dockerfile, compose file and workflows, looked at; scripts/container_test.sh builds the image."""

import subprocess
from pathlib import Path

import pytest
import yaml

from derain import __version__
from tests.conftest import ROOT
from tests.deploy.conftest import tool


def passes(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_nothing() -> None:
    passes(tool("hadolint"), "Dockerfile")


@pytest.mark.slow
def test_checkov_finds_nothing_in_the_dockerfile() -> None:
    passes(tool("checkov"), "-f", "Dockerfile", "--framework", "dockerfile", "--skip-download", "--quiet")


@pytest.mark.slow
def test_the_compose_file_has_its_schema() -> None:
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yaml")


@pytest.mark.slow
def test_the_workflows_have_their_schema() -> None:
    workflows = sorted(ROOT.glob(".github/workflows/*.yaml"))
    assert len(workflows) == 2
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *workflows)


@pytest.mark.slow
def test_the_citation_has_its_schema() -> None:
    schema = "vendor.citation-file-format"
    passes(tool("check-jsonschema"), "--builtin-schema", schema, "CITATION.cff")


def test_composed_images_have_versions_and_files_are_there() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    for service in services.values():
        _, version = service["image"].split(":")
        assert version != "latest"
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).is_file(), source


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_manifests_and_image_are_of_one_version(target: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    overlay = yaml.safe_load((ROOT / "deploy" / "overlays" / target / "kustomization.yaml").read_text())
    (image,) = overlay["images"]
    version = image["newTag"].removesuffix(f"-{target}")
    assert f"ARG VERSION={version}\n" in dockerfile
    assert version == __version__
