"""Summaries: over kinds of rain, and differences of two models on the same images."""

import numpy as np
import pytest

from derain.manifest import Evaluation, Extreme, Gain
from training.evaluation.metrics import psnr, tone_fitted_psnr
from training.evaluation.pairs import Pair
from training.evaluation.report.summary import gain_difference, kind_of, kinds_difference, summarise_kinds
from training.evaluation.scoring import Derain, Result, measure, summarise
from training.stats import interval_of_mean


def scored(name: str, gain: float, harmed: int = 0, **changes: object) -> Evaluation:
    """By its name of a kind; tone-fitted it gains 10 dB more and harms one more."""
    both = {
        "gain": Gain(mean=gain, worst=Extreme(name=name, db=gain - 1), harmed=harmed),
        "tone_fitted_gain": Gain(mean=gain + 10, worst=Extreme(name=name, db=gain + 9), harmed=harmed + 1),
    }
    about = {"name": name, "role": "validation", "pictures": 5, "rainy": 5, "untouched": 1}
    absent = dict.fromkeys(
        ("psnr", "ssim", "input_psnr", "removal", "rain_change", "background_error", "background_error_50")
    )
    return Evaluation.model_validate(absent | about | both | {"kind": kind_of(name)} | changes)


def test_a_kind_counts_once_however_many_sets_it_has() -> None:
    sets = [scored("drawn/a", 1.0), scored("drawn/b", 2.0), scored("drawn/c", 3.0), scored("road", 6.0)]
    summary = summarise_kinds(sets)
    assert {kind.name: kind.gain for kind in summary.kinds} == {"drawn": 2.0, "road": 6.0}
    assert summary.gain == pytest.approx(4.0)
    assert (summary.worst.name, summary.worst.gain) == ("drawn", 2.0)
    assert [summary.weight(each) for each in sets] == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_harmed_and_untouched_are_totals() -> None:
    summary = summarise_kinds(
        [scored("a/x", 1, harmed=2), scored("a/y", 1, harmed=1), scored("b", -2, harmed=3)]
    )
    assert (summary.harmed, summary.untouched, summary.rainy) == (6, 3, 15)
    assert summary.kinds[0].worst.db == 0


def test_a_kind_whose_tone_was_changed_counts_tone_fitted() -> None:
    summary = summarise_kinds([scored("toned", -2.0, tone_changed=True), scored("road", 6.0)])
    assert summary.gain == pytest.approx(7.0)
    assert (summary.worst.name, summary.harmed) == ("road", 1)


def test_sets_of_no_kind_or_without_rain_are_left_out() -> None:
    enlarged = scored("road ×3", -9.0, kind=None)
    dry = scored("dry", 0.0).model_copy(update={"gain": None, "tone_fitted_gain": None})
    summary = summarise_kinds([scored("road", 6.0), enlarged, dry])
    assert [kind.name for kind in summary.kinds] == ["road"]
    assert summary.weight(enlarged) == 0
    assert summarise_kinds([]).kinds == []


@pytest.mark.parametrize(
    ("name", "kind"), [("drawn/drizzle", "drawn"), ("rain800", "rain800"), ("a/b/c", "a")]
)
def test_the_kind_is_before_the_slash(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def pairs_of(scenes: int, rains: int, seed: int) -> list[Pair]:
    rng = np.random.default_rng(seed)
    cleans = [rng.integers(0, 150, (16, 16, 3)).astype(np.uint8) for _ in range(scenes)]
    return [
        Pair(f"{scene} {rain}", clean + rng.integers(20, 90, clean.shape).astype(np.uint8), clean)
        for scene, clean in enumerate(cleans)
        for rain in range(rains)
    ]


def darker(levels: int) -> Derain:
    return lambda image: image - np.minimum(image, np.uint8(levels))


def result(derain: Derain, pairs: list[Pair], name: str = "set", tone_changed: bool = False) -> Result:
    measured = measure(derain, pairs)
    return Result(pairs, measured, summarise(name, "test", measured, name, tone_changed))


def expected(pairs: list[Pair], scenes: int, tone_changed: bool = False) -> list[float]:
    """Of 40 levels less instead of 20, image by image, the mean of each scene's."""
    measure_psnr = tone_fitted_psnr if tone_changed else psnr
    each = [
        measure_psnr(darker(40)(pair.rainy), pair.clean) - measure_psnr(darker(20)(pair.rainy), pair.clean)
        for pair in pairs
    ]
    return [float(mean) for mean in np.reshape(each, (scenes, -1)).mean(axis=1)]


@pytest.mark.parametrize("tone_changed", [False, True])
def test_the_difference_is_paired_and_a_scene_counts_once(tone_changed: bool) -> None:
    pairs = pairs_of(scenes=6, rains=3, seed=0)
    first, other = (result(darker(levels), pairs, tone_changed=tone_changed) for levels in (20, 40))
    found = gain_difference(other, first)
    assert found is not None
    known = interval_of_mean(expected(pairs, 6, tone_changed))
    assert (found.mean, found.low, found.high) == pytest.approx((known.mean, known.low, known.high))
    assert found.low < found.mean < found.high


def test_over_kinds_each_kind_counts_once() -> None:
    kinds = {"many": pairs_of(9, 1, 1), "few": pairs_of(4, 1, 2)}
    first, other = ([result(darker(v), pairs, name) for name, pairs in kinds.items()] for v in (20, 40))
    summary = summarise_kinds(each.evaluation for each in other)
    found = kinds_difference(other, first, summary)
    assert found is not None
    means = [np.mean(expected(pairs, len(pairs))) for pairs in kinds.values()]
    assert found.mean == pytest.approx(np.mean(means))
    assert found.low < found.mean < found.high


def test_without_rain_there_is_no_difference() -> None:
    (pair,) = pairs_of(1, 1, 0)
    dry = [result(darker(v), [Pair("dry", pair.clean, pair.clean)]) for v in (20, 40)]
    assert gain_difference(dry[1], dry[0]) is None
    assert kinds_difference(dry[1:], dry[:1], summarise_kinds([dry[1].evaluation])) is None
