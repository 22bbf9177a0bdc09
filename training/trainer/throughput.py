"""How fast training data is made, and how fast a network takes it: patches a second, on one core."""

import time
from collections.abc import Callable
from functools import partial
from itertools import count

import cv2
import numpy as np
import torch

from training.data.backgrounds import cut_patch, load_folder
from training.data.dead_leaves import Leaves, draw_leaves
from training.model.derain_model import DerainModel
from training.rain.families import FAMILIES, TRAINABLE
from training.recipes import base
from training.repository import PHOTOGRAPHS
from training.trainer.loop import convolving
from training.trainer.samples import Samples

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
    for complexity in (0.0, 0.5, base().backgrounds.leaves.complexity, 1.0):
        world = Leaves(complexity, _LEAVES_PX)
        images = rate(partial(draw_leaves, world, 0), seconds)
        # An image that is drawn once is cut into as many patches as lie in it side by side, and no more.
        patches = (_LEAVES_PX // PATCH_PX) ** 2
        rates.append((f"backgrounds: dead leaves of complexity {complexity}", images * patches))
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
            losses = model.errors(batch, recipe.optimization.loss)
        losses.mean().backward()

    learnt = rate(step, seconds) * len(batch[0])
    return [("samples of the recipe base", made), ("samples that its networks learn from", learnt)]
