"""Rain as the paper makes it: seed noise, streak kernel, rain layer, composition.

The generator behind "Networks are Slacking Off" (Gu et al., NeurIPS 2023) scatters seed
pixels, correlates them with a rotated line kernel and adds the result to the background.
It also stretches every layer to the full range of brightness, which makes streaks the
brighter the smaller the canvas is. Here one streak has the brightness that was drawn for
it, whatever the canvas, and seeds lie beyond the canvas too, so that a patch looks like a
crop of a larger picture.

Everything is a function of (seed, index): the same two numbers give the same rain.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import cv2
import numpy as np

from derain.arrays import FloatArray, Image, to_float, to_uint8
from training.randomness import Purpose, generator

Blend = Literal["add", "screen"]


@dataclass(frozen=True)
class RainRange:
    """The ranges that rain is drawn from; each pair is (lowest, highest).

    A wide range is the paper's first lever: the wider the rain, the harder it is to
    memorise and the sooner a network learns the background instead.
    """

    name: str
    density: tuple[float, float]  # share of pixels that seed a streak, drawn log-uniformly
    width_px: tuple[float, ...]  # size of the Gaussian across the streak, one of these
    length_px: tuple[float, float]
    angle_deg: float  # largest tilt from the vertical, to either side
    brightness: tuple[float, float]  # of one streak at its core, 1 is white; drawn log-uniformly
    thickest: float = 1.0  # no streak is wider than this share of its length
    layers: tuple[int, int] = (1, 1)  # layers of different rain on one picture
    tilt_spread_deg: float = 0.0  # how far a layer may lean away from the picture's own angle
    fade: tuple[float, float] = (0.0, 0.0)  # share of the length over which the ends fade out
    brightness_spread: float = 0.0  # the faintest streak of a layer is dimmer by this share
    screen_share: float = 0.0  # how often rain is screened on instead of added
    veil: tuple[float, float] = (0.0, 0.0)  # see `Rain.veil`; of rain so dense that streaks overlap

    held_out: ClassVar[bool] = False

    def add(self, background: Image, seed: int, index: int) -> Image:
        """The background under rain number `index`, uint8 (H, W, 3)."""
        rain = draw_rain(self, seed, index)
        height, width = background.shape[:2]
        return compose(background, render_rain(rain, height, width, seed, index), rain.blend)

    def layer(self, height: int, width: int, seed: int, index: int) -> FloatArray:
        """The rain of `add` without a background, float32 (height, width) from 0 to 1."""
        return render_rain(draw_rain(self, seed, index), height, width, seed, index)


# The paper's nested ranges. Its "quantity" of 200 to 300 is a density of quantity / 25600.
# The brightness of one streak is what the original's stretching gives it on a 512 px canvas
# (5th to 95th percentile of 40 layers).
_PAPER_DENSITY = (200 / 25600, 300 / 25600)
SMALL = RainRange("small", _PAPER_DENSITY, (5,), (30, 31), 5, (0.10, 0.18))
MEDIUM = RainRange("medium", _PAPER_DENSITY, (3, 5, 7), (20, 40), 30, (0.09, 0.21))
LARGE = RainRange("large", _PAPER_DENSITY, (1, 3, 5, 7, 9), (5, 60), 70, (0.09, 0.30))

# Ours: from drizzle to downpour, in one to four layers, added or screened.
WIDE = RainRange(
    name="wide",
    density=(1e-4, 2e-1),
    width_px=(1, 2, 3, 4, 5, 7, 9, 13, 17),
    length_px=(5, 100),
    angle_deg=60,
    brightness=(0.06, 0.9),
    thickest=0.25,
    layers=(1, 4),
    tilt_spread_deg=25,
    fade=(0.0, 1.0),
    brightness_spread=0.5,
    screen_share=0.5,
)
# The same with a veil. Harder: how much of the light is veil can only be guessed from the streaks.
MISTY = replace(WIDE, name="misty", veil=(0.0, 0.2))
RANGES = (SMALL, MEDIUM, LARGE, WIDE, MISTY)

# Overlapping streaks add up. Where the mean brightness of the rain would exceed this, fewer
# streaks fall: beyond it rain turns into an even fog, and no one can tell fog from a bright day.
HIGHEST_MEAN = 0.25


@dataclass(frozen=True)
class Layer:
    """One layer of rain: streaks that share their length, width and angle."""

    density: float  # share of pixels that seed a streak
    length_px: float
    width_px: float
    angle_deg: float  # 0 falls straight down, positive leans to the right at the bottom
    brightness: float  # of one streak at its core, 1 is white
    fade: float = 0.0  # 0: the streak ends abruptly, 1: it fades from the middle on
    brightness_spread: float = 0.0  # the faintest streak is dimmer by this share

    @property
    def cover(self) -> float:
        """How many streaks lie over a pixel on average: their number times the area of one."""
        along_px = self.length_px + 1 - _ramp_px(self.length_px, self.fade)
        return float(self.density * along_px * sigma_px(self.width_px) * np.sqrt(2 * np.pi))

    @property
    def mean(self) -> float:
        """The mean brightness of the layer, where overlapping streaks are not clipped."""
        return self.cover * self.brightness * (1 - self.brightness_spread / 2)


@dataclass(frozen=True)
class Rain:
    """What falls on one picture."""

    layers: tuple[Layer, ...]
    blend: Blend
    veil: float = 0.0  # the even brightness of drops too far away to be told apart, 1 is white


def draw_rain(ranges: RainRange, seed: int, index: int) -> Rain:
    """The parameters of sample `index`, a function of (seed, index) and the ranges."""
    rng = generator(Purpose.RAIN, seed, index)
    lowest, highest = ranges.layers
    count = int(rng.integers(lowest, highest + 1)) if rng.random() < 0.5 else lowest
    tilt_deg = rng.uniform(-ranges.angle_deg, ranges.angle_deg)
    # Several layers share the density, so that their number does not decide how heavy it rains.
    density = np.exp(rng.uniform(*np.log(ranges.density))) / count
    layers = [
        Layer(
            density=float(density),
            length_px=float(length_px := rng.uniform(*ranges.length_px)),
            width_px=float(rng.choice([w for w in ranges.width_px if w <= length_px * ranges.thickest])),
            angle_deg=float(tilt_deg + rng.uniform(-1, 1) * ranges.tilt_spread_deg),
            brightness=float(np.exp(rng.uniform(*np.log(ranges.brightness)))),
            fade=float(rng.uniform(*ranges.fade)),
            brightness_spread=ranges.brightness_spread,
        )
        for _ in range(count)
    ]
    excess = sum(layer.mean for layer in layers) / HIGHEST_MEAN
    if excess > 1:
        layers = [replace(layer, density=layer.density / excess) for layer in layers]
    blend: Blend = "screen" if rng.random() < ranges.screen_share else "add"
    # Where streaks lie over streaks, there are more of them behind that no one can see.
    veil = rng.uniform(*ranges.veil) * min(1.0, sum(layer.cover for layer in layers))
    return Rain(tuple(layers), blend, float(veil))


def sigma_px(width_px: float) -> float:
    """The Gaussian that blurs the paper's kernel: OpenCV's rule for `width_px` taps."""
    return 0.3 * ((width_px - 1) / 2 - 1) + 0.8


def streak_kernel(length_px: float, width_px: float, angle_deg: float, fade: float = 0.0) -> FloatArray:
    """One streak, float32 (K, K) with K odd, 1 at its core: a line with a Gaussian profile."""
    reach_px = int(np.ceil(length_px / 2 + 3 * sigma_px(width_px)))
    y, x = np.mgrid[-reach_px : reach_px + 1, -reach_px : reach_px + 1].astype(np.float32)
    angle = np.deg2rad(angle_deg)
    along = np.abs(x * np.sin(angle) + y * np.cos(angle))
    across = x * np.cos(angle) - y * np.sin(angle)
    profile = np.clip((length_px / 2 + 0.5 - along) / _ramp_px(length_px, fade), 0, 1)
    kernel = profile * np.exp(-0.5 * (across / sigma_px(width_px)) ** 2)
    return np.asarray(kernel / kernel.max(), dtype=np.float32)


def _ramp_px(length_px: float, fade: float) -> float:
    """Where an end fades out; within one pixel at least, so that short streaks are not jagged."""
    return max(1.0, fade * length_px / 2)


def render_layer(layer: Layer, height: int, width: int, rng: np.random.Generator) -> FloatArray:
    """A rain layer, float32 (height, width) from 0 (none) to 1 (white)."""
    kernel = streak_kernel(layer.length_px, layer.width_px, layer.angle_deg, layer.fade)
    reach_px = kernel.shape[0] // 2
    seeded = (height + 2 * reach_px, width + 2 * reach_px)
    strength = rng.uniform(1 - layer.brightness_spread, 1, seeded).astype(np.float32)
    seeds = strength * (rng.random(seeded, dtype=np.float32) < layer.density)
    streaks = cv2.filter2D(seeds, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
    streaks = streaks[reach_px : reach_px + height, reach_px : reach_px + width]
    return np.asarray(np.clip(layer.brightness * streaks, 0, 1), dtype=np.float32)


def render_rain(rain: Rain, height: int, width: int, seed: int, index: int) -> FloatArray:
    """All layers of `rain` and its veil summed, float32 (height, width) in [0, 1]."""
    total = np.full((height, width), rain.veil, dtype=np.float32)
    for number, layer in enumerate(rain.layers):
        rng = generator(Purpose.LAYER, seed, index, number)
        total += render_layer(layer, height, width, rng)
    return np.asarray(np.clip(total, 0, 1), dtype=np.float32)


def compose(background: Image, rain: FloatArray, blend: Blend) -> Image:
    """Grey rain (H, W) over a background: B + R, clipped (the paper's), or screened, B + R - BR."""
    clean = to_float(background)
    layer = rain[..., None]  # the same in red, green and blue
    rainy = clean + layer if blend == "add" else clean + layer - clean * layer
    return to_uint8(rainy)
