"""Rain as varied as we can make it: streaks and sheets, soft and hard, even and gusty, four blends.

The paper's generator draws soft streaks of one kernel a layer and adds them evenly to the whole
image. A network that has seen only this leaves other rain alone, because something about it
never varied in training. Here it does:

- streaks are soft lines or hard bars, thin or wide, and differ from one another in brightness
  and, where they are hard, in size;
- sheets of rain are levels of a Gaussian field that is drawn out along the fall, which is what
  "noise, motion blur, levels" makes in a photo editor: from scattered blots to dense curtains;
- the rain comes in gusts: a smooth field thins it here and not there, and its veil with it;
- it is added, screened, laid over as translucent grey, or screened in linear light, with a tint;
- streaks fan out, as they do where a camera looks up or down;
- drops are as bright as the light around them, so that lamps light the rain before them.

Everything is a function of (seed, index), as in `streaks.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import erf, exp, pi, sqrt
from typing import ClassVar

import cv2
import numpy as np

from derain.arrays import FloatArray, Image, to_float, to_uint8
from training.seeding import Purpose, generator

Range = tuple[float, float]  # lowest, highest

_BRIGHTEST = 2.5  # standard deviations over the mean at which a closed sheet is at its brightest
_NOISE_MEAN: Range = (0.3, 1.0)  # in standard deviations, of the noise that closed sheets are drawn out of


@dataclass(frozen=True)
class Fall:
    """The shape of what falls: a line whose profile across is a Gaussian."""

    length_px: float
    sigma_px: float
    angle_deg: float  # 0 falls straight down, positive leans to the right at the bottom
    fade: float  # share of the half length over which the ends fade out

    @property
    def area_px(self) -> float:
        """Of one streak: the sum of its kernel."""
        along_px = self.length_px + 1 - max(1.0, self.fade * self.length_px / 2)
        return along_px * self.sigma_px * sqrt(2 * pi)


@dataclass(frozen=True)
class Streaks:
    """A layer of single streaks, added to one another."""

    fall: Fall
    density: float  # share of pixels that seed a streak
    brightness: float  # of one streak at its core, 1 is white
    spread: float  # the faintest streak is dimmer by this share
    hardness: float | None = None  # of bars: how steeply they rise beyond the threshold; None is soft
    threshold: float = 0.0  # of bars: what is dimmer, as a share of the brightness, is not there

    @property
    def cover(self) -> float:
        """How many streaks lie over a pixel on average."""
        return self.density * self.fall.area_px

    @property
    def mean(self) -> float:
        """The mean brightness of a soft layer, where overlapping streaks are not clipped."""
        return self.cover * self.brightness * (1 - self.spread / 2)

    def thinned(self, factor: float) -> "Streaks":
        return replace(self, density=self.density / factor)

    def render(self, height: int, width: int, rng: np.random.Generator) -> FloatArray:
        """float32 (height, width), 0 to 1."""

        def seeds(rows: int, columns: int, cell_px: int) -> FloatArray:
            strength = rng.uniform(1 - self.spread, 1, (rows, columns)).astype(np.float32)
            falls = rng.random((rows, columns), dtype=np.float32) < self.density * cell_px**2
            return np.asarray(strength * falls, dtype=np.float32)

        streaks = _draw_out(seeds, self.fall, height, width)
        if self.hardness is not None:
            streaks = np.clip((streaks - np.float32(self.threshold)) * np.float32(self.hardness), 0, 1)
        return np.asarray(np.clip(self.brightness * streaks, 0, 1), dtype=np.float32)


@dataclass(frozen=True)
class Sheet:
    """A layer of rain too dense for single streaks: levels of a Gaussian field of unit variance."""

    fall: Fall
    threshold: float  # in standard deviations: below it is dry
    contrast: float  # rain is at its brightest 1 / contrast standard deviations above the threshold
    brightness: float

    @property
    def cover(self) -> float:
        """The share of the image that is wet."""
        return _normal_tail(self.threshold)

    @property
    def mean(self) -> float:
        """The mean brightness: that of a ramp over a normal variable, cut off at both ends."""
        ramp = _mean_excess(self.threshold) - _mean_excess(self.threshold + 1 / self.contrast)
        return self.brightness * self.contrast * ramp

    def thinned(self, factor: float) -> "Sheet":
        return replace(self, brightness=self.brightness / factor)

    def render(self, height: int, width: int, rng: np.random.Generator) -> FloatArray:
        """float32 (height, width), 0 to 1."""

        def noise(rows: int, columns: int, _cell_px: int) -> FloatArray:
            return rng.standard_normal((rows, columns), dtype=np.float32)

        field = _draw_out(noise, self.fall, height, width, unit_variance=True)
        levels = np.clip((field - np.float32(self.threshold)) * np.float32(self.contrast), 0, 1)
        return np.asarray(self.brightness * levels, dtype=np.float32)


Layer = Streaks | Sheet


@dataclass(frozen=True)
class VariedRain:
    """The ranges that rain is drawn from; shares are of all images or layers."""

    name: str
    layers: int = 3  # at most; half of the images have one
    angle_deg: float = 50  # largest tilt from the vertical, to either side
    tilt_spread_deg: float = 25  # how far a layer may lean away from the image's own angle
    length_px: Range = (6, 120)  # drawn log-uniformly, as the next two
    sigma_px: Range = (0.5, 4.0)
    brightness: Range = (0.2, 0.95)
    thickest: float = 0.12  # no streak has a sigma above this share of its length
    density: Range = (2e-4, 3e-2)  # of streaks; see `Streaks.density`; drawn log-uniformly
    hard_share: float = 0.35  # of layers of streaks
    sheet_share: float = 0.2  # of layers
    closed_share: float = 0.0  # of sheets: hardly anywhere dry, so that they are a veil with streaks in it
    highest_mean: Range = (0.05, 0.35)  # brightness beyond which rain is thinned, drawn for each image
    veil: float = 0.3  # of drops too far away to be told apart, at most; 1 is white
    veil_share: float = 0.1
    veil_cover: float = 1.0  # how many streaks lie over a pixel on average where the veil is whole
    gust_share: float = 0.4
    gust_px: Range = (50, 400)  # how far apart gusts are, drawn log-uniformly
    tint: float = 0.03  # standard deviation of the light's colour; thrice as much one time in three
    fan_share: float = 0.15  # of images whose streaks fan out
    lit_share: float = 0.25  # of images whose rain is as bright as the light around it
    blend_shares: tuple[float, float, float, float] = (0.35, 0.35, 0.15, 0.15)  # of the order of `_BLENDS`

    held_out: ClassVar[bool] = False

    def add(self, background: Image, seed: int, index: int) -> Image:
        """The background under rain number `index`, uint8 (H, W, 3)."""
        rng = generator(Purpose.VARIED, seed, index)
        rain = self._render(rng, background.shape[0], background.shape[1], seed, index)
        return self.laid_over(background, rain, rng)

    def laid_over(self, background: Image, rain: FloatArray, rng: np.random.Generator) -> Image:
        """The background under rain, float32 (H, W) from 0 to 1, in a light and a blend drawn from `rng`."""
        if rng.random() < self.lit_share:
            rain = _lit(rain, background, rng)
        spread = self.tint * (3 if rng.random() < 1 / 3 else 1)
        light = np.clip(1 + rng.normal(0, spread, 3), 0.7, 1.3).astype(np.float32)
        blend = _BLENDS[rng.choice(len(_BLENDS), p=self.blend_shares)]
        return to_uint8(blend(to_float(background), rain[..., None], light, rng))

    def layers_of(self, seed: int, index: int) -> list[Layer]:
        """What the rain of `add` consists of, but for its veil, gusts and blend."""
        return self._draw_layers(generator(Purpose.VARIED, seed, index))

    def layer(self, height: int, width: int, seed: int, index: int) -> FloatArray:
        """The rain of `add` without a background, float32 (height, width) from 0 to 1."""
        return self._render(generator(Purpose.VARIED, seed, index), height, width, seed, index)

    def _render(self, rng: np.random.Generator, height: int, width: int, seed: int, index: int) -> FloatArray:
        layers = self._draw_layers(rng)
        rain = np.zeros((height, width), dtype=np.float32)
        if rng.random() < self.veil_share:
            # Where streaks lie over streaks, there are more of them behind that no one can see.
            cover = sum(layer.cover for layer in layers) / self.veil_cover
            rain += np.float32(rng.uniform(0, self.veil) * min(1.0, cover))
        for number, layer in enumerate(layers):
            rain += layer.render(height, width, generator(Purpose.LAYER, seed, index, number))
        if rng.random() < self.fan_share:
            rain = _fanned(rain, rng)
        if rng.random() < self.gust_share:
            rain *= draw_gusts(height, width, _log_uniform(rng, self.gust_px), rng)
        return np.asarray(np.clip(rain, 0, 1), dtype=np.float32)

    def _draw_layers(self, rng: np.random.Generator) -> list[Layer]:
        count = int(rng.integers(1, self.layers + 1)) if rng.random() < 0.5 else 1
        tilt_deg = rng.uniform(-self.angle_deg, self.angle_deg)
        # Several layers share the density, so that their number does not decide how heavy it rains.
        density = _log_uniform(rng, self.density) / count
        layers = [self._draw_layer(rng, tilt_deg, density) for _ in range(count)]
        excess = sum(layer.mean for layer in layers) / rng.uniform(*self.highest_mean)
        return [layer.thinned(excess) for layer in layers] if excess > 1 else layers

    def _draw_layer(self, rng: np.random.Generator, tilt_deg: float, density: float) -> Layer:
        length_px = _log_uniform(rng, self.length_px)
        thinnest_px, widest_px = self.sigma_px
        widest_px = max(thinnest_px, min(widest_px, self.thickest * length_px))
        sigma_px = _log_uniform(rng, (thinnest_px, widest_px))
        angle_deg = tilt_deg + rng.uniform(-1, 1) * self.tilt_spread_deg
        brightness = _log_uniform(rng, self.brightness)
        if rng.random() < self.sheet_share:
            fall = Fall(length_px, sigma_px, angle_deg, fade=0.5)
            # Families without closed sheets draw nothing for them: their rain stays as it was.
            if self.closed_share and rng.random() < self.closed_share:
                return _closed_sheet(fall, brightness, rng)
            contrast = _log_uniform(rng, (0.2, 6.0))
            lowest = 0.5 if contrast > 1.2 else -1.0  # a hard sheet that closes is a wall
            return Sheet(fall, float(rng.uniform(lowest, 2.5)), contrast, brightness)
        fall = Fall(length_px, sigma_px, angle_deg, float(rng.uniform(0, 1)))
        spread = float(rng.uniform(0.2, 0.95))
        if rng.random() >= self.hard_share:
            return Streaks(fall, density, brightness, spread)
        bars = Streaks(fall, density, brightness, spread, _log_uniform(rng, (1.5, 8)), rng.uniform(0.05, 0.5))
        return bars.thinned(max(1.0, bars.cover / 0.3))  # nor should bars close


def _closed_sheet(fall: Fall, brightness: float, rng: np.random.Generator) -> Sheet:
    """Noise that is nowhere negative, drawn out along the fall: what "noise, motion blur" makes.

    The mean of such noise is some share of its deviation: 0.68 where the negative half of normal noise is
    cut off, 1.3 where it is folded over, 0.33 where a tenth of the pixels are seeds. Drawing it out over so
    many pixels leaves the mean, and of the deviation the square root of their number's part. So long streaks
    that hardly stand out are a thick veil: the veil can be told from the streaks.
    """
    threshold = -_log_uniform(rng, _NOISE_MEAN) * sqrt(fall.area_px)
    return Sheet(fall, threshold, contrast=1 / (_BRIGHTEST - threshold), brightness=brightness)


VARIED = VariedRain("varied")
# Dense and soft, often over the whole image: what varies in it is wider than a streak.
CURTAINS = VariedRain(
    name="curtains",
    angle_deg=30,
    tilt_spread_deg=10,
    length_px=(10, 300),
    sigma_px=(0.6, 5.0),
    brightness=(0.12, 0.7),
    hard_share=0,
    sheet_share=1,
    highest_mean=(0.1, 0.35),
    veil=0.25,
    veil_share=0.15,
    gust_share=0.6,
    gust_px=(100, 600),
)
# Faint streaks behind which it is bright: most of what such rain does is the veil.
VEILED = replace(
    CURTAINS,
    name="veiled",
    hard_share=0.35,
    sheet_share=0.5,
    brightness=(0.1, 0.6),
    density=(1e-3, 3e-2),
    veil=0.35,
    veil_share=0.9,
    veil_cover=0.05,
)


# So dense that it closes (the field's "rain accumulation"): a veil, thicker here than there.
ACCUMULATED = replace(
    CURTAINS,
    name="accumulated",
    length_px=(12, 160),
    sigma_px=(0.5, 2.5),
    brightness=(0.15, 0.95),
    hard_share=0.2,
    sheet_share=0.75,
    closed_share=0.8,
    highest_mean=(0.1, 0.6),
    gust_share=0.75,
    gust_px=(150, 900),
)
# Many bright streaks, added until they clip: what is behind them is gone in places, and there is no veil.
DENSE = VariedRain(
    name="dense",
    tilt_spread_deg=35,
    length_px=(10, 70),
    sigma_px=(0.5, 2.2),
    brightness=(0.4, 0.95),
    density=(4e-3, 4e-2),
    hard_share=0.25,
    sheet_share=0.1,
    highest_mean=(0.15, 0.5),
    veil_share=0.0,
    gust_share=0.2,
    blend_shares=(0.75, 0.15, 0.1, 0.0),
)


Blend = Callable[[FloatArray, FloatArray, FloatArray, np.random.Generator], FloatArray]


# Blends of a background (H, W, 3), rain (H, W, 1) and the colour of its light (3,).


def _added(clean: FloatArray, rain: FloatArray, light: FloatArray, _rng: np.random.Generator) -> FloatArray:
    return np.asarray(clean + rain * light, dtype=np.float32)


def _screened(
    clean: FloatArray, rain: FloatArray, light: FloatArray, _rng: np.random.Generator
) -> FloatArray:
    rain = np.minimum(rain * light, 1)
    return np.asarray(clean + rain - clean * rain, dtype=np.float32)


def _hidden(clean: FloatArray, rain: FloatArray, light: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Behind drops as grey as the sky: on a brighter background they are dark."""
    grey = np.float32(rng.uniform(0.6, 1.0))
    hidden = np.minimum(rain / grey, 1)
    return np.asarray(clean * (1 - hidden) + grey * light * hidden, dtype=np.float32)


