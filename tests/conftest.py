"""What several tests share: pictures, and a network small enough to be built on the spot."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from starlette.types import ASGIApp

from derain.arrays import AnyImage, Derained, Image
from derain.inference.engine import Engine
from derain.inference.resources import usable_cores
from derain.manifest import MANIFEST_NAME, Estimator, InputContract, Manifest, Parity, describe_file

ROOT = Path(__file__).parent.parent

# Of the network below. A pixel sees one more through each fine convolution, and all of its cell
# and of the cells around it through the coarse one: 1 + 7 + 1.
ALIGNMENT_PX = 4
RECEPTIVE_RADIUS_PX = 9

# Of the model with an estimator.
CONTEXT_PX, CELL_PX = 24, 8
DRY_BELOW = 0.2  # of the mean of a window, from 0 to 1

_OPSET = 20

# Of a test that is not marked slow. With it, `make quick` stays quick. As measured on a core that squares a
# million numbers in `SQUARES_S`; a slower one is allowed more.
MAX_CPU_S = 1.0
SQUARES_S = 0.04

# Of half a minute and more, of one worker: begun last, they would leave the others idle.
_LONGEST_FILES = {
    *("test_docs.py", "test_end_to_end.py", "test_gate.py", "test_kill.py", "test_package.py"),
    *("test_page.py", "test_retraining.py", "test_run.py", "test_study.py"),
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker a core; one more for the slow tests, which wait for browsers, servers and other processes."""
    return usable_cores() + int("not slow" not in config.option.markexpr)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONGEST_FILES)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fails a test that is not marked slow and is.

    By processor time, its processes included, which hardly depends on what else the machine does.
    """
    began_s = _cpu_s()
    result = yield
    taken_s = _cpu_s() - began_s
    is_quick = pyfuncitem.get_closest_marker("slow") is None
    if is_quick and taken_s > MAX_CPU_S and taken_s > MAX_CPU_S * _slowness():
        taken = f"{pyfuncitem.name} took {taken_s:.1f} s of processor time"
        allowed = f"a test of the quick loop may take {MAX_CPU_S:g} s"
        pytest.fail(f"{taken}, and {allowed}: make it faster, or mark it @pytest.mark.slow", pytrace=False)
    return result


def _slowness() -> float:
    """Of this core now, which shares what it has with what else the machine does."""
    began_s = time.process_time()
    sum(number * number for number in range(1_000_000))
    return (time.process_time() - began_s) / SQUARES_S


def _cpu_s() -> float:
    """Of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


# The most memory that a process has had, as it asks for it itself. Not `ru_maxrss`: that begins with what its
# parent had, and a parent with torch loaded has a gigabyte.
PEAK_KB = "int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"


def heed_interrupts() -> None:
    """For `preexec_fn`: what a shell starts in the background ignores interrupts, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def scene(height: int, width: int) -> Image:
    """Smooth, so that lossy formats keep it, and with a red that is nothing like its blue."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    channels = [230 - 180 * rows, 60 + 120 * columns, 20 + 90 * rows * columns]
    return np.stack(channels, axis=-1).astype(np.uint8)


