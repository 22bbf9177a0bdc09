"""Clients that are generated from the API's description: they return the bytes of the image."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from derain.images.formats import WEBP
from derain.images.plain import decode
from serving.api.openapi import describe
from serving.api.routes import ROUTES
from tests.serving.server import Server
from tests.serving.system.conftest import PICTURE, RAINY

pytestmark = pytest.mark.slow

TYPESCRIPT = Path(__file__).parents[1] / "typescript"


@pytest.fixture
def description(tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(describe(ROUTES)))
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


def typescript_modules() -> Path:
    """What the generator needs, installed once for as long as its lock stays the same."""
    modules, lock = TYPESCRIPT / "node_modules", TYPESCRIPT / "package-lock.json"
    ready = modules / ".package-lock.json"
    if not ready.exists() or ready.stat().st_mtime < lock.stat().st_mtime:
        install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        installed = subprocess.run(install, cwd=TYPESCRIPT, capture_output=True, text=True, timeout=300)
        if installed.returncode != 0:
            pytest.skip(f"npm cannot install the generator here: {installed.stderr[-300:]}")
    return modules


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm here")
def test_in_typescript(server: Server, description: Path, derained: np.ndarray, tmp_path: Path) -> None:
    for name in ("caller.ts", "tsconfig.json", "package.json"):
        shutil.copy(TYPESCRIPT / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(typescript_modules())
    programs = tmp_path / "node_modules" / ".bin"
    run(tmp_path, programs / "openapi-ts", "--input", description, "--output", "generated")
    run(tmp_path, programs / "tsc", "--project", tmp_path)
    (tmp_path / "rainy.png").write_bytes(RAINY)
    run(tmp_path, "node", "caller.js", f"http://127.0.0.1:{server.port}", "rainy.png", "clean.png")
    assert np.array_equal(decode((tmp_path / "clean.png").read_bytes())[0], derained)
