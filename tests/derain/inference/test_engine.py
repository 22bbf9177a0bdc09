import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derain.arrays import AnyImage, Image
from derain.errors import ProviderError
from derain.inference import engine as engine_module
from derain.inference.engine import Engine
from derain.inference.resources import usable_memory
from derain.inference.sessions import Provider, available_providers
from derain.inference.tiling import Cutter, Tile
from tests.conftest import ALIGNMENT_PX, RECEPTIVE_RADIUS_PX, noise, write_model

SIZES = [(1, 1), (1, 130), (130, 1), (2, 3), (32, 32), (33, 32), (64, 96), (97, 101), (130, 67)]


def untiled(model: Path, image: Image) -> Image:
    """The same network, fed the whole image at once and without the engine."""
    height, width = image.shape[:2]
    padded = np.pad(image, [(0, -height % ALIGNMENT_PX), (0, -width % ALIGNMENT_PX), (0, 0)], mode="edge")
    session = ort.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"rainy": (padded / np.float32(255)).transpose(2, 0, 1)[None]})
    levels: Image = np.rint(np.clip(np.asarray(got)[0], 0, 1) * 255).astype(np.uint8)
    return levels.transpose(1, 2, 0)[:height, :width]


def levels_apart(one: AnyImage, other: AnyImage) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_tiled_equals_untiled(engine: Engine, model: Path, height: int, width: int) -> None:
    image = noise(height, width)
    derained = engine.derain(image)
    assert derained.dtype == np.uint8
    assert derained.flags.c_contiguous
    # Another shape may be summed in another order, and a value between two levels fall either way.
    assert levels_apart(derained, untiled(model, image)) <= 1


@settings(deadline=None, max_examples=50)
@given(height=st.integers(1, 140), width=st.integers(1, 140), seed=st.integers(0, 9))
def test_tiled_equals_untiled_at_any_size(
    engine: Engine, model: Path, height: int, width: int, seed: int
) -> None:
    image = noise(height, width, seed)
    assert levels_apart(engine.derain(image), untiled(model, image)) <= 1


def test_the_tests_above_would_notice_too_little_overlap(model: Path) -> None:
    engine = Engine(model, tile_pixels=32 * 32)
    engine.manifest = engine.manifest.model_copy(update={"overlap_px": RECEPTIVE_RADIUS_PX - 1})
    image = noise(96, 96)
    assert levels_apart(engine.derain(image), untiled(model, image)) > 1
    engine.close()


def test_threads_and_tiles_do_not_change_the_result(model: Path) -> None:
    image = noise(150, 170)
    derained = []
    for threads, tile_pixels in [(1, 40 * 40), (3, 40 * 40), (1, 1024 * 1024)]:
        engine = Engine(model, threads=threads, tile_pixels=tile_pixels)
        derained.append(engine.derain(image))
        engine.close()
    one, three, whole = derained
    assert np.array_equal(one, three)
    assert levels_apart(one, whole) <= 1


@pytest.mark.parametrize("tile_pixels", [1, 2000, None])
def test_no_image_is_too_small_or_too_large_for_tiles(model: Path, tile_pixels: int | None) -> None:
    engine = Engine(model, threads=2, tile_pixels=tile_pixels)
    for height, width in [(1, 1), (1, 900), (900, 1), (41, 41), (200, 300)]:
        image = noise(height, width)
        assert levels_apart(engine.derain(image), untiled(model, image)) <= 1
    engine.close()


