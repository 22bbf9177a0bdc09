"""What a newcomer does, as the README says it: clone, make serve, curl; the command; the bento."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from derain.images.plain import decode, read_image
from derain.inference.engine import Engine
from tests.conftest import ROOT, copy_repository, files_in, free_port, repository_files, wait_until_ready
from tests.test_readme import README, blocks
from training.metrics import psnr

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


def test_make_serve_and_curl_on_a_fresh_clone(clone: Path, tmp_path: Path) -> None:
    assert "make serve\n" in blocks("sh")
    (curl,) = (block for block in blocks("sh") if block.startswith("curl --data-binary"))
    port = free_port()
    with running(["make", "serve", f"PORT={port}"], port, clone, tmp_path / "bentoml"):
        subprocess.run(curl.replace("localhost:3000", f"localhost:{port}"), shell=True, cwd=clone, check=True)
    installed = {path.name.split("-")[0] for path in clone.glob(".venv/lib/*/site-packages/*.dist-info")}
    assert "torch" not in installed
    _is_derained(clone / "clean.jpg")


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
