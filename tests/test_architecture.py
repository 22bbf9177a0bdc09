"""The house rules that a reader of the tree would assume."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from derain.pointer import POINTER_NAME
from tests.conftest import ROOT
from training.export.card import ADDITIONS
from training.export.showcase import LARGEST_BYTES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("derain", ("numpy", "cv2", "PIL", "onnxruntime", "pydantic")),
        ("derain.serve", ("numpy", "onnxruntime", "bentoml")),
        ("derain.library", ("torch", "bentoml", "onnx")),
        ("derain.cli", ("torch", "bentoml", "onnx", "fsspec")),
        ("derain.bulk.cli", ("torch", "bentoml", "onnx", "ray", "pyarrow")),
        ("serving.service", ("torch", "onnx")),
        ("training.run", ("bentoml", "starlette")),
    ],
)
def test_a_side_loads_nothing_of_the_other(module: str, forbidden: tuple[str, ...]) -> None:
    """What import-linter says of the text, seen in a running interpreter, third parties included."""
    program = f"import sys, {module}; print(*[m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_only_those_who_run_networks_import_onnxruntime() -> None:
    users = {
        str(path.relative_to(ROOT))
        for package in ("derain", "training", "serving", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        if "import onnxruntime" in path.read_text() or "from onnxruntime" in path.read_text()
    }
    assert users == {
        "benchmarks/engine.py",
        "derain/inference/sessions.py",
        "training/export/onnx.py",
        "training/evaluation/external_onnx.py",
    }


def test_a_lock_has_one_onnxruntime_and_none_has_torch() -> None:
    """`onnxruntime` and `onnxruntime-gpu` overwrite one another's files."""
    names = {
        lock.stem: {line.split("==")[0] for line in lock.read_text().splitlines() if "==" in line}
        for lock in (ROOT / "requirements").glob("*.txt")
    }
    runtimes = {lock: found & {"onnxruntime", "onnxruntime-gpu"} for lock, found in names.items()}
    assert runtimes == {
        "serve": {"onnxruntime"},
        "serve-gpu": {"onnxruntime-gpu"},
        "dev": {"onnxruntime"},
        "deploy": set(),
        "release": set(),
        "ray": {"onnxruntime"},
        "torch": set(),
    }
    assert [lock for lock, found in names.items() if "torch" in found] == ["torch"]


def test_models_are_artifacts_only() -> None:
    of_images = {"model.onnx", "estimator.onnx", "manifest.json", "README.md"}
    of_videos = {"temporal.onnx", "temporal.json", "README.md"}
    for folder in (ROOT / "models").iterdir():
        if not folder.name.startswith(".") and folder.name != POINTER_NAME:
            names = {path.name for path in folder.iterdir()}
            assert names - set(ADDITIONS) == (of_videos if folder.name == "temporal" else of_images)
            assert all(path.stat().st_size <= LARGEST_BYTES for path in folder.glob("*.jpg"))


def test_the_shipped_model_is_small_enough_to_ship() -> None:
    assert (ROOT / "models" / "base" / "model.onnx").stat().st_size < 10_000_000


@pytest.mark.slow
@pytest.mark.parametrize("module", ["derain.inference.engine", "training.export.onnx"])
def test_nothing_is_reported_to_anyone(module: str, tmp_path: Path) -> None:
    """onnxruntime's reports leave an identifier in the home folder, as soon as a model is loaded."""
    kept_from_reporting = ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in kept_from_reporting}
    program = f"import {module}, derain.inference.engine; derain.inference.engine.Engine()"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path)},
        check=True,
    )
    assert [path for path in tmp_path.rglob("*") if "Microsoft" in path.parts] == []
