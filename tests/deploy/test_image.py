"""Dockerfile, compose file and workflows, looked at; scripts/container_test.sh builds the image."""

import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
import yaml

from derain import __version__
from tests.conftest import ROOT, copy_repository
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


START = """
import asyncio, httpx
from serving.app import create_app
from serving.settings import Settings

async def main():
    app = create_app(Settings())
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            for path in ("/", "/docs", "/examples/gate.jpg", "/readyz"):
                assert (await client.get(path)).status_code == 200, path
            answer = await client.post("/v1/derain", content=open("examples/rain.jpg", "rb").read())
            assert answer.status_code == 200, answer.text

asyncio.run(main())
"""


@pytest.mark.slow
def test_what_docker_is_given_is_enough_to_start(tmp_path: Path) -> None:
    context = copy_repository(tmp_path / "context")
    for path in [path for path in context.rglob("*") if path.is_file()]:
        if not is_sent(path.relative_to(context).as_posix()):
            path.unlink()
    assert not (context / "README.md").exists()
    for copied in re.findall(r"^COPY (?!--)(\S+)", (ROOT / "Dockerfile").read_text(), re.M):
        assert (context / copied).exists(), copied
    command = [sys.executable, "-c", START]
    environment = os.environ | {"PYTHONPATH": str(context)}
    done = subprocess.run(command, cwd=context, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets it through: the last line that fits it, or a folder around it, decides."""
    is_left_out = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        around = [path, *map(str, PurePosixPath(path).parents)]
        if any(re.fullmatch(pattern, each) for each in around):
            is_left_out = not line.startswith("!")
    return not is_left_out
