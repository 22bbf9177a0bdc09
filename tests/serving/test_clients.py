"""Clients that are generated from the API's description: they return the bytes of the image."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from derain.images.formats import PNG, WEBP
from derain.images.plain import decode, encode
from derain.inference.engine import Engine
from serving.openapi import DESCRIPTION
from tests.conftest import noise
from tests.serving.server import Server, serving

pytestmark = pytest.mark.slow

TYPESCRIPT = Path(__file__).parent / "typescript"
PICTURE = noise(97, 130)
RAINY = encode(PICTURE, PNG)


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(model, tmp_path_factory.mktemp("server")) as server:
        yield server
        assert "Traceback" not in server.said()


@pytest.fixture(scope="module")
def derained(model: Path) -> np.ndarray:
    engine = Engine(model)
    try:
        return engine.derain(PICTURE)
    finally:
        engine.close()


@pytest.fixture
def description(tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(DESCRIPTION))
    return path


def run(folder: Path, *command: str | Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PYTHON = """
import sys
from io import BytesIO
from pathlib import Path

from generated import Client
from generated.api.images import derain, derain_batch
from generated.models import DerainBatchBody, DerainFilesBody, DerainFilesBodyFormat, Problem
from generated.types import File

rainy = Path("rainy.png").read_bytes()
client = Client(base_url=sys.argv[1])
clean = derain.sync(client=client, body=File(BytesIO(rainy)))
assert isinstance(clean, File)
Path("clean.png").write_bytes(clean.payload.read())

webp = DerainFilesBodyFormat.WEBP
form = DerainFilesBody(image=File(BytesIO(rainy)), strength=0, lossless=True, format_=webp)
same = derain.sync(client=client, body=form)
assert isinstance(same, File)
Path("same.webp").write_bytes(same.payload.read())

batch = derain_batch.sync(client=client, body=DerainBatchBody(images=[File(BytesIO(rainy))]))
assert isinstance(batch, File)
assert batch.payload.read(2) == b"PK"

refused = derain.sync(client=client, body=File(BytesIO(b"rain")))
assert isinstance(refused, Problem)
assert refused.type_ == "/errors#unsupported-image"
"""


def test_in_python(server: Server, description: Path, derained: np.ndarray, tmp_path: Path) -> None:
    generate = ["-m", "openapi_python_client", "generate", "--path", str(description)]
    said = run(tmp_path, sys.executable, *generate, "--meta", "none", "--output-path", "generated")
    assert "Cannot parse response" not in said  # it would be left out
    (tmp_path / "rainy.png").write_bytes(RAINY)
    run(tmp_path, sys.executable, "-c", PYTHON, f"http://127.0.0.1:{server.port}")
    assert np.array_equal(decode((tmp_path / "clean.png").read_bytes())[0], derained)
    same, written = decode((tmp_path / "same.webp").read_bytes())
    assert written == WEBP
    assert np.array_equal(same, PICTURE)


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm here")
def test_in_typescript(server: Server, description: Path, derained: np.ndarray, tmp_path: Path) -> None:
    shutil.copytree(TYPESCRIPT, tmp_path, dirs_exist_ok=True)
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install the generator here: {installed.stderr[-300:]}")
    programs = tmp_path / "node_modules" / ".bin"
    run(tmp_path, programs / "openapi-ts", "--input", description, "--output", "generated")
    run(tmp_path, programs / "tsc", "--project", tmp_path)
    (tmp_path / "rainy.png").write_bytes(RAINY)
    run(tmp_path, "node", "caller.js", f"http://127.0.0.1:{server.port}", "rainy.png", "clean.png")
    assert np.array_equal(decode((tmp_path / "clean.png").read_bytes())[0], derained)
