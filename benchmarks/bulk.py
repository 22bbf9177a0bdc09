"""`derain bulk` beside the engine in a bare loop, in one run; and its memory from the 50th image on.

    python -m benchmarks.bulk models/base
    python -m benchmarks.bulk models/fast --images 500 --threads 2

Both read, decode, derain and encode the same images, of mixed sizes, with the same threads; bulk also plans,
looks whether rain was left, keeps a journal and writes a report. They take turns, a part of the images at a
time, so that a machine that is busy with other things is busy for both. CPU seconds are of the whole process.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from derain.arguments import at_least
from derain.bulk.journal import Journal
from derain.bulk.pipeline import Pipeline
from derain.bulk.plan import Make
from derain.bulk.rows import Item
from derain.command.work import ResultOptions
from derain.images.encoding import encode_photo
from derain.images.formats import JPEG, PNG
from derain.images.header import read_header
from derain.images.photo import decode_photo, derain_photo
from derain.images.plain import encode, read_image
from derain.inference.engine import Engine
from derain.inference.resources import usable_cores
from derain.memory import give_memory_back

ROOT = Path(__file__).parent.parent
_SHORTEST_PX, _LONGEST_PX = 120, 720
_PART = 25  # images at a turn
_SETTLED = 50  # images, after which memory should not grow any more


@dataclass
class Spent:
    """Of all turns of one way."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def add(self, work: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu


def write_images(folder: Path, count: int) -> list[Path]:
    """Cuts of the example, one in five as PNG, of all sizes in a fixed order without one."""
    scene = read_image(ROOT / "examples" / "rain.jpg")
    random = np.random.default_rng(0)
    paths = []
    for index in range(count):
        width, height = (int(side) for side in random.integers(_SHORTEST_PX, _LONGEST_PX, 2))
        resized = np.asarray(cv2.resize(scene, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        paths.append(folder / f"{index:04}{'.png' if index % 5 == 0 else '.jpg'}")
        paths[-1].write_bytes(encode(resized, PNG if index % 5 == 0 else JPEG))
    return paths


def bare_loop(engine: Engine, paths: Sequence[Path], results: Path) -> None:
    """Files to files, with as many threads as the engine has."""

    def work(path: Path) -> None:
        data = path.read_bytes()
        photo = decode_photo(data, read_header(data))
        encoded = encode_photo(derain_photo(engine.examine, photo).photo, photo.format)
        (results / path.name).write_bytes(encoded)

    with ThreadPoolExecutor(engine.threads) as pool:
        list(pool.map(work, paths))


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def compare(engine: Engine, paths: Sequence[Path], folder: Path) -> tuple[Spent, Spent, list[float]]:
    """What the loop and bulk took, and the resident megabytes after each part of bulk."""
    loop, bulk, resident = Spent(), Spent(), []
    journal = Journal(str(folder / "report.csv"))
    wanted = ResultOptions(max_pixels=2**26)
    pipeline = Pipeline(engine, wanted, Make(engine.manifest.sha256, None), journal)
    (folder / "loop").mkdir()

    def run(part: Sequence[Path]) -> None:
        items = [Item(str(path), str(folder / "bulk" / path.name)) for path in part]
        with closing(pipeline.run(items)) as rows:
            failed = [row.error for row in rows if row.error]
        assert not failed, failed
        resident.append(resident_mb())

    for at in range(0, len(paths), _PART):
        turns = [
            (loop, partial(bare_loop, engine, paths[at : at + _PART], folder / "loop")),
            (bulk, partial(run, paths[at : at + _PART])),
        ]
        for spent, way in turns if at // _PART % 2 else reversed(turns):
            spent.add(way)
        done, rate = min(at + _PART, len(paths)), loop.cpu_s / bulk.cpu_s
        print(f"{done} images: {rate:.2f} by CPU seconds, {resident[-1]:.0f} MB", file=sys.stderr, flush=True)
    return loop, bulk, resident


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.bulk", description="`derain bulk` beside the engine in a bare loop."
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=at_least(2 * _SETTLED), default=500, metavar="N")
    parser.add_argument("--threads", type=at_least(1), default=usable_cores(), metavar="N")
    options = parser.parse_args(arguments)
    give_memory_back()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        paths = write_images(folder / "source", options.images)
        engine = Engine(options.model, threads=options.threads)
        bare_loop(engine, paths[:1], folder)  # the first run allocates
        loop, bulk, resident = compare(engine, paths, folder)
        engine.close()
    settled = resident[_SETTLED // _PART - 1 :]
    print(f"{options.images} images of {_SHORTEST_PX} to {_LONGEST_PX} px a side, {options.threads} threads")
    for label, spent in (("bare loop", loop), ("bulk", bulk)):
        print(f"{label:>10}: {spent.wall_s:7.1f} s, {spent.cpu_s:7.1f} CPU s")
    rate, by_cpu = loop.wall_s / bulk.wall_s, loop.cpu_s / bulk.cpu_s
    print(f"bulk has {rate:.2f} of the loop's rate, {by_cpu:.2f} by CPU seconds")
    print(f"resident after {_SETTLED} images {settled[0]:.0f} MB, at the end {settled[-1]:.0f} MB, ", end="")
    print(f"between {min(settled):.0f} and {max(settled):.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
