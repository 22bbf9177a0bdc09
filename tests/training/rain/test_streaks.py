"""Rain as physics."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derain.arrays import FloatArray, Image
from training.rain.streaks import (
    HIGHEST_MEAN,
    LARGE,
    MEDIUM,
    RANGES,
    SMALL,
    Blend,
    Layer,
    Rain,
    RainRange,
    compose,
    draw_rain,
    render_layer,
    render_rain,
    sigma_px,
    streak_kernel,
)

BLENDS: tuple[Blend, ...] = ("add", "screen")
GREY_LEVELS = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
STREAKS = Layer(density=2e-3, length_px=12, width_px=2, angle_deg=15, brightness=0.3)


def render(layer: Layer, side_px: int, seed: int = 0) -> FloatArray:
    return render_layer(layer, side_px, side_px, np.random.default_rng(seed))


# Composition


@pytest.mark.parametrize("blend", BLENDS)
def test_no_rain_changes_nothing(blend: Blend) -> None:
    none = render(replace(STREAKS, density=0), 16)
    assert not none.any()
    np.testing.assert_array_equal(compose(GREY_LEVELS, none, blend), GREY_LEVELS)


@pytest.mark.parametrize("blend", BLENDS)
def test_rain_only_brightens(blend: Blend) -> None:
    rain = render(replace(STREAKS, density=0.1), 16)
    rainy = compose(GREY_LEVELS, rain, blend)
    assert (rainy >= GREY_LEVELS).all()
    assert (rainy > GREY_LEVELS).any()


def test_adding_clips_and_screening_stays_below_white() -> None:
    half = np.full((16, 16), 0.5, dtype=np.float32)
    level = np.arange(256).reshape(16, 16)
    added, screened = (compose(GREY_LEVELS, half, blend)[..., 0] for blend in BLENDS)
    np.testing.assert_allclose(added, np.minimum(level + 127.5, 255), atol=0.51)
    np.testing.assert_allclose(screened, 255 - (255 - level) / 2, atol=0.51)
    assert (np.diff(screened.ravel()[::4].astype(int)) > 0).all(), "what was brighter stays brighter"


# Streaks


@pytest.mark.parametrize(
    ("length_px", "width_px", "angle_deg"),
    [(30, 3, 0), (30, 3, 25), (50, 1, -60), (60, 9, 70), (20, 5, 45), (100, 17, -10)],
)
def test_streak_measures_what_was_asked_for(length_px: float, width_px: float, angle_deg: float) -> None:
    kernel = streak_kernel(length_px, width_px, angle_deg)
    reach_px = kernel.shape[0] // 2
    y, x = np.mgrid[-reach_px : reach_px + 1, -reach_px : reach_px + 1]
    # Principal axes of the streak, taken as a distribution of light over the plane.
    variances, axes = np.linalg.eigh(np.cov(x.ravel(), y.ravel(), aweights=kernel.ravel()))
    across_px2, along_px2 = variances
    right, down = axes[:, 1] * np.sign(axes[1, 1])
    assert np.rad2deg(np.arctan2(right, down)) == pytest.approx(angle_deg, abs=1)
    assert np.sqrt(12 * along_px2) == pytest.approx(length_px, rel=0.03)  # of a uniform distribution
    assert np.sqrt(across_px2) == pytest.approx(sigma_px(width_px), rel=0.1)
    assert kernel.max() == 1 == kernel[reach_px, reach_px]


@pytest.mark.parametrize("taps", [11, 13, 17])
def test_width_follows_opencvs_rule(taps: int) -> None:
    centre, next_to_it = cv2.getGaussianKernel(taps, -1)[taps // 2 : taps // 2 + 2, 0]
    assert sigma_px(taps) == pytest.approx(np.sqrt(0.5 / np.log(centre / next_to_it)))


def test_fade_dims_the_ends_alone() -> None:
    abrupt, faded = (streak_kernel(41, 3, 0, fade).max(axis=1) for fade in (0, 1))
    centre = len(faded) // 2
    assert faded[centre] == abrupt[centre] == 1
    assert (np.diff(faded[centre : centre + 20]) < 0).all()
    assert (abrupt[centre : centre + 20] == 1).all()


# Brightness


@pytest.mark.parametrize(
    "layer",
    [
        Layer(0.05, length_px=30, width_px=3, angle_deg=0, brightness=0.01),
        Layer(0.05, length_px=40, width_px=9, angle_deg=-50, brightness=0.01, fade=0.5),
        Layer(0.05, length_px=60, width_px=5, angle_deg=30, brightness=0.01, brightness_spread=0.8),
        Layer(0.05, length_px=20, width_px=2, angle_deg=10, brightness=0.01, fade=1),
    ],
    ids=["plain", "fading", "uneven", "short and fading"],
)
def test_layer_mean_is_the_mean_of_the_picture(layer: Layer) -> None:
    assert layer.mean == pytest.approx(float(render(layer, 512).mean()), rel=0.05)


@pytest.mark.parametrize("side_px", [64, 256, 1024])
def test_brightness_does_not_depend_on_the_canvas(side_px: int) -> None:
    """Of the same area cut into small or large canvases. The original's small ones are brighter."""
    layer = Layer(density=1e-3, length_px=12, width_px=2, angle_deg=15, brightness=0.3)
    canvases = np.stack([render(layer, side_px, seed) for seed in range((1024 // side_px) ** 2)])
    assert canvases.mean() == pytest.approx(layer.mean, rel=0.15)
    # One pixel in a thousand is a streak's core; the brightest is where two or three streaks cross.
    assert np.quantile(canvases, 0.999) == pytest.approx(layer.brightness, rel=0.02)
    assert 1 <= canvases.max() / layer.brightness <= 3


def test_rain_is_even_up_to_the_border() -> None:
    """A patch looks like a crop: streaks that begin outside reach in."""
    layer = replace(STREAKS, density=0.02, length_px=60, brightness=0.01)
    mean = np.mean([render(layer, 128, seed) for seed in range(40)], axis=0)
    border = np.ones(mean.shape, dtype=bool)
    border[8:-8, 8:-8] = False
    assert mean[border].mean() == pytest.approx(mean[~border].mean(), rel=0.05)


# Drawing


def test_seed_and_index_decide_the_picture(picture: Image) -> None:
    numbers = [(seed, index) for seed in range(3) for index in range(4)]
    first = [LARGE.add(picture, *pair) for pair in numbers]
    again = [LARGE.add(picture, *pair) for pair in reversed(numbers)][::-1]
    np.testing.assert_array_equal(first, again)
    assert len({rainy.tobytes() for rainy in first}) == len(numbers)
    assert len({draw_rain(LARGE, *pair) for pair in numbers}) == len(numbers)


def test_seed_index_and_layer_decide_where_streaks_fall() -> None:
    one, twice = Rain((STREAKS,), "add"), Rain((STREAKS, STREAKS), "add")
    falls = [render_rain(one, 64, 64, seed, index) for seed in range(2) for index in range(2)]
    assert len({fall.tobytes() for fall in falls}) == 4
    np.testing.assert_array_equal(render_rain(one, 64, 64, 1, 1), falls[-1])
    second = render_rain(twice, 64, 64, 1, 1) - falls[-1]
    assert np.abs(second - falls[-1]).max() > STREAKS.brightness / 2


@settings(deadline=None)
@given(st.sampled_from(RANGES), st.integers(0, 2**40), st.integers(0, 2**40))
def test_drawn_rain_lies_within_its_range(ranges: RainRange, seed: int, index: int) -> None:
    rain = draw_rain(ranges, seed, index)
    assert ranges.layers[0] <= len(rain.layers) <= ranges.layers[1]
    assert sum(layer.density for layer in rain.layers) <= ranges.density[1] * (1 + 1e-9)
    assert sum(layer.mean for layer in rain.layers) <= HIGHEST_MEAN * (1 + 1e-9)
    assert 0 <= rain.veil <= ranges.veil[1]
    assert rain.blend in {"add"} | ({"screen"} if ranges.screen_share else set())
    angles_deg = [layer.angle_deg for layer in rain.layers]
    assert max(angles_deg) - min(angles_deg) <= 2 * ranges.tilt_spread_deg
    for layer in rain.layers:
        assert ranges.length_px[0] <= layer.length_px <= ranges.length_px[1]
        assert layer.width_px in ranges.width_px
        assert layer.width_px <= ranges.thickest * layer.length_px
        assert abs(layer.angle_deg) <= ranges.angle_deg + ranges.tilt_spread_deg
        assert within(layer.brightness, ranges.brightness)
        assert within(layer.fade, ranges.fade)


def test_heaviness_is_capped() -> None:
    """Of any number of layers, however dense; where the cap does not bind it changes nothing."""
    dense = RainRange("dense", (0.19, 0.2), (2, 3), (60, 100), 60, (0.3, 0.5), layers=(1, 4))
    fallen = [render_rain(draw_rain(dense, 0, index), 192, 192, 0, index).mean() for index in range(16)]
    assert np.mean(fallen) == pytest.approx(HIGHEST_MEAN, rel=0.1)
    assert max(fallen) < 1.4 * HIGHEST_MEAN
    light = [draw_rain(replace(dense, density=(1e-4, 1e-4)), 0, index).layers for index in range(64)]
    assert [sum(layer.density for layer in layers) for layers in light] == pytest.approx([1e-4] * 64)
    assert {len(layers) for layers in light} == {1, 2, 3, 4}, "however many layers share the density"


def test_veil_is_even_and_comes_with_dense_rain_alone() -> None:
    np.testing.assert_array_equal(render_rain(Rain((), "add", veil=0.25), 4, 4, 0, 0), 0.25)
    dense, sparse = (
        RainRange("veiled", (density, density), (3,), (60, 60), 0, (0.1, 0.1), veil=(0.2, 0.2))
        for density in (1e-1, 1e-5)
    )
    assert draw_rain(dense, 0, 0).veil == pytest.approx(0.2)
    assert 0 < draw_rain(sparse, 0, 0).veil < 0.01 * 0.2


@pytest.mark.parametrize(("inner", "outer"), [(SMALL, MEDIUM), (MEDIUM, LARGE)])
def test_paper_ranges_are_nested(inner: RainRange, outer: RainRange) -> None:
    assert set(inner.width_px) <= set(outer.width_px)
    assert inner.angle_deg <= outer.angle_deg
    for name in ("density", "length_px", "brightness"):
        for end in getattr(inner, name):
            assert within(end, getattr(outer, name))


def within(value: float, ends: tuple[float, float]) -> bool:
    return ends[0] * (1 - 1e-9) <= value <= ends[1] * (1 + 1e-9)
