"""How fast the engine is beside onnxruntime without it, and models beside plain networks.

    python -m benchmarks.engine models/base
    python -m benchmarks.engine models/base models/fast --repeats 9

The first table is of the first model. "engine" takes and returns uint8 images, in tiles of bounded
memory. "bare" is `session.run` on whole images that are floats already: for throughput as
many runs at once as there are threads, each on one, or all threads on one run after the other,
whichever is faster; for the latency of an image alone, all threads on one run. A run of onnxruntime
that would need more than half of the memory is left out.

The second table is of one thread, by `session.run`. All that one table compares takes turns, and
what is printed is the median of the turns. CPU times bear a busy machine better than the others.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.plain import FULL_RESOLUTION, HALF_RESOLUTION, write_plain
from derain.arguments import at_least, run_command
from derain.arrays import FloatArray, Image, channels_first, padded
from derain.inference.context import context_windows
from derain.inference.engine import Engine
from derain.inference.resources import usable_cores, usable_memory
from derain.inference.sessions import Provider
from derain.manifest import load_manifest

SIZES = ("480x320", "1280x720", "1920x1080", "4000x3000", "6000x4000")
_PLAIN_SIZE = "480x320"

# In one turn a thread is given this many pixels, in one image or in several.
_PIXELS_A_TURN = 6_000_000
_BARE_BYTES_PER_PIXEL = 340  # onnxruntime's default settings, the models of this repository: measured


@dataclass(frozen=True)
class Seconds:
    wall: float
    cpu: float


@dataclass(frozen=True)
class Size:
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def take_turns(contenders: dict[str, Callable[[], object]], turns: int) -> dict[str, list[Seconds]]:
    """Times of each, turn by turn, after one that is not counted."""
    for work in contenders.values():
        work()
    taken: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, work in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            taken[name].append(Seconds(time.perf_counter() - wall, time.process_time() - cpu))
    return taken


def median_wall(turns: Iterable[Seconds]) -> float:
    return statistics.median(each.wall for each in turns)


def median_cpu(turns: Iterable[Seconds]) -> float:
    return statistics.median(each.cpu for each in turns)


def engine_table(folder: Path, sizes: Sequence[Size], threads: int, turns: int) -> list[str]:
    rows = [
        "| image | MP/s, engine | bare | ratio | ratio by CPU time | ms alone, engine | bare | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    engine = Engine(folder, Provider.CPU, threads)
    for size in sizes:
        rows.append(_engine_row(engine, folder, size, turns))
        gc.collect()  # the sessions and their memory
        print(f"{size} done", file=sys.stderr)
    engine.close()
    return rows


def _engine_row(engine: Engine, folder: Path, size: Size, turns: int) -> str:
    threads = engine.threads
    image = np.random.default_rng(0).integers(0, 256, (size.height, size.width, 3), dtype=np.uint8)
    count = threads * max(1, round(_PIXELS_A_TURN / size.pixels))
    together = Bare(folder, threads, image)

    def in_flight(images_at_once: int, work: Callable[[int], object]) -> Callable[[], object]:
        def turn() -> None:
            with ThreadPoolExecutor(images_at_once) as callers:
                for done in callers.map(work, range(count)):
                    del done

        return turn

    def run(bare: Bare) -> Callable[[int], object]:
        return lambda _: bare.run()

    def derain(_: int) -> object:
        return engine.examine(image, force=True) is None

    contenders = {"engine": in_flight(2 * threads, derain)}
    if size.pixels * _BARE_BYTES_PER_PIXEL <= usable_memory() / 2:
        contenders["bare, together"] = in_flight(1, run(together))
    if threads * size.pixels * _BARE_BYTES_PER_PIXEL <= usable_memory() / 2:
        contenders["bare, each"] = in_flight(threads, run(Bare(folder, 1, image)))
    taken = take_turns(contenders, turns)
    megapixels = count * size.pixels / 1e6
    ours = taken.pop("engine")
    rate = f"{megapixels / median_wall(ours):.2f}"
    if not taken:
        return f"| {size} | {rate} | – | – | – | – | – | – |"
    bare = min(taken.values(), key=median_wall)
    least_cpu = min(map(median_cpu, taken.values()))
    del contenders
    alone = take_turns({"engine": lambda: derain(0), "bare": lambda: run(together)(0)}, turns)
    one, bare_one = median_wall(alone["engine"]), median_wall(alone["bare"])
    cells = [
        str(size),
        rate,
        f"{megapixels / median_wall(bare):.2f}",
        f"{median_wall(bare) / median_wall(ours):.2f}",
        f"{least_cpu / median_cpu(ours):.2f}",
        f"{1000 * one:.0f}",
        f"{1000 * bare_one:.0f}",
        f"{one / bare_one:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def network_table(folders: Sequence[Path], size: Size, turns: int) -> list[str]:
    """Models and plain networks on one thread; the last columns are over the plain network's."""
    image = np.random.default_rng(0).integers(0, 256, (size.height, size.width, 3), dtype=np.uint8)
    kmacs: dict[str, float] = {}
    contenders: dict[str, Callable[[], object]] = {}

    def add(name: str, kmac: float, run: Callable[[], object]) -> None:
        kmacs[name], contenders[name] = kmac, run

    with tempfile.TemporaryDirectory() as temporary:
        for network in (FULL_RESOLUTION, HALF_RESOLUTION):
            path = Path(temporary) / f"plain-{network.cell_px}.onnx"
            write_plain(network, path)
            session = _session(path, 1)
            feed = {session.get_inputs()[0].name: _floats([image], network.cell_px)}
            add(str(network), network.kmac_per_pixel, partial(session.run, None, feed))
    for folder in folders:
        add(str(folder), load_manifest(folder).kmac_per_pixel, Bare(folder, 1, image).run)
    taken = take_turns(contenders, turns)
    plain = taken[str(FULL_RESOLUTION)]
    rows = [
        f"| one thread, {size} | kMAC a pixel | ms | CPU ms | ms over plain | CPU ms over plain |",
        "|---|---|---|---|---|---|",
    ]
    for name, seconds in taken.items():
        wall, cpu = median_wall(seconds), median_cpu(seconds)
        over = f"{wall / median_wall(plain):.2f} | {cpu / median_cpu(plain):.2f}"
        rows.append(f"| {name} | {kmacs[name]:.1f} | {1000 * wall:.0f} | {1000 * cpu:.0f} | {over} |")
    return rows


