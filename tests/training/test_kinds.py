"""The mean over kinds, each counted once."""

import pytest

from derain.manifest import Evaluation, Extreme, Gain
from training.kinds import kind_of, summarise_kinds


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
