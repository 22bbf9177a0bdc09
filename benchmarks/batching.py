"""Whether it pays on the CPU to put tiles of several images into one run of the network.

    python -m benchmarks.batching models/base

Callers send small images, each of them one tile, to the engine without a pause. The engines differ in how
many tiles they may put into one run; how many there were on average is in brackets. All that a row compares
takes turns, and what is printed is the median of the turns.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.engine import Size, median_wall, parse_size, take_turns
from derain.arguments import at_least, run_command
from derain.inference.engine import Engine
from derain.inference.resources import usable_cores
from derain.inference.sessions import Provider

SIZES = ("128x128", "256x256", "480x320")
BATCHES = (1, 2, 4, 8)

_PIXELS_A_TURN = 4_000_000  # of each engine
_CALLERS_A_THREAD = 2 * max(BATCHES)  # while one batch is in work, there is another


def batching_table(folder: Path, sizes: Sequence[Size], threads: int, turns: int) -> list[str]:
    """Tiles a second, by the size of the image and by how many may be in one run."""
    columns = " | ".join(f"tiles/s, {most} in a run" for most in BATCHES)
    rows = [f"| {folder} | {columns} |", "|---" * (1 + len(BATCHES)) + "|"]
    for size in sizes:
        rows.append(_row(folder, size, threads, turns))
        print(f"{size} done", file=sys.stderr)
    return rows


def _row(folder: Path, size: Size, threads: int, turns: int) -> str:
    image = np.random.default_rng(0).integers(0, 256, (size.height, size.width, 3), dtype=np.uint8)
    images = [image] * max(_CALLERS_A_THREAD * threads, round(_PIXELS_A_TURN / size.pixels))
    runs: dict[str, list[int]] = {str(most): [] for most in BATCHES}
    engines = {
        name: Engine(folder, Provider.CPU, threads, tile_batch=int(name), note_run=tiles.append)
        for name, tiles in runs.items()
    }

    def in_flight(engine: Engine) -> Callable[[], object]:
        def turn() -> None:
            with ThreadPoolExecutor(_CALLERS_A_THREAD * threads) as callers:
                for done in callers.map(engine.derain, images):
                    del done

        return turn

    taken = take_turns({name: in_flight(engine) for name, engine in engines.items()}, turns)
    for engine in engines.values():
        engine.close()
    cells = [
        f"{len(images) / median_wall(seconds):.2f} ({statistics.mean(runs[name]):.1f})"
        for name, seconds in taken.items()
    ]
    return f"| {size} | {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.batching",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    parser.add_argument("--threads", type=at_least(1), help="default: the cores")
    parser.add_argument("--repeats", type=at_least(1), default=5, metavar="N", help="turns (default: 5)")
    default = [parse_size(text) for text in SIZES]
    parser.add_argument("--sizes", nargs="+", type=parse_size, metavar="WxH", default=default)
    options = parser.parse_args(arguments)
    return run_command(lambda: _show(options))


def _show(options: argparse.Namespace) -> int:
    threads = options.threads or usable_cores()
    print(*batching_table(options.model, options.sizes, threads, options.repeats), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