def test_an_image_alone_has_all_threads_and_of_several_each_its_share(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(model, threads=4)
    cut_for: list[int] = []
    all_in_work = Barrier(3)

    cut = Cutter.cut

    def note(cutter: Cutter, height: int, width: int) -> list[Tile]:
        cut_for.append(cutter.threads)
        if wait:
            all_in_work.wait(timeout=60)
        return cut(cutter, height, width)

    monkeypatch.setattr(Cutter, "cut", note)
    wait = False
    engine.derain(noise(64, 64))
    wait = True
    with ThreadPoolExecutor(3) as callers:
        list(callers.map(engine.derain, [noise(64, 64)] * 3))
    engine.close()
    assert cut_for == [4, 4, 2, 1]


def resident_bytes() -> int:
    """What of this process is in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_an_idle_engine_gives_its_memory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_IDLE_S", 0.1)
    engine = Engine(write_model(tmp_path / "wide", channels=32), threads=1)
    before = resident_bytes()
    # A cheap way to a large tensor: 32 channels of floats are 128 bytes a pixel.
    engine.derain(noise(1000, 1000))
    deadline = time.monotonic() + 60
    while resident_bytes() - before > 60_000_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    engine.close()
    assert resident_bytes() - before <= 60_000_000


@pytest.mark.slow
@pytest.mark.parametrize("last", ["", "engine.close()", "del engine"])
def test_a_program_may_end_while_memory_is_given_back(model: Path, last: str) -> None:
    """Whether it closes the engine or not."""
    program = f"""
import threading
from pathlib import Path
import numpy as np
from derain.inference import engine as module
from derain.inference.network import Network

give_back, begun = Network.release_memory, threading.Event()

def many_times(network):
    begun.set()
    for _ in range(300):
        give_back(network)

module._IDLE_S = 0
Network.release_memory = many_times
engine = module.Engine(Path({str(model)!r}), threads=1)
begun.clear()
engine.derain(np.zeros((8, 8, 3), np.uint8))
assert begun.wait(60)
{last}
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_tiles_are_as_large_as_the_memory_allows(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tile_pixels(threads: int, gigabytes: int) -> int:
        monkeypatch.setattr(engine_module, "usable_memory", lambda: gigabytes * 1024**3)
        engine = Engine(model, Provider.CPU, threads)
        engine.close()
        return engine.tile_pixels

    assert usable_memory() > 100_000_000
    assert tile_pixels(1, 64) == 8 * 1024**2
    assert tile_pixels(16, 32) > 1920 * 1080
    assert 16 * tile_pixels(16, 32) * 210 <= 32 * 1024**3 / 4


def test_the_image_given_is_not_changed(engine: Engine) -> None:
    image = noise(64, 64)
    engine.derain(image)
    assert np.array_equal(image, noise(64, 64))


def test_a_view_is_an_image_too(engine: Engine) -> None:
    image = noise(80, 120)
    assert np.array_equal(engine.derain(image[::2, ::-1]), engine.derain(image[::2, ::-1].copy()))


def test_calls_from_several_threads_do_not_mix(engine: Engine, model: Path) -> None:
    images = [noise(60 + 7 * number, 100 - 3 * number, number) for number in range(12)]
    with ThreadPoolExecutor(6) as callers:
        together = list(callers.map(engine.derain, images))
    for image, derained in zip(images, together, strict=True):
        assert levels_apart(derained, untiled(model, image)) <= 1


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_no_image(engine: Engine, array: Image) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got {array.dtype} {array.shape}")):
        engine.derain(array)


@pytest.mark.parametrize("provider", [Provider.CUDA, Provider.TENSORRT])
def test_a_provider_that_is_not_there(model: Path, provider: Provider) -> None:
    if provider in available_providers():
        pytest.skip(f"this onnxruntime has {provider}")
    with pytest.raises(ProviderError, match=f"{provider} was asked for, .* has only: .*cpu"):
        Engine(model, provider)


def test_auto_without_a_gpu_is_the_cpu(model: Path) -> None:
    if Provider.CUDA in available_providers():
        pytest.skip("this onnxruntime may find a GPU")
    assert Engine(model).provider is Provider.CPU


def test_progress_is_that_of_the_tiles(engine: Engine) -> None:
    told: list[tuple[int, int]] = []
    image = noise(120, 90)
    derained = engine.examine(image, note_progress=lambda done, pixels: told.append((done, pixels)))
    (pixels,) = {of for _, of in told}
    tiles = len(told) - 1
    assert tiles > 4
    assert [done for done, _ in told] == [pixels * tile // tiles for tile in range(tiles + 1)]
    assert np.array_equal(derained.image, engine.derain(image))


def test_progress_of_a_small_image(engine: Engine) -> None:
    told: list[tuple[int, int]] = []
    engine.examine(noise(8, 8), note_progress=lambda done, pixels: told.append((done, pixels)))
    assert told == [(0, 64), (64, 64)]


def test_smaller_tiles_tell_more_often_and_change_nothing(model: Path) -> None:
    engine = Engine(model, threads=1)
    image, told, told_often = noise(160, 160), list[int](), list[int]()
    whole = engine.examine(image, note_progress=lambda done, pixels: told.append(done))
    cut = engine.examine(
        image, note_progress=lambda done, pixels: told_often.append(done), tile_pixels=64 * 64
    )
    engine.close()
    assert told == [0, 160 * 160]
    assert len(told_often) > 4
    assert levels_apart(whole.image, cut.image) <= 1
