"""What a newcomer does, as the README says it: clone, make demo, curl; the command; the bento."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from derain.images.plain import decode, read_image
from derain.inference.engine import Engine
from tests.conftest import ROOT, copy_repository, files_in, free_port, repository_files, wait_until_ready
from tests.test_readme import README, blocks
from training.evaluation.metrics import psnr

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a clone would have, as they are now."""
    return copy_repository(tmp_path_factory.mktemp("clone") / "derain")


@contextmanager
def running(command: list[str], port: int, cwd: Path, home: Path) -> Iterator[str]:
    """A service that is ready to take pictures; its base URL. Ended by SIGTERM."""
    environment = os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    log = home.with_suffix(".log")
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://localhost:{port}"
    try:
        wait_until_ready(url, server, log, longest_s=420)
        yield url
    finally:
        server.terminate()
        server.wait(60)


def test_make_demo_and_curl_on_a_fresh_clone(clone: Path, tmp_path: Path) -> None:
    assert blocks("sh")[0].startswith("make demo ")
    (curl,) = (block for block in blocks("sh") if block.startswith("curl --data-binary"))
    port = free_port()
    derained = clone / "clean.jpg"
    with running(["make", "demo", f"PORT={port}"], port, clone, tmp_path / "bentoml"):
        _wait_for("examples/rain.jpg is derained: see clean.jpg", tmp_path / "bentoml.log")
        _is_derained(derained)
        derained.unlink()
        subprocess.run(curl.replace("localhost:3000", f"localhost:{port}"), shell=True, cwd=clone, check=True)
    _is_derained(derained)
    installed = {path.name.split("-")[0] for path in clone.glob(".venv/lib/*/site-packages/*.dist-info")}
    assert "torch" not in installed


def test_a_demo_without_a_service_ends_in_words(tmp_path: Path) -> None:
    """Whether the service cannot start or the image cannot be read: nothing hangs."""
    command = [sys.executable, "scripts/demo.py", str(tmp_path / "rain.jpg"), str(tmp_path / "clean.jpg")]
    command += ["--port", str(free_port())]
    for variables, words in (
        ({"DERAIN_MODEL": str(tmp_path / "none")}, f"no model at {tmp_path / 'none'}"),
        (
            {"HTTP_PROXY": "http://127.0.0.1:9"},
            "rain.jpg was not derained",
        ),  # which localhost is not asked of
    ):
        environment = os.environ | {"BENTOML_HOME": str(tmp_path / "bentoml")} | variables
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1, done.stderr
        assert words in done.stdout + done.stderr
    assert not (tmp_path / "clean.jpg").exists()


def _wait_for(words: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _is_derained(path: Path) -> None:
    """Much nearer to the clean picture than the rainy one is."""
    clean, rainy = read_image(EXAMPLES / "clean.jpg"), read_image(EXAMPLES / "rain.jpg")
    assert psnr(read_image(path), clean) > psnr(rainy, clean) + 2


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process, over_http = blocks("python")
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    exec(in_process, {})
    _is_derained(tmp_path / "clean.jpg")
    expected = Engine().derain(read_image(EXAMPLES / "rain.jpg"))
    names: dict[str, object] = {}
    port = free_port()
    serve = [sys.executable, "-m", "bentoml", "serve", "serving.service:DerainService", "--port", str(port)]
    with running(serve, port, ROOT, tmp_path / "bentoml"):
        exec(over_http.replace("localhost:3000", f"localhost:{port}"), names)
    answer = names["clean"]
    assert isinstance(answer, bytes)
    assert psnr(decode(answer)[0], expected) > 35  # JPEG lies between


def test_the_command_runs(tmp_path: Path) -> None:
    (command,) = re.findall(r"^\.venv/bin/(derain .*)$", README, flags=re.MULTILINE)
    command = command.replace("out/", str(tmp_path))
    subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, check=True)
    _is_derained(tmp_path / "rain.jpg")


def test_the_bento_holds_what_it_needs_and_serves(tmp_path: Path) -> None:
    home = tmp_path / "bentoml"
    environment = os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    bentoml = [sys.executable, "-m", "bentoml"]
    build = [*bentoml, "build", "--output", "tag"]
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    tag = done.stdout.strip().splitlines()[-1].removeprefix("__tag__:")
    packed = files_in(home / "bentos" / tag.replace(":", "/") / "src")
    assert packed == {"LICENSE", "bentofile.yaml", *_what_serves()}
    dockerfile = home / "bentos" / tag.replace(":", "/") / "env" / "docker" / "Dockerfile"
    assert "ENV BENTOML_DO_NOT_TRACK=" in dockerfile.read_text()
    port = free_port()
    with running([*bentoml, "serve", tag, "--port", str(port)], port, tmp_path, home) as url:
        rainy = (EXAMPLES / "rain.jpg").read_bytes()
        answer = httpx.post(f"{url}/v1/derain", content=rainy, timeout=60).raise_for_status()
    (tmp_path / "clean.jpg").write_bytes(answer.content)
    _is_derained(tmp_path / "clean.jpg")


def _what_serves() -> set[str]:
    of_a_model = (".onnx", "manifest.json", "serving.json")
    return {
        name
        for name in repository_files()
        if name.startswith(("derain/", "serving/"))
        or (name.startswith("models/") and name.endswith(of_a_model))
        or (name.startswith("examples/") and name.endswith(".jpg"))
    }
