"""The score as physics: rain that is left raises it, rain that is gone does not, and no size breaks it."""

import json
from collections.abc import Callable
from dataclasses import astuple, fields

import cv2
import numpy as np
import pytest

from derain.arrays import RAIN_LAYER_GAIN, Image, rain_layer
from derain.monitor import WEIGHTS, Features, Reading, load_weights, monitor, read_features
from tests.conftest import noise, scene


def keep(image: Image) -> Image:
    """A network that does nothing."""
    return image


def landscape(height: int = 320, width: int = 480) -> Image:
    """Smooth light, a dark and a bright half, grain, and a fence in one corner: no rain."""
    image = scene(height, width).astype(np.int16)
    image[height // 2 :] //= 2
    image[: height // 4, : width // 4 : 12] += 50
    image += np.random.default_rng(3).normal(0, 2, image.shape).astype(np.int16)
    return np.clip(image, 0, 255).astype(np.uint8)


def rain(height: int = 320, width: int = 480, lean_px: int = 6) -> Image:
    """Bright streaks on black, 24 pixels long, all of one lean."""
    drawn = np.zeros((height, width), dtype=np.uint8)
    rng = np.random.default_rng(5)
    for x, y in rng.integers(-20, [width, height], (500, 2)).tolist():
        cv2.line(drawn, (x, y), (x + lean_px, y + 24), 90, 1, cv2.LINE_AA)
    return np.repeat(cv2.GaussianBlur(drawn, (3, 3), 0)[..., None], 3, axis=2).astype(np.uint8)


def wet(share: float) -> Image:
    return np.asarray(cv2.addWeighted(landscape(), 1, rain(), share, 0), dtype=np.uint8)


def test_a_clean_image_has_no_residual_rain() -> None:
    assert monitor(landscape(), landscape(), keep).probability < 0.3


def test_rain_left_alone_is() -> None:
    assert monitor(wet(1), wet(1), keep).probability > 0.7


def test_rain_taken_off_is_not() -> None:
    seen = monitor(wet(1), landscape(), keep)
    assert seen.probability < 0.3
    assert seen.removed_energy > 5
    assert seen.streak_likeness > 0.7


@pytest.mark.parametrize("lean_px", [-16, 0, 16])
def test_rain_of_any_lean_is_seen(lean_px: int) -> None:
    rainy = np.asarray(cv2.add(landscape(), rain(lean_px=lean_px)), dtype=np.uint8)
    assert monitor(rainy, rainy, keep).probability > 0.7


def test_the_more_is_left_the_higher() -> None:
    seen = [monitor(wet(1), wet(left), keep) for left in (0, 0.25, 0.5, 0.75, 1)]
    for rising in ("probability", "residual_lines"):
        values = [getattr(each, rising) for each in seen]
        assert values == sorted(values), rising
        assert values[-1] > values[0] + 0.3, rising
    removed = [each.removed_energy for each in seen]
    assert removed == sorted(removed, reverse=True)


def test_level_fences_and_dark_lines_are_less_than_rain() -> None:
    """Lines that lie down, and twigs that are darker than the sky behind them."""
    lying = np.asarray(cv2.add(landscape(), np.ascontiguousarray(np.rot90(rain(480, 320)))), dtype=np.uint8)
    twigs = np.asarray(cv2.subtract(landscape(), rain()), dtype=np.uint8)
    raining = monitor(wet(1), wet(1), keep).probability
    assert monitor(lying, lying, keep).probability < raining
    assert monitor(twigs, twigs, keep).probability < raining


def test_removed_texture_has_no_direction() -> None:
    assert monitor(noise(200, 200), scene(200, 200), keep).streak_likeness < 0.2


def test_the_second_look_is_the_networks_on_one_crop() -> None:
    shapes: list[tuple[int, ...]] = []

    def halve(image: Image) -> Image:
        shapes.append(image.shape)
        return image // 2

    found, _ = read_features(wet(1), wet(1), halve)
    assert shapes == [(24, 24, 3)]
    assert found.second > read_features(wet(1), wet(1), keep)[0].second


def test_it_looks_where_the_rain_is() -> None:
    rainy = landscape(320, 960)
    rainy[:, 480:] = cv2.add(rainy[:, 480:], rain())
    crops: list[Image] = []

    def remember(image: Image) -> Image:
        crops.append(image)
        return image

    monitor(rainy, rainy, remember)
    (crop,) = crops
    places = cv2.matchTemplate(rainy, crop, cv2.TM_SQDIFF)
    assert cv2.minMaxLoc(places)[2][0] >= 400


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 300), (300, 1), (2, 3), (31, 33), (160, 160), (161, 500), (2, 40_000), (40_000, 2)]
)
@pytest.mark.parametrize("make", [noise, scene, lambda *size: np.zeros((*size, 3), dtype=np.uint8)])
def test_any_image_has_a_look(size: tuple[int, int], make: Callable[[int, int], Image]) -> None:
    image = make(*size)
    seen = monitor(image, 255 - image, keep)
    assert np.isfinite(astuple(seen)).all()
    assert seen.removed_energy >= 0
    assert seen.residual_lines >= 0
    assert 0 <= seen.probability <= 1
    assert 0 <= seen.streak_likeness <= 1


def test_the_same_again_is_the_same() -> None:
    before = wet(1)
    assert monitor(before, landscape(), keep) == monitor(before, landscape(), keep)
    assert np.array_equal(before, wet(1)), "images are read only"


def test_the_weights_are_of_the_signs() -> None:
    assert set(load_weights()) == {"bias", *(field.name for field in fields(Features))}
    assert json.loads(WEIGHTS.read_text())["auc_cross_validated"]["all"] > 0.8
    assert all(
        isinstance(getattr(monitor(wet(1), wet(1), keep), field.name), float) for field in fields(Reading)
    )


def test_the_rain_layer_is_what_was_removed() -> None:
    layer = rain_layer(wet(1), landscape())
    assert layer.dtype == np.uint8
    assert layer.shape == wet(1).shape
    removed = wet(1).astype(int) - landscape()
    assert np.array_equal(layer, np.clip(removed, 0, 255 // RAIN_LAYER_GAIN) * RAIN_LAYER_GAIN)
    assert not rain_layer(landscape(), wet(1)).any(), "what became brighter is not rain"
