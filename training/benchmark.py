"""How fast training data is made, and how fast a network takes it: patches a second, on one core.

    python -m training.benchmark

Times are of this machine at this moment: compare what one run prints, not one run with another.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count

import cv2
import numpy as np
import torch

from derain.arguments import at_least, run_command
from training.backgrounds import Leaves, cut_patch, draw_leaves, load_folder
from training.loop import convolving
from training.model import DerainModel
from training.rain.families import FAMILIES, TRAINABLE
from training.recipes import PHOTOGRAPHS, base
from training.samples import Samples

PATCH_PX = 128
_LEAVES_PX = 256


def rate(
    make: Callable[[int], object], seconds: float, clock: Callable[[], float] = time.process_time
) -> float:
    """How often `make`, called with 0, 1, 2 and so on, is done in a second of the processor's time."""
    make(0)  # what is only made once is not measured
    started = clock()
    for index in count(1):
        make(index)
        elapsed = clock() - started
        if elapsed > seconds:
            return index / elapsed
    raise AssertionError("count does not end")


def measure(seconds: float) -> list[tuple[str, float]]:
    """What was made, and how many patches of it a second."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rates: list[tuple[str, float]] = []
    photographs = load_folder(PHOTOGRAPHS, None, seed=0)
    patch = cut_patch(photographs[0], PATCH_PX, rng)
    cut = rate(lambda index: cut_patch(photographs[index % len(photographs)], PATCH_PX, rng), seconds)
    rates.append(("backgrounds: cut from photographs", cut))
    for complexity in (0.0, 0.5, base().leaves.complexity, 1.0):
        world = Leaves(complexity, _LEAVES_PX)
        pictures = rate(partial(draw_leaves, world, 0), seconds)
        # A picture that is drawn once is cut into as many patches as lie in it side by side, and no more.
        patches = (_LEAVES_PX // PATCH_PX) ** 2
        rates.append((f"backgrounds: dead leaves of complexity {complexity}", pictures * patches))
    rain = [(f"rain: {name}", rate(partial(FAMILIES[name].add, patch, 0), seconds)) for name in TRAINABLE]
    return rates + rain


def measure_training(seconds: float) -> list[tuple[str, float]]:
    """The shipped model's: samples that one worker makes, and samples that its networks learn from."""
    recipe = base()
    samples = Samples(recipe)
    made = rate(lambda index: samples[index], seconds)
    model = DerainModel(recipe.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = tuple(torch.stack(each) for each in zip(*(samples[index] for index in range(4)), strict=True))

    def step(_index: int) -> None:
        with convolving(torch.device("cpu")):
            losses = model.errors(batch, recipe.loss)
        losses.mean().backward()

    learnt = rate(step, seconds) * len(batch[0])
    return [("samples of the recipe base", made), ("samples that its networks learn from", learnt)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.benchmark", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=at_least(1), default=2, help="for each line (default: 2)")
    options = parser.parse_args(arguments)
    return run_command(lambda: _show(options.seconds))


def _show(seconds: float) -> int:
    print(f"patches of {PATCH_PX} px a second, on one core")
    for name, per_second in measure(seconds):
        print(f"{per_second:8.0f}  {name}")
    print("samples a second in training, on one core each")
    for name, per_second in measure_training(seconds):
        print(f"{per_second:8.0f}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