class Bare:
    """A model without the engine: its files, run by onnxruntime on a whole image."""

    def __init__(self, folder: Path, threads: int, image: Image) -> None:
        manifest = load_manifest(folder)
        self._network = _session(folder / manifest.file.name, threads)
        self._rainy = _floats([image], manifest.input.alignment_px)
        self._estimator: ort.InferenceSession | None = None
        if (estimator := manifest.estimator) is not None:
            self._estimator = _session(folder / estimator.file.name, threads)
            windows = context_windows(image, estimator.context_px)
            self._windows = _floats(windows, estimator.alignment_px)

    def run(self) -> bool:
        """The result is dropped at once."""
        feed = [self._rainy]
        if self._estimator is not None:
            (name,) = (each.name for each in self._estimator.get_inputs())
            descriptors, _ = self._estimator.run(None, {name: self._windows})
            feed.append(np.asarray(descriptors).mean(axis=0, keepdims=True))
        names = [each.name for each in self._network.get_inputs()]
        return self._network.run(None, dict(zip(names, feed, strict=True))) is None


def _floats(images: Sequence[Image], alignment_px: int) -> FloatArray:
    """As networks take them, (N, 3, H, W) in [0, 1], with sides that are multiples."""
    return np.stack([channels_first(padded(image, alignment_px)) for image in images])


def _session(path: Path, threads: int) -> ort.InferenceSession:
    """As onnxruntime is when nothing is set but the number of threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def parse_size(text: str) -> Size:
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 480x320")
    return Size(int(sides[0]), int(sides[1]))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="model folders")
    parser.add_argument("--threads", type=at_least(1), help="default: the cores")
    parser.add_argument("--repeats", type=at_least(1), default=5, metavar="N", help="turns (default: 5)")
    parser.add_argument(
        "--sizes", nargs="+", type=parse_size, metavar="WxH", default=[parse_size(s) for s in SIZES]
    )
    parser.add_argument("--plain-size", type=parse_size, metavar="WxH", default=parse_size(_PLAIN_SIZE))
    options = parser.parse_args(arguments)
    return run_command(lambda: _show(options))


def _show(options: argparse.Namespace) -> int:
    threads = options.threads or usable_cores()
    plain = network_table(options.models, options.plain_size, options.repeats)
    print(f"{options.models[0]} on {threads} threads, onnxruntime {ort.__version__}\n")
    print(*engine_table(options.models[0], options.sizes, threads, options.repeats), sep="\n")
    print()
    print(*plain, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
