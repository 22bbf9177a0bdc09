"""How much more one model gains than another on the same images, and how sure that is.

Image by image the input is the same, so the difference of gains is that of PSNR (tone-fitted where the set's
gain is counted so). Where several rains lie over one scene, the scene counts once.
"""

from collections.abc import Sequence
from statistics import fmean

from training.bootstrap import Interval, interval_of_mean, interval_of_weighted_mean
from training.kinds import KindSummary
from training.measurement import Result


def gain_difference(result: Result, first: Result) -> Interval | None:
    """dB that the result gains more than the first model's of the same set; None where no image has rain."""
    values = _by_scene(result, first)
    return interval_of_mean(values) if values else None


def kinds_difference(
    results: Sequence[Result], first: Sequence[Result], summary: KindSummary
) -> Interval | None:
    """The same of the mean over kinds; None where there are no kinds."""
    weighted = [
        (summary.weight(ours.evaluation), _by_scene(ours, theirs))
        for ours, theirs in zip(results, first, strict=True)
    ]
    groups = [(weight, values) for weight, values in weighted if weight and values]
    return interval_of_weighted_mean(groups) if groups else None


def _by_scene(result: Result, first: Result) -> list[float]:
    tone_changed = result.evaluation.tone_changed
    scenes: dict[int, list[float]] = {}
    for ours, theirs in zip(result.measured, first.measured, strict=True):
        if ours.scores is not None:
            more = ours.counted_gain(tone_changed) - theirs.counted_gain(tone_changed)
            scenes.setdefault(ours.scene, []).append(more)
    return [fmean(each) for each in scenes.values()]
