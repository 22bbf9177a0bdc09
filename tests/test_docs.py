"""Every command of docs/training.md runs, in order, as a reader runs them; the long ones with fewer steps."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from derain.images.plain import read_image
from derain.manifest import load_manifest
from tests.conftest import ROOT, copy_repository, free_port, wait_until_ready

DOCS = ROOT / "docs"
WALK = (DOCS / "training.md").read_text()


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", WALK, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_links_and_pictures_are_there() -> None:
    for page in (*DOCS.rglob("*.md"), *ROOT.glob("models/*/README.md")):
        for path in re.findall(r"\]\((?!http|#)([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / path).exists(), f"{page}: {path}"


def test_the_commands_are_those_that_are_run() -> None:
    """A new kind of command needs a new kind of test below."""
    kinds = r"make develop|cp|mkdir|\.venv/bin/(python|torchrun|tensorboard)|DERAIN_MODEL=\S+ make serve|curl"
    assert [command for command in commands() if not re.match(kinds, command)] == []
    assert "develop: $(DEV_READY)" in (ROOT / "Makefile").read_text()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose environment is this Python's, in which the page was followed up to serving."""
    folder = copy_repository(tmp_path_factory.mktemp("walk") / "derain")
    shorten(folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for program in ("python", "torchrun", "tensorboard"):
        script = folder / ".venv" / "bin" / program
        script.write_text(f'#!/bin/sh\nexec {Path(sys.executable).parent / program} "$@"\n')
        script.chmod(0o755)
    for command in commands():
        if re.match(r"cp|mkdir|\.venv/bin/(python|torchrun)", command):
            run(command, folder)
    return folder


def shorten(clone: Path) -> None:
    """Fewer photographs and patches, which are read, measured and scored as many are."""
    for kind, count in (("train", 16), ("heldout", 2)):
        for photograph in sorted((clone / "training" / "photographs" / kind).iterdir())[count:]:
            photograph.unlink()
    complexity = clone / "training" / "data" / "complexity.py"
    whole = complexity.read_text()
    shorter = whole.replace("PATCHES = 256 ", "PATCHES = 32 ")
    assert shorter != whole
    complexity.write_text(shorter)


def run(command: str, folder: Path) -> None:
    """As it is written, but that trainings are short and of few networks."""
    if "training/run.py" in command:
        command += " --steps 4 --batch 4 --threads 1"
        command += " --derainers 2" if "run.py base" in command else ""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_each_step_leaves_what_the_page_says(clone: Path) -> None:
    assert read_image(clone / "rain.jpg").shape[0] > 1000
    assert "<svg" in (clone / "complexity.svg").read_text()
    for name in ("rehearsal", "rehearsal-of-two", "mine"):
        assert load_manifest(clone / "models" / name).evaluations
        assert (clone / "models" / name / "estimator.onnx").exists(), name
        assert (clone / "runs" / name / "stats.jsonl").exists()
        assert list((clone / "runs" / name / "samples").glob("*.jpg"))
    assert "camera" in (clone / "evaluation" / "index.html").read_text()


@contextmanager
def running(
    command: list[str], clone: Path, log: Path, variables: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=clone, env=os.environ | variables, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.slow
def test_tensorboard_shows_the_curves(clone: Path, tmp_path: Path) -> None:
    (command,) = (command for command in commands() if "tensorboard" in command)
    port = free_port()
    words = command.replace("6006", str(port)).split()
    with running(words, clone, tmp_path / "log", {}) as process:
        url = f"http://localhost:{port}/data/plugin/scalars/tags"
        deadline = time.monotonic() + 120
        while "validation/removal" not in (tags := _get(url)):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, tags
            time.sleep(0.5)
    assert "mine" in tags


def _get(url: str) -> str:
    try:
        return httpx.get(url, timeout=30).text
    except httpx.TransportError:
        return ""


@pytest.mark.slow
def test_the_service_runs_the_model_of_the_walk(clone: Path, tmp_path: Path) -> None:
    """`make serve` itself is run by the test of the README; here is what it starts."""
    (serve,) = (command for command in commands() if command.endswith("make serve"))
    (curl,) = (command for command in commands() if command.startswith("curl"))
    model = serve.split()[0].removeprefix("DERAIN_MODEL=")
    port = free_port()
    variables = {"DERAIN_MODEL": model, "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"}
    words = [sys.executable, "-m", "bentoml", "serve", "serving.service:DerainService", "--port", str(port)]
    with running(words, clone, tmp_path / "log", variables) as process:
        wait_until_ready(f"http://localhost:{port}", process, tmp_path / "log", longest_s=120)
        run(curl.replace("localhost:3000", f"localhost:{port}"), clone)
    assert read_image(clone / "derained.jpg").shape == read_image(clone / "rainy" / "rain.jpg").shape
