"""Streaks in planes one behind another: the farther, the shorter, thinner, fainter and the more of them.

So real rain is seen (Garg and Nayar, "Vision and rain", 2007): what falls farther away is smaller in the
picture and there is more of it in view. It is bright in places without being a veil.
"""

from dataclasses import dataclass

import numpy as np

from training.rain.varied import Fall, Layer, Range, Streaks, VariedRain, log_uniform


@dataclass(frozen=True)
class DeepRain(VariedRain):
    """The layers of a picture are planes of one rain; the ranges are of the nearest."""

    planes: tuple[int, int] = (2, 5)
    cover: Range = (0.004, 0.12)  # how many streaks of the nearest plane lie over a pixel on average
    sways_deg: float = 2.5  # standard deviation of a plane's lean from that of all
    most_cover: float = 0.8  # of a plane; of hard ones, which should not close, `most_hard_cover`
    most_hard_cover: float = 0.3

    def _draw_layers(self, rng: np.random.Generator) -> list[Layer]:
        count = int(rng.integers(self.planes[0], self.planes[1] + 1))
        tilt_deg = rng.uniform(-self.angle_deg, self.angle_deg)
        length_px = log_uniform(rng, self.length_px)
        sigma_px = min(log_uniform(rng, self.sigma_px), self.thickest * length_px)
        brightness = log_uniform(rng, self.brightness)
        cover = log_uniform(rng, self.cover)
        dims, multiplies = rng.uniform(0.2, 1), rng.uniform(0, 2)  # powers of the distance
        fade, spread = float(rng.uniform(0, 1)), float(rng.uniform(0.2, 0.95))
        hardness, threshold = None, 0.0
        if rng.random() < self.hard_share:
            hardness, threshold = log_uniform(rng, (1.5, 8)), float(rng.uniform(0.02, 0.4))
        most = self.most_cover if hardness is None else self.most_hard_cover
        planes: list[Layer] = []
        for distance in range(1, count + 1):
            fall = Fall(
                max(3.0, length_px / distance),
                max(0.4, sigma_px / distance**0.7),
                tilt_deg + rng.normal(0, self.sways_deg),
                fade,
            )
            density = min(most, cover * distance**multiplies) / fall.area_px
            dimmed = brightness * distance**-dims
            planes.append(Streaks(fall, density, dimmed, spread, hardness, threshold))
        excess = sum(plane.mean for plane in planes) / rng.uniform(*self.highest_mean)
        return [plane.thinned(excess) for plane in planes] if excess > 1 else planes


DEEP = DeepRain(
    name="deep",
    angle_deg=40,
    length_px=(12, 110),
    sigma_px=(0.6, 2.5),
    brightness=(0.15, 0.9),
    veil_share=0,
    gust_share=0.25,
    tint=0.02,
)
