"""Random numbers from (seed, index) and what they are for, never from what was drawn before."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Numbers drawn for one purpose say nothing about those drawn for another."""

    SAMPLE = 1
    LEAVES = 2
    RAIN = 3  # the parameters of an image's rain
    LAYER = 4  # where the streaks of one of its layers lie
    TEXTURE = 5
    RAINMIX = 6
    VARIED = 7
    MIXTURE = 8
    CAMERA = 9
    WRITING = 10
    PATCHES = 11
    TONE = 12
    FACADE = 13
    DOCUMENT = 14
    NIGHT = 15
    SCALE = 16
    MOTION = 17
    FALLING = 18
    CLIP = 19


def generator(purpose: Purpose, seed: int, index: int, part: int = 0) -> np.random.Generator:
    # Of fixed length: numpy takes [1, 2] and [1, 2, 0] for the same.
    return np.random.default_rng([purpose, seed, index, part])
