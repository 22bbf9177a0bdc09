"""Tiles that wait together run together, and what befalls one of them is no affair of the others."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, get_ident

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from derain.arrays import AnyImage
from derain.errors import CancelledError
from derain.inference.engine import Engine
from derain.inference.tile_batcher import TileBatcher
from tests.conftest import ROOT, describe_model, noise, write_model
from tests.derain.inference.test_engine import levels_apart

LONGEST_S = 60
SHAPE, OTHER = (4, 5), (5, 4)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Crowd:
    """Callers of a batcher whose threads are all busy until `begin`; tiles are words."""

    def __init__(self, threads: int, max_tiles: int, max_pixels: int) -> None:
        self.batcher: TileBatcher[str] = TileBatcher(self._run, threads, max_tiles, max_pixels)
        self.runs: list[list[str]] = []
        self.done: list[str] = []
        self._busy = 0
        self._can_begin = Event()
        self._callers = ThreadPoolExecutor(20)
        for _ in range(threads):
            self._callers.submit(self.batcher.run_all, ["busy"], (1, 1), None)
        until(lambda: self._busy == threads)

    def _run(self, jobs: Sequence[str]) -> None:
        if "busy" in jobs:
            self._busy += 1
            assert self._can_begin.wait(LONGEST_S)
            return
        self.runs.append(list(jobs))
        if "poison" in jobs:
            raise ValueError("poison")
        self.done += jobs

    def send(
        self, *jobs: str, shape: tuple[int, int] = SHAPE, cancelled: Event | None = None
    ) -> Future[None]:
        """A caller with these tiles, which wait now."""
        before = len(self.batcher._images)
        sent = self._callers.submit(self.batcher.run_all, jobs, shape, cancelled)
        until(lambda: len(self.batcher._images) > before)
        return sent

    def begin(self) -> None:
        self._can_begin.set()

    def close(self) -> None:
        self.begin()
        self.batcher.close()
        self._callers.shutdown()


@contextmanager
def crowd(threads: int = 1, max_tiles: int = 4, max_pixels: int = 1000) -> Iterator[Crowd]:
    made = Crowd(threads, max_tiles, max_pixels)
    try:
        yield made
    finally:
        made.close()


def test_what_waits_at_the_same_moment_and_has_one_shape_is_one_run() -> None:
    with crowd() as callers:
        callers.send("a")
        callers.send("b", shape=OTHER)
        callers.send("c")
        callers.send("d", "e", "f")
    assert callers.runs == [["a", "c", "d", "e"], ["b"], ["f"]]


def test_a_run_of_one_is_not_waited_for() -> None:
    with crowd() as callers:
        callers.begin()
        callers.batcher.run_all(["a"], SHAPE, None)
        callers.batcher.run_all(["b"], SHAPE, None)
    assert callers.runs == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("max_tiles", "max_pixels", "sizes"),
    [(1, 1000, [1] * 6), (4, 1000, [4, 2]), (4, 60, [3, 3]), (4, 59, [2, 2, 2]), (4, 1, [1] * 6)],
)
def test_no_run_has_more_than_it_may(max_tiles: int, max_pixels: int, sizes: list[int]) -> None:
    with crowd(max_tiles=max_tiles, max_pixels=max_pixels) as callers:
        callers.send(*"abcdef")
    assert [len(run) for run in callers.runs] == sizes


def test_each_thread_has_its_share() -> None:
    with crowd(threads=2, max_tiles=8) as callers:
        callers.send(*"abcd")
    assert sorted(map(len, callers.runs)) == [1, 1, 2]


@pytest.mark.parametrize(
    ("max_tiles", "shape", "runs"),
    [
        (1, SHAPE, [["a"], ["z"], ["b"], ["c"], ["d"], ["e"]]),
        (1, OTHER, [["a"], ["z"], ["b"], ["c"], ["d"], ["e"]]),
        (4, SHAPE, [["a", "z", "b", "c"], ["d", "e"]]),
        (4, OTHER, [["a", "b", "c", "d"], ["z"], ["e"]]),
    ],
)
def test_many_tiles_do_not_keep_one_waiting(
    max_tiles: int, shape: tuple[int, int], runs: list[list[str]]
) -> None:
    with crowd(max_tiles=max_tiles) as callers:
        callers.send(*"abcde")
        callers.send("z", shape=shape)
    assert callers.runs == runs


def test_one_poisoned_tile_fails_its_image_alone(caplog: pytest.LogCaptureFixture) -> None:
    with crowd(max_tiles=3) as callers:
        ill = callers.send("a", "poison", "b", "c")
        well = callers.send("x", "y", "z")
        callers.begin()
        well.result(LONGEST_S)
        with pytest.raises(ValueError, match="poison"):
            ill.result(LONGEST_S)
    assert {"x", "y", "z"} <= set(callers.done)
    assert "a run of 3 tiles failed, they are run one by one: poison" in caplog.text


def test_who_gives_up_leaves_the_queue_and_disturbs_nobody() -> None:
    cancelled = Event()
    with crowd() as callers:
        stays = callers.send("a", "b", "c")
        leaves = callers.send("x", "y", cancelled=cancelled)
        also_stays = callers.send("d", cancelled=Event())
        cancelled.set()
        callers.begin()
        with pytest.raises(CancelledError):
            leaves.result(LONGEST_S)
        stays.result(LONGEST_S)
        also_stays.result(LONGEST_S)
    assert sorted(callers.done) == ["a", "b", "c", "d"]


def test_who_gives_up_midway_runs_no_further_tile() -> None:
    cancelled = Event()
    ran: list[str] = []

    def run(jobs: Sequence[str]) -> None:
        ran.extend(jobs)
        cancelled.set()

    batcher = TileBatcher(run, threads=1, max_tiles=1, max_pixels=1)
    with pytest.raises(CancelledError):
        batcher.run_all(["a", "b", "c"], SHAPE, cancelled)
    batcher.close()
    assert ran == ["a"]


def test_closing_waits_for_all_that_wait() -> None:
    with crowd() as callers:
        sent = [callers.send(*word) for word in ("abc", "defgh", "i")]
        callers.begin()
        callers.batcher.close()
        assert sorted(callers.done) == list("abcdefghi")
        for each in sent:
            each.result(LONGEST_S)
        with pytest.raises(RuntimeError):
            callers.batcher.run_all(["late"], SHAPE, None)
    assert "late" not in callers.done


@pytest.fixture(scope="module")
def straight(model: Path) -> Iterator[Engine]:
    engine = Engine(model, threads=1, tile_pixels=80 * 80)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def runs() -> list[int]:
    """How many tiles were in each run of the engine below."""
    return []


@pytest.fixture(scope="module")
def batching(model: Path, runs: list[int]) -> Iterator[Engine]:
    engine = Engine(model, threads=1, tile_pixels=80 * 80, tile_batch=8, note_run=runs.append)
    yield engine
    engine.close()


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40) | st.just(200), st.integers(1, 40)), min_size=1, max_size=3)
)
def test_a_batch_changes_nothing(batching: Engine, straight: Engine, sizes: list[tuple[int, int]]) -> None:
    """Of each size several images, of 8 and of 16 bits, all at once."""
    images: list[AnyImage] = []
    for seed in range(3):
        for size in sizes:
            eight_bits = noise(*size, seed=seed)
            images += [eight_bits, eight_bits.astype(np.uint16) * 257]
    with ThreadPoolExecutor(len(images)) as callers:
        together = list(callers.map(batching.derain, images))
    for image, derained in zip(images, together, strict=True):
        alone = straight.derain(image)
        assert derained.dtype == alone.dtype == image.dtype
        assert levels_apart(derained, alone) <= 1


def test_batches_form_under_concurrency(batching: Engine, straight: Engine, runs: list[int]) -> None:
    runs.clear()
    images = [noise(40, 60, seed) for seed in range(16)]
    deadline = time.monotonic() + LONGEST_S
    with ThreadPoolExecutor(16) as callers:
        while max(runs, default=0) < 2:  # at once, unless the threads of a busy machine come one by one
            assert time.monotonic() < deadline
            together = list(callers.map(batching.derain, images))
    assert max(runs) <= 2  # of these, the pixels of the largest tile have room for so many
    for image, derained in zip(images, together, strict=True):
        assert levels_apart(derained, straight.derain(image)) <= 1


def test_on_the_cpu_nothing_is_batched_unless_asked_for(model: Path) -> None:
    runs: list[int] = []
    engine = Engine(model, threads=1, note_run=runs.append)
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(engine.derain, [noise(8, 8)] * 40))
    engine.close()
    assert engine.tile_batch == 1
    assert runs == [1] * 40


def test_progress_is_told_in_order_by_the_callers_own_thread() -> None:
    batcher: TileBatcher[str] = TileBatcher(lambda jobs: None, threads=3, max_tiles=2, max_pixels=1000)
    told: list[tuple[int, int, int]] = []
    batcher.run_all("abcdefg", SHAPE, None, lambda done, tiles: told.append((done, tiles, get_ident())))
    assert told == [(done, 7, get_ident()) for done in range(8)]
    batcher.close()


def test_what_telling_progress_raises_is_raised_to_the_caller_and_to_nobody_else() -> None:
    class DeafError(Exception):
        pass

    def tell(done: int, tiles: int) -> None:
        raise DeafError

    with crowd() as callers:
        deaf = callers._callers.submit(callers.batcher.run_all, "abc", SHAPE, None, tell)
        with pytest.raises(DeafError):
            deaf.result(LONGEST_S)
        well = callers.send("x", "y")
        callers.begin()
        well.result(LONGEST_S)
        assert callers.done == ["x", "y"]


def test_no_more_progress_is_told_of_an_image_that_is_given_up() -> None:
    cancelled = Event()
    told: list[int] = []

    def tell(done: int, tiles: int) -> None:
        told.append(done)
        if done == 2:
            cancelled.set()

    batcher: TileBatcher[str] = TileBatcher(
        lambda jobs: time.sleep(0.01), threads=1, max_tiles=1, max_pixels=1
    )
    with pytest.raises(CancelledError):
        batcher.run_all("abcdefgh", SHAPE, cancelled, tell)
    assert told[:3] == [0, 1, 2]
    assert 8 not in told
    batcher.close()


def write_allergic_model(folder: Path) -> Path:
    """Returns the image; but one with a white value makes the whole run fail, as onnxruntime sees it."""
    shape: list[str | int | None] = ["N", 3, "H", "W"]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["rainy"], ["brightest"], keepdims=0),
            helper.make_node("Floor", ["brightest"], ["is_white"]),
            helper.make_node("Cast", ["is_white"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["nothing"]),  # there is no second row
            helper.make_node("Add", ["rainy", "nothing"], ["derained"]),
        ],
        "allergic",
        [helper.make_tensor_value_info("rainy", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("derained", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.zeros(1, np.float32), "table")],
    )
    folder.mkdir()
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")
    describe_model(folder)
    return folder


def test_a_poisoned_image_never_fails_its_neighbours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In onnxruntime: the image fails each run that it is in, until it is alone."""
    caplog.set_level(logging.WARNING)
    engine = Engine(write_allergic_model(tmp_path / "allergic"), threads=1, tile_batch=8)
    well = [np.full((64, 64, 3), level, np.uint8) for level in range(12)]
    white = np.full((64, 64, 3), 255, np.uint8)
    deadline = time.monotonic() + LONGEST_S
    with ThreadPoolExecutor(13) as callers:
        while "they are run one by one" not in caplog.text:
            assert time.monotonic() < deadline
            sent = [callers.submit(engine.derain, image) for image in (*well[:6], white, *well[6:])]
            ill = sent.pop(6)
            for image, derained in zip(well, sent, strict=True):
                assert np.array_equal(derained.result(LONGEST_S), image)
            with pytest.raises(Exception, match="out of data bounds"):
                ill.result(LONGEST_S)
    engine.close()


def test_a_network_of_one_image_at_a_time_is_given_no_more(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one")
    network = onnx.load(folder / "model.onnx")
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(network, folder / "model.onnx")
    describe_model(folder)
    engine = Engine(folder, threads=1, tile_batch=8)
    assert engine.tile_batch == 1
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(engine.derain, [noise(8, 8)] * 40))
    engine.close()


@pytest.mark.parametrize("name", ["base", "fast"])
def test_the_shipped_models_take_several_images(name: str) -> None:
    folder = ROOT / "models" / name
    engine = Engine(folder, threads=1, tile_batch=2)
    engine.close()
    assert engine.tile_batch == 2
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    shapes: list[tuple[int, ...]] = [(1, 3, 32, 40)]
    if (estimator := engine.manifest.estimator) is not None:
        shapes.append((1, estimator.numbers))
    inputs = [[rng.random(shape, dtype=np.float32) for shape in shapes] for _ in range(2)]
    alone = [
        session.run(None, dict(zip(engine.network.input_names, each, strict=True)))[0] for each in inputs
    ]
    both = [np.concatenate(each) for each in zip(*inputs, strict=True)]
    (together,) = session.run(None, dict(zip(engine.network.input_names, both, strict=True)))
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=0, atol=1e-6)