def _screened_in_light(
    clean: FloatArray, rain: FloatArray, light: FloatArray, _rng: np.random.Generator
) -> FloatArray:
    """Screened before the camera's gamma: streaks stand out in the dark and drown in the bright."""
    gamma = np.float32(2.2)
    drops = np.minimum(rain * light, 1) ** 1.6  # as visible on a middle grey as without gamma
    scene = clean**gamma
    return np.asarray((scene + drops - scene * drops) ** (1 / gamma), dtype=np.float32)


_BLENDS: tuple[Blend, ...] = (_added, _screened, _hidden, _screened_in_light)


def _lit(rain: FloatArray, background: Image, rng: np.random.Generator) -> FloatArray:
    """The rain, (H, W), brighter before what shines and fainter before what is dark."""
    height, width = rain.shape
    luma = to_float(background).mean(axis=2)
    small = cv2.resize(luma, (max(2, width // 16), max(2, height // 16)), interpolation=cv2.INTER_AREA)
    around = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.5, 4))
    around = cv2.resize(around, (width, height), interpolation=cv2.INTER_LINEAR)
    gain = np.clip(around / max(float(around.mean()), 0.02), 0.15, 2.5) ** np.float32(rng.uniform(0.3, 1))
    return np.asarray(np.clip(rain * gain, 0, 1), dtype=np.float32)


_WIDEST_FAN = 1.0  # how much a streak's lean, as a tangent, changes over the image's width


def _fanned(rain: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The rain, (H, W), leaning ever more to the outside towards both sides, or to the inside."""
    height, width = rain.shape
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None]
    from_middle = x - np.float32(rng.uniform(0, width))
    lean = from_middle * np.float32(rng.uniform(-_WIDEST_FAN, _WIDEST_FAN) / width)
    source = x - lean * (y - np.float32(height / 2))
    rows = np.repeat(y, width, axis=1)
    return np.asarray(cv2.remap(rain, source, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def draw_gusts(height: int, width: int, cell_px: float, rng: np.random.Generator) -> FloatArray:
    """A smooth field, float32 (height, width) from 0 to 1, that changes over about `cell_px`."""
    rows, columns = (int(np.ceil(side / cell_px)) + 3 for side in (height, width))
    coarse = rng.uniform(-0.3, 1.3, (rows, columns)).astype(np.float32)  # a fifth of it fully dry
    top, left = rng.uniform(1, 2, 2)  # in cells; one is kept beyond each side for the interpolation
    y = np.repeat((top + np.arange(height) / cell_px)[:, None], width, axis=1).astype(np.float32)
    x = np.repeat((left + np.arange(width) / cell_px)[None], height, axis=0).astype(np.float32)
    return np.asarray(np.clip(cv2.remap(coarse, x, y, cv2.INTER_CUBIC), 0, 1), dtype=np.float32)


def _draw_out(
    make: Callable[[int, int, int], FloatArray],
    fall: Fall,
    height: int,
    width: int,
    unit_variance: bool = False,
) -> FloatArray:
    """`make(rows, columns, cell_px)` correlated with the fall's kernel, float32 (height, width).

    Wide streaks have nothing fine in them: they are drawn in cells of 2 or 4 pixels, and enlarged.
    """
    cell_px = next((cell for cell in (4, 2) if fall.sigma_px >= 1.1 * cell and fall.length_px > 5 * cell), 1)
    kernel = _kernel(fall, cell_px)
    kernel /= np.sqrt(np.square(kernel).sum()) if unit_variance else kernel.max()
    reach = kernel.shape[0] // 2
    # One cell more on each side, so that enlarging needs nothing from beyond the border.
    rows, columns = (-(-side // cell_px) + 2 for side in (height, width))
    made = make(rows + 2 * reach, columns + 2 * reach, cell_px)
    drawn = cv2.filter2D(made, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
    drawn = drawn[reach : reach + rows, reach : reach + columns]
    if cell_px > 1:
        drawn = cv2.resize(drawn, (columns * cell_px, rows * cell_px), interpolation=cv2.INTER_CUBIC)
    return np.asarray(drawn[cell_px : cell_px + height, cell_px : cell_px + width], dtype=np.float32)


def _kernel(fall: Fall, cell_px: int) -> FloatArray:
    """One streak, float32 (K, K) with K odd, in cells."""
    length, sigma = fall.length_px / cell_px, fall.sigma_px / cell_px
    reach = int(np.ceil(length / 2 + 2.5 * sigma))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    angle = np.deg2rad(fall.angle_deg)
    along = np.abs(x * np.sin(angle) + y * np.cos(angle))
    across = x * np.cos(angle) - y * np.sin(angle)
    profile = np.clip((length / 2 + 0.5 - along) / max(1.0, fall.fade * length / 2), 0, 1)
    return np.asarray(profile * np.exp(-0.5 * (across / sigma) ** 2), dtype=np.float32)


def _log_uniform(rng: np.random.Generator, bounds: Range) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _normal_tail(threshold: float) -> float:
    """P(f > threshold) of a normal variable."""
    return 0.5 * (1 - erf(threshold / sqrt(2)))


def _mean_excess(threshold: float) -> float:
    """E[max(0, f - threshold)] of a normal variable."""
    density = exp(-0.5 * threshold**2) / sqrt(2 * pi)
    return density - threshold * _normal_tail(threshold)
