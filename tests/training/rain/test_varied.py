"""Varied rain as physics: what its layers promise is what they render."""

from dataclasses import replace

import numpy as np
import pytest

from derain.arrays import FloatArray
from training.rain.varied import (
    ACCUMULATED,
    DENSE,
    VARIED,
    Fall,
    Layer,
    Sheet,
    Streaks,
    VariedRain,
    draw_gusts,
)

FALL = Fall(length_px=20, sigma_px=1.0, angle_deg=20, fade=0.5)
STREAKS = Streaks(FALL, density=5e-4, brightness=0.4, spread=0.5)
SHEET = Sheet(FALL, threshold=0.3, contrast=0.8, brightness=0.5)
GREY = np.full((300, 300, 3), 120, dtype=np.uint8)


def render(layer: Layer, side_px: int = 600, seed: int = 0) -> np.ndarray:
    return layer.render(side_px, side_px, np.random.default_rng(seed))


@pytest.mark.parametrize("sigma_px", [0.7, 2.5, 5.0], ids=["pixels", "cells of 2", "cells of 4"])
@pytest.mark.parametrize("layer", [STREAKS, SHEET, replace(SHEET, threshold=-0.5, contrast=0.3)])
def test_mean_brightness_is_as_computed(layer: Layer, sigma_px: float) -> None:
    """At whatever scale it is drawn: over a large canvas, within what chance allows."""
    fall = replace(FALL, length_px=40, sigma_px=sigma_px)
    layer = replace(layer, fall=fall)
    if isinstance(layer, Streaks):
        layer = replace(layer, density=layer.density / 10)  # so that few overlap and none is clipped
    means = [float(render(layer, seed=seed).mean()) for seed in range(6)]
    error = np.std(means, ddof=1) / np.sqrt(len(means))
    assert np.mean(means) == pytest.approx(layer.mean, rel=0.05, abs=4 * error)


def test_cover_of_a_sheet_is_the_share_that_is_wet() -> None:
    sheet = replace(SHEET, contrast=100.0)
    assert (render(sheet) > 0).mean() == pytest.approx(sheet.cover, abs=0.02)


def test_bars_are_flat_with_steep_edges() -> None:
    bars = replace(STREAKS, spread=0.0, hardness=8.0, threshold=0.2)
    wet = render(bars)[render(bars) > 0]
    full = np.isclose(wet, bars.brightness)
    assert full.mean() > 0.5
    soft = render(replace(bars, hardness=None))
    assert np.isclose(soft[soft > 0.02], bars.brightness).mean() < 0.1


def test_bars_of_one_layer_differ_in_size() -> None:
    """The fainter a seed, the less of its streak is beyond the threshold."""
    bars = replace(STREAKS, spread=0.9, hardness=8.0, threshold=0.3, density=1e-4)
    of_one_brightness = replace(bars, spread=0.0)
    areas = [(render(layer) > 0).mean() for layer in (bars, of_one_brightness)]
    assert areas[0] < 0.8 * areas[1]


@pytest.mark.parametrize("layer", [STREAKS, SHEET])
def test_streaks_lie_along_the_fall(layer: Layer) -> None:
    """Brightness changes slowly along it, fast across."""
    upright = render(replace(layer, fall=replace(FALL, angle_deg=0)))
    assert np.abs(np.diff(upright, axis=1)).mean() > 2 * np.abs(np.diff(upright, axis=0)).mean()


@pytest.mark.parametrize("layer", [STREAKS, SHEET])
def test_thinned_rain_has_that_much_less(layer: Layer) -> None:
    assert layer.thinned(3).mean == pytest.approx(layer.mean / 3)


@pytest.mark.parametrize("cell_px", [7.0, 50.0, 400.0])
def test_gusts_are_smooth_and_go_from_nothing_to_all(cell_px: float) -> None:
    gusts = draw_gusts(300, 500, cell_px, np.random.default_rng(1))
    assert gusts.shape == (300, 500)
    assert gusts.min() >= 0
    assert gusts.max() <= 1
    assert np.ptp(gusts) > 0.3
    steps = max(np.abs(np.diff(gusts, axis=axis)).max() for axis in (0, 1))
    assert steps < 4 / cell_px


def test_rain_stays_below_its_highest_mean() -> None:
    """But for what the veil adds; most images are far below."""
    dense = replace(VARIED, highest_mean=(0.1, 0.1), density=(0.1, 0.2), layers=1)
    dense = replace(dense, hard_share=0, veil_share=0, gust_share=0)
    means = [float(dense.layer(200, 200, 0, index).mean()) for index in range(40)]
    assert np.mean(means) < 0.11
    assert max(means) < 0.2


@pytest.mark.parametrize("veil_share", [0.0, 1.0])
def test_veil_lies_between_the_streaks(veil_share: float) -> None:
    rain = replace(VARIED, veil_share=veil_share, gust_share=0, sheet_share=0, density=(5e-3, 5e-3))
    driest = [float(rain.layer(100, 100, 0, index).min()) for index in range(20)]
    assert bool(np.median(driest) > 0.01) == (veil_share == 1.0)


