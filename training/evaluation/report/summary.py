"""The summary over kinds of rain: each kind counts once, however many sets and images it has.

How much more one model gains than another on the same images, and how sure that is.

Image by image the input is the same, so the difference of gains is that of PSNR (tone-fitted where the set's
gain is counted so). Where several rains lie over one scene, the scene counts once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from derain.manifest import Evaluation, Extreme
from training.evaluation.scoring import Result
from training.stats import Interval, interval_of_mean, interval_of_weighted_mean


@dataclass(frozen=True)
class Kind:
    """The sets of one kind of rain."""

    name: str
    sets: Sequence[Evaluation]  # each with rain

    @property
    def gain(self) -> float:
        """dB, the mean over its sets; of those whose tone was changed, tone-fitted."""
        return fmean(each.counted_gain.mean for each in self.sets if each.counted_gain is not None)

    @property
    def worst(self) -> Extreme:
        """The image that gained least."""
        found = [each.counted_gain.worst for each in self.sets if each.counted_gain is not None]
        return min(found, key=lambda worst: worst.db)

    @property
    def rainy(self) -> int:
        return sum(each.rainy or 0 for each in self.sets)

    @property
    def harmed(self) -> int:
        return sum(each.counted_gain.harmed for each in self.sets if each.counted_gain is not None)

    @property
    def untouched(self) -> int:
        return sum(each.untouched or 0 for each in self.sets)


@dataclass(frozen=True)
class KindSummary:
    """All kinds together."""

    kinds: Sequence[Kind]

    @property
    def gain(self) -> float:
        """dB, the mean over kinds."""
        return fmean(kind.gain for kind in self.kinds)

    @property
    def worst(self) -> Kind:
        """The kind that gained least."""
        return min(self.kinds, key=lambda kind: kind.gain)

    @property
    def rainy(self) -> int:
        return sum(kind.rainy for kind in self.kinds)

    @property
    def harmed(self) -> int:
        return sum(kind.harmed for kind in self.kinds)

    @property
    def untouched(self) -> int:
        return sum(kind.untouched for kind in self.kinds)

    def weight(self, evaluation: Evaluation) -> float:
        """What the set's mean counts in the mean over kinds; 0 for sets of none of them."""
        for kind in self.kinds:
            if kind.name == evaluation.kind:
                return 1 / len(kind.sets) / len(self.kinds)
        return 0.0


def kind_of(name: str) -> str:
    """The kind of rain of a set: what is before the slash in its name, or all of it."""
    return name.partition("/")[0]


def summarise_kinds(evaluations: Iterable[Evaluation]) -> KindSummary:
    """In order of appearance; sets without a kind or without rain are left out."""
    sets: dict[str, list[Evaluation]] = {}
    for each in evaluations:
        if each.kind is not None and each.counted_gain is not None:
            sets.setdefault(each.kind, []).append(each)
    return KindSummary([Kind(name, found) for name, found in sets.items()])


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