def noise(height: int, width: int, seed: int = 0) -> Image:
    """No two places alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def examining(
    derain: Callable[[AnyImage], AnyImage],
) -> Callable[[AnyImage], Derained[AnyImage]]:
    """Finds rain in every picture, as an engine without an estimator does."""
    return lambda picture: Derained(derain(picture), rain_found=True)


def write_model(folder: Path, channels: int = 4) -> Path:
    """A model folder, the network in it untrained. More channels make it slower.

    Zero padding makes borders matter, and 4 x 4 cells make alignment matter.
    """
    rng = np.random.default_rng(1)

    def weights(name: str, outputs: int, inputs: int) -> TensorProto:
        values = rng.normal(0, 0.5 / np.sqrt(9 * inputs), (outputs, inputs, 3, 3))
        return numpy_helper.from_array(values.astype(np.float32), name)

    same: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    cells: dict[str, Any] = {"kernel_shape": [ALIGNMENT_PX] * 2, "strides": [ALIGNMENT_PX] * 2}
    nodes = [
        helper.make_node("Conv", ["rainy", "first"], ["fine"], **same),
        helper.make_node("AveragePool", ["fine"], ["cells"], **cells),
        helper.make_node("Conv", ["cells", "middle"], ["coarse"], **same),
        helper.make_node("Resize", ["coarse", "", "scales"], ["spread"], mode="nearest"),
        helper.make_node("Add", ["fine", "spread"], ["both"]),
        helper.make_node("Conv", ["both", "last"], ["rain"], **same),
        helper.make_node("Sub", ["rainy", "rain"], ["derained"]),
    ]
    shape: list[str | int | None] = ["N", 3, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("rainy", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("derained", TensorProto.FLOAT, shape)],
        [
            weights("first", channels, 3),
            weights("middle", channels, channels),
            weights("last", 3, channels),
            numpy_helper.from_array(np.array([1, 1, ALIGNMENT_PX, ALIGNMENT_PX], np.float32), "scales"),
        ],
    )
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10),
        folder / "model.onnx",
    )
    describe_model(folder)
    return folder


def describe_model(folder: Path, estimator: Estimator | None = None, longest_px: int | None = None) -> None:
    """The manifest of what is in `model.onnx`, whatever that is, and of an estimator beside it."""
    manifest = Manifest(
        name="tiny",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        file=describe_file(folder / "model.onnx", _OPSET),
        input=InputContract(alignment_px=ALIGNMENT_PX),
        estimator=estimator,
        longest_px=longest_px,
        overlap_px=RECEPTIVE_RADIUS_PX,
        parameters=0,
        kmac_per_pixel=0,
        parity=Parity(sizes=[], max_difference=0),
        recipe={},
        commit="none",
        evaluations=[],
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())


def write_estimating(folder: Path, longest_px: int | None = None) -> Path:
    """The network returns the mean of its input and of the mean colour that its estimator sees.

    There is rain where the mean level of that is above DRY_BELOW.
    """
    image: list[str | int | None] = ["N", 3, "H", "W"]
    descriptor: list[str | int | None] = ["N", 3]
    estimator = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["descriptor"], axis=1),
            helper.make_node("ReduceMean", ["descriptor", "axes"], ["log_odds"], keepdims=0),
        ],
        "estimator",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image)],
        [
            helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, descriptor),
            helper.make_tensor_value_info("log_odds", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    network = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["descriptor", "axes"], ["everywhere"]),
            helper.make_node("Mean", ["rainy", "everywhere"], ["clean"]),
        ],
        "network",
        [
            helper.make_tensor_value_info("rainy", TensorProto.FLOAT, image),
            helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, descriptor),
        ],
        [helper.make_tensor_value_info("clean", TensorProto.FLOAT, image)],
        [numpy_helper.from_array(np.array([2, 3], np.int64), "axes")],
    )
    folder.mkdir()
    opsets = [helper.make_opsetid("", _OPSET)]
    for graph, name in ((estimator, "estimator.onnx"), (network, "model.onnx")):
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / name)
    describe_estimator(folder, longest_px=longest_px)
    return folder


def describe_estimator(folder: Path, numbers: int = 3, longest_px: int | None = None) -> None:
    """The manifest of a model with an estimator beside it."""
    estimator = Estimator(
        file=describe_file(folder / "estimator.onnx", _OPSET),
        alignment_px=CELL_PX,
        context_px=CONTEXT_PX,
        numbers=numbers,
        dry_below=DRY_BELOW,
    )
    describe_model(folder, estimator, longest_px)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, for reading only."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def engine(model: Path) -> Iterator[Engine]:
    """Cuts even a small picture into many tiles."""
    engine = Engine(model, threads=2, tile_pixels=40 * 40)
    yield engine
    engine.close()


def repository_files() -> list[str]:
    """What a clone would have, as it is now; paths from the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def copy_repository(folder: Path) -> Path:
    """The files that a clone would have, as they are now, in a folder of their own."""
    for name in repository_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, longest_s: float) -> None:
    """Fails with the server's log when it ends or takes too long."""
    deadline = time.monotonic() + longest_s
    while not _is_ready(url):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2).is_success
    except httpx.TransportError:
        return False


def files_in(folder: Path) -> set[str]:
    """Every file below a folder, hidden ones as well."""
    return {os.fspath(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def send(app: ASGIApp, method: str, path: str, **request: Any) -> httpx.Response:
    """One request to an ASGI app, without a server."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **request)

    return asyncio.run(answer())