def test_sheets_that_are_closed_are_a_veil_with_streaks_in_it() -> None:
    """Hardly anywhere dry, and streaks of it differ by a fifteenth to two thirds of its mean."""
    rain = replace(ACCUMULATED, sheet_share=1, closed_share=1, layers=1, gust_share=0, veil_share=0)
    rains = [rain.layer(200, 200, 0, index) for index in range(20)]
    assert all((drawn > 0).mean() > 0.9 for drawn in rains)
    relative = [float(drawn.std() / drawn.mean()) for drawn in rains]
    assert 0.03 < min(relative) < 0.12
    assert 0.3 < max(relative) < 0.7
    open_rain = replace(rain, closed_share=0)
    assert np.mean([(open_rain.layer(200, 200, 0, index) == 0).mean() for index in range(20)]) > 0.2


def test_accumulated_rain_is_more_here_than_there() -> None:
    """In gusts as wide as an image: its sides differ by far more than chance allows."""
    gusty = replace(ACCUMULATED, gust_share=1, sheet_share=1, closed_share=1)
    still = replace(gusty, gust_share=0)

    def slope(rain: VariedRain, index: int) -> float:
        drawn = rain.layer(200, 300, 0, index)
        return float(np.ptp([part.mean() for part in np.array_split(drawn, 3, axis=1)]) / drawn.mean())

    assert np.median([slope(gusty, index) for index in range(20)]) > 0.2
    assert np.median([slope(still, index) for index in range(20)]) < 0.1


@pytest.mark.slow
def test_drops_darken_only_what_is_brighter_than_they() -> None:
    """Rain that is added or screened never darkens; translucent grey does on white."""
    white = np.full_like(GREY, 255)
    darkened = [bool((VARIED.add(white, 0, index) < 255).any()) for index in range(60)]
    assert 0.05 < np.mean(darkened) < 0.5


@pytest.mark.parametrize(("fan_share", "lit_share"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_no_rain_changes_nothing(fan_share: float, lit_share: float) -> None:
    """However it would lean, and however it would be lit."""
    dry = VariedRain(
        "dry",
        density=(1e-12, 1e-12),
        sheet_share=0,
        veil_share=0,
        fan_share=fan_share,
        lit_share=lit_share,
    )
    for index in range(12):
        np.testing.assert_array_equal(dry.add(GREY, 0, index), GREY)


# Streaks that are thin and many, alone, and upright before they fan.
UPRIGHT = replace(
    VARIED,
    layers=1,
    angle_deg=0,
    tilt_spread_deg=0,
    length_px=(20, 30),
    sigma_px=(0.7, 1.0),
    density=(4e-3, 6e-3),
    hard_share=0,
    sheet_share=0,
    veil_share=0,
    gust_share=0,
    fan_share=0,
    lit_share=0,
)


def lean(rain: FloatArray) -> float:
    """Of its streaks as a tangent, by the structure tensor; positive to the right at the bottom."""
    down, across = np.gradient(rain)
    angle = 0.5 * np.arctan2(2 * (down * across).sum(), (across**2 - down**2).sum())
    return -float(np.tan(angle))


def test_upright_rain_leans_nowhere_and_a_leaning_one_as_it_says() -> None:
    leaning = replace(UPRIGHT, angle_deg=50)
    for index in range(6):
        assert abs(lean(UPRIGHT.layer(200, 200, 0, index))) < 0.05
        (layer,) = leaning.layers_of(0, index)
        assert lean(leaning.layer(200, 200, 0, index)) == pytest.approx(
            np.tan(np.deg2rad(layer.fall.angle_deg)), abs=0.15
        )


def test_streaks_that_fan_lean_more_and_more_from_side_to_side() -> None:
    """Evenly over the width, outwards or inwards; rain that does not fan leans alike everywhere."""
    fanned = replace(UPRIGHT, fan_share=1)

    def leans(rain: VariedRain, index: int) -> list[float]:
        return [lean(part) for part in np.array_split(rain.layer(200, 300, 0, index), 3, axis=1)]

    changes = []
    for index in range(12):
        left, middle, right = leans(fanned, index)
        assert middle == pytest.approx((left + right) / 2, abs=0.12)
        changes.append(right - left)
    assert min(changes) < -0.2 and max(changes) > 0.2
    assert max(np.ptp(leans(UPRIGHT, index)) for index in range(6)) < 0.1


def test_lit_rain_is_brighter_where_there_is_light() -> None:
    """On an even background it is what it was; before a lamp it is brighter, beside one fainter."""
    lit = replace(UPRIGHT, lit_share=1, tint=0, blend_shares=(1.0, 0.0, 0.0, 0.0))
    plain = replace(lit, lit_share=0)
    scene = np.full((192, 256, 3), 20, dtype=np.uint8)
    scene[:, 128:] = 120
    for index in range(6):
        dark, bright = (
            (lit.add(scene, 0, index)[:, half].astype(int) - scene[:, half]).sum()
            / (plain.add(scene, 0, index)[:, half].astype(int) - scene[:, half]).sum()
            for half in (slice(0, 100), slice(156, 256))
        )
        assert dark < 0.9 < 1.05 < bright
        np.testing.assert_allclose(lit.add(GREY, 0, index), plain.add(GREY, 0, index), atol=1)


def test_dense_rain_hides_more_and_veils_nothing() -> None:
    """Brighter and more of it than varied rain; between its streaks it is dry."""
    black = np.zeros((160, 160, 3), dtype=np.uint8)
    dense, varied = (
        np.stack([rain.add(black, 0, index) for index in range(40)]).max(axis=-1) for rain in (DENSE, VARIED)
    )
    assert dense.mean() > 1.5 * varied.mean()
    assert (dense > 200).mean() > 2 * (varied > 200).mean()
    assert np.median((dense < 5).mean(axis=(1, 2))) > 0.15
