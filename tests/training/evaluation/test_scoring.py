"""What is counted of a set, against images made so that the count is known."""

from collections.abc import Sequence

import numpy as np
import pytest

from derain.arrays import Image
from derain.manifest import Evaluation
from tests.conftest import noise
from training.data.appearance import through_jpeg
from training.evaluation.metrics import psnr
from training.evaluation.pairs import Pair
from training.evaluation.scoring import HARMED_DB, PERFECT_PSNR, Case, Derain, measure, summarise
from training.evaluation.sets import SavedAsJpeg

GREY = np.full((32, 32, 3), 100, dtype=np.uint8)


def lit(levels: int, clean: Image = GREY) -> Image:
    """Every other column brighter."""
    rainy = clean.copy()
    rainy[:, ::2] += np.uint8(levels)
    return rainy


def returning(*known: tuple[Image, Image]) -> Derain:
    """A network that knows what to return for some images, and returns all others as they are."""
    by_bytes = {given.tobytes(): back for given, back in known}
    return lambda image: by_bytes.get(image.tobytes(), image)


def of(derain: Derain, pairs: Sequence[Case], tone_changed: bool = False) -> Evaluation:
    return summarise("set", "test", measure(derain, pairs), "kind", tone_changed)


def test_gain_worst_harmed_and_untouched_are_counted() -> None:
    """Half of the rain is 6 dB; a fifteenth more of it 0.56 dB lost, a fortieth more 0.21."""
    rains = {"better": (40, 20), "idle": (44, 44), "harmed": (60, 64), "spared": (80, 82)}
    pairs = [Pair(name, lit(given), GREY) for name, (given, _) in rains.items()]
    scores = of(returning(*[(lit(given), lit(back)) for given, back in rains.values()]), pairs)
    losses = [20 * np.log10(given / back) for given, back in rains.values()]
    assert scores.gain is not None
    assert scores.gain.mean == pytest.approx(np.mean(losses))
    assert scores.gain.worst.name == "harmed"
    assert scores.gain.worst.db == pytest.approx(losses[2])
    assert losses[2] < -HARMED_DB < losses[3] < 0
    assert (scores.gain.harmed, scores.untouched, scores.rainy) == (1, 1, 4)


def test_what_comes_back_as_it_was_is_not_harmed_however_faint_its_rain() -> None:
    clean = np.zeros((250, 250, 3), dtype=np.uint8)
    rainy = clean.copy()
    rainy[120, 130, 0] = 1
    scores = of(returning(), [Pair("faint", rainy, clean)])
    assert psnr(rainy, clean) > PERFECT_PSNR
    assert scores.gain is not None and scores.tone_fitted_gain is not None
    assert (scores.gain.mean, scores.tone_fitted_gain.mean, scores.gain.harmed) == (0, 0, 0)
    assert scores.input_psnr == scores.input_psnr_y == PERFECT_PSNR


def test_what_is_saved_as_jpeg_is_rainy_and_clean_alike() -> None:
    """Of the rainy one the truth stays as it was before."""
    clean = noise(32, 32) // 2
    rainy = lit(60, clean)
    seen: list[Image] = []

    def derain(image: Image) -> Image:
        seen.append(image)
        return image

    scores = of(derain, [SavedAsJpeg(Pair("one", rainy, clean), 40)])
    saved = [through_jpeg(image, 40) for image in (rainy, clean)]
    np.testing.assert_array_equal(seen, saved)
    assert scores.psnr == psnr(saved[0], clean)
    assert scores.clean is not None
    assert scores.clean.identical == 1


def test_an_image_without_rain_is_neither_harmed_nor_untouched() -> None:
    pairs = [Pair("rain", lit(40), GREY), Pair("dry", GREY, GREY)]
    scores = of(returning((lit(40), lit(10)), (GREY, lit(90))), pairs)
    assert scores.gain is not None
    assert (scores.pictures, scores.rainy, scores.gain.harmed, scores.untouched) == (2, 1, 0, 0)
    dry = of(returning(), [Pair("dry", GREY, GREY)])
    assert (dry.rainy, dry.gain, dry.tone_fitted_gain, dry.untouched, dry.kind) == (0, None, None, 0, None)


def test_the_tone_fitted_gain_is_blind_to_a_tone_that_came_with_the_rain() -> None:
    """The network takes the rain and keeps the tone: worse by PSNR than half of both, better tone-fitted."""
    clean = noise(32, 32) // 3
    rainy = lit(30, clean + np.uint8(90))
    dry = clean + np.uint8(120)
    pairs = [Pair("toned", rainy, clean)]
    plain, toned = (of(returning((rainy, dry)), pairs, changed) for changed in (False, True))
    assert plain.gain is not None and plain.tone_fitted_gain is not None
    assert plain.gain.mean == pytest.approx(psnr(dry, clean) - psnr(rainy, clean))
    assert plain.gain.mean < -1 < 20 < plain.tone_fitted_gain.mean
    assert (plain.gain.harmed, plain.tone_fitted_gain.harmed) == (1, 0)
    assert (plain.counted_gain, toned.counted_gain) == (plain.gain, plain.tone_fitted_gain)


def test_of_clean_images_it_is_counted_how_they_came_back() -> None:
    """Off by 1, 3, 5 and 15 levels: 48, 39, 34 and 25 dB."""
    images = {off: noise(16, 16, off) // 2 for off in (0, 1, 3, 5, 15)}
    network = returning(*[(image, image + np.uint8(off)) for off, image in images.items()])
    scores = of(network, [Pair(f"off by {off}", image, image) for off, image in images.items()])
    clean = scores.clean
    assert clean is not None and clean.worst is not None
    assert (clean.images, clean.identical, clean.below_40, clean.below_30) == (5, 1, 3, 1)
    assert clean.worst.name == "off by 15"
    assert clean.worst.db == pytest.approx(20 * np.log10(255 / 15))
    assert clean.median_changed == pytest.approx(20 * np.log10(255 / np.sqrt(3 * 5)))


def test_a_clean_image_under_several_rains_is_counted_once() -> None:
    pairs = [Pair(f"rain {levels}", lit(levels), GREY) for levels in (20, 40)]
    clean = of(returning((GREY, lit(9))), pairs).clean
    assert clean is not None and clean.worst is not None
    assert (clean.images, clean.identical, clean.worst.name) == (1, 0, "rain 20")


def test_where_all_came_back_identical_there_is_no_worst() -> None:
    clean = of(returning(), [Pair("dry", GREY, GREY)]).clean
    assert clean is not None
    assert (clean.identical, clean.worst, clean.median_changed) == (1, None, None)
