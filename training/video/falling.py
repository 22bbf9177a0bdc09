"""Rain that falls through the frames of a clip.

A layer of rain is drawn once, on a canvas as high as it falls while the clip lasts, and each frame shows the
part that is before the camera then. So a drop is where it was before and has fallen on, as long as it stays
in view: by one and a half to six times the length of its streak, which is how far it falls while the shutter
is open.
"""

from collections.abc import Sequence

import numpy as np

from derain.arrays import FloatArray, Image
from training.rain.drawn import DrawnRain
from training.rain.families import FAMILIES, UnknownRainError, family
from training.rain.mixture import Mixture
from training.rain.textures import TextureRain
from training.rain.varied import Layer, VariedRain, draw_gusts
from training.seeding import Purpose, generator

FallingRain = DrawnRain | TextureRain  # kept for evaluation

_FALL_LENGTHS = (1.5, 6.0)  # of a streak, from frame to frame


def rain_on(frames: Sequence[Image], rain: Mixture | VariedRain, seed: int, index: int) -> list[Image]:
    """The clip in the rain, uint8 (H, W, 3) each, a function of (seed, index)."""
    family = rain.family_of(seed, index) if isinstance(rain, Mixture) else rain
    height, width = frames[0].shape[:2]
    rng = generator(Purpose.FALLING, seed, index)
    layers = family.layers_of(seed, index)
    falling = [
        _falling(layer, len(frames), height, width, rng, generator(Purpose.LAYER, seed, index, number))
        for number, layer in enumerate(layers)
    ]
    cover = sum(layer.cover for layer in layers) / family.veil_cover
    veil = rng.uniform(0, family.veil) * min(1.0, cover) * (rng.random() < family.veil_share)
    gusts = np.ones((height, width), np.float32)
    if rng.random() < family.gust_share:
        gusts = draw_gusts(height, width, float(np.exp(rng.uniform(*np.log(family.gust_px)))), rng)
    rainy = []
    for number, frame in enumerate(frames):
        fallen = np.clip((sum(layer[number] for layer in falling) + np.float32(veil)) * gusts, 0, 1)
        same = generator(Purpose.FALLING, seed, index, 1)  # light and blend are those of the clip
        rainy.append(family.laid_over(frame, fallen, same))
    return rainy


def _falling(
    layer: Layer,
    frames: int,
    height: int,
    width: int,
    rng: np.random.Generator,
    drawing: np.random.Generator,
) -> list[FloatArray]:
    """One layer in each frame, float32 (height, width)."""
    angle = np.deg2rad(layer.fall.angle_deg)
    # Beyond the height of a frame nothing is seen twice.
    step_px = min(layer.fall.length_px * rng.uniform(*_FALL_LENGTHS), 1.0 * height)
    down_px, right_px = round(step_px * np.cos(angle)), round(step_px * np.sin(angle))
    later = frames - 1
    canvas = layer.render(height + later * down_px, width + later * abs(right_px), drawing)
    seen = []
    for frame in range(frames):
        top = (later - frame) * down_px
        left = (later - frame if right_px > 0 else frame) * abs(right_px)
        seen.append(np.ascontiguousarray(canvas[top : top + height, left : left + width]))
    return seen


def falling_rain(text: str) -> FallingRain:
    """A family as `training.rain.families.family` reads it. Raises UnknownRainError for one that falls in
    single images alone.
    """
    found = family(text)
    if not isinstance(found, FallingRain):
        drawn = ", ".join(name for name, each in FAMILIES.items() if isinstance(each, DrawnRain))
        raise UnknownRainError(f"{text} does not fall from frame to frame: {drawn} and textures:FOLDER do")
    return found


def held_out_rain_on(frames: Sequence[Image], rain: FallingRain, seed: int, index: int) -> list[Image]:
    """The clip in the rain. Rain layers of a folder fall at random."""
    if isinstance(rain, DrawnRain):
        return [rain.add(frame, seed, index, float(time)) for time, frame in enumerate(frames)]
    return rain.fall_on(frames, seed, index)
