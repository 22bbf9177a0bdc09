"""Differences of models on the same images: paired, and a scene counted once."""

import numpy as np
import pytest

from training.bootstrap import interval_of_mean
from training.differences import gain_difference, kinds_difference
from training.kinds import summarise_kinds
from training.measurement import Derain, Result, measure, summarise
from training.metrics import psnr, tone_fitted_psnr
from training.pairs import Pair


def pairs_of(scenes: int, rains: int, seed: int) -> list[Pair]:
    rng = np.random.default_rng(seed)
    cleans = [rng.integers(0, 150, (16, 16, 3)).astype(np.uint8) for _ in range(scenes)]
    return [
        Pair(f"{scene} {rain}", clean + rng.integers(20, 90, clean.shape).astype(np.uint8), clean)
        for scene, clean in enumerate(cleans)
        for rain in range(rains)
    ]


def darker(levels: int) -> Derain:
    return lambda picture: picture - np.minimum(picture, np.uint8(levels))


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
