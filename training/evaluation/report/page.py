"""The scores of networks for programs and people: a JSON file, and a page with images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from derain.arrays import Image
from derain.files import write_atomically
from derain.images.formats import JPEG
from derain.images.plain import encode
from training.data.resize import shrink
from training.evaluation.report.summary import KindSummary, gain_difference, kinds_difference
from training.evaluation.report.tables import kinds_of, tables
from training.evaluation.scoring import (
    Derain,
    Measured,
    MeasuredReal,
    RealResult,
    Report,
    Result,
    finite,
    rounded,
)
from training.figures.montage import difference

_TEMPLATE = Path(__file__).parent / "page.html"
_LONGEST_PX = 960  # of the images on the page
_PAGE_QUALITY = 85
_CASES = 3  # worst, and as many best
_ERROR_GAIN = 2
_LONGEST_BAR_DB = 60.0


def write_json(path: Path, reports: Sequence[Report]) -> None:
    """All there is, image by image; null where a score cannot be measured.

    Of one model its scores; of several a list of those, and the differences to the first.
    """
    of_each = [_document(report) for report in reports]
    document = of_each[0] if len(reports) == 1 else {"models": of_each, "differences": _differences(reports)}
    write_atomically(path, json.dumps(document, indent=2, allow_nan=False).encode() + b"\n")


def _document(report: Report) -> dict[str, Any]:
    sets = [
        result.evaluation.model_dump()
        | {"each": [_about(image) | image.plain() for image in result.measured]}
        for result in report.results
    ]
    real = [
        {"name": result.name}
        | {key: finite(value) for key, value in result.means().items()}
        | {"each": [_plain_real(image) for image in result.measured]}
        for result in report.real
    ]
    about = {"model": report.model, "network": report.network, "measured_on": report.measured_on}
    return about | {"sets": sets, "kinds": _plain_kinds(kinds_of(report)), "real": real}


def _about(image: Measured | MeasuredReal) -> dict[str, Any]:
    return {"name": image.name, "pixels": image.pixels, "ms": image.seconds * 1000}


def _plain_real(image: MeasuredReal) -> dict[str, Any]:
    return _about(image) | {key: finite(value) for key, value in asdict(image.scores).items()}


def _plain_kinds(summary: KindSummary) -> dict[str, Any] | None:
    """None where no set has a kind."""
    if not summary.kinds:
        return None
    return {
        "gain": summary.gain,
        "worst": {"kind": summary.worst.name, "gain": summary.worst.gain},
        "rainy": summary.rainy,
        "harmed": summary.harmed,
        "untouched": summary.untouched,
        "each": {
            kind.name: {
                "sets": [each.name for each in kind.sets],
                "gain": kind.gain,
                "worst": kind.worst.model_dump(),
                "rainy": kind.rainy,
                "harmed": kind.harmed,
                "untouched": kind.untouched,
            }
            for kind in summary.kinds
        },
    }


def _differences(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Of each model but the first: in gain, set by set and over kinds."""
    first, *others = reports
    found = []
    for report in others:
        by_set = {
            ours.evaluation.name: gain_difference(ours, theirs)
            for ours, theirs in zip(report.results, first.results, strict=True)
        }
        over_kinds = kinds_difference(report.results, first.results, kinds_of(report))
        plain = {
            name: {"mean": d.mean, "low": finite(d.low), "high": finite(d.high)}
            for name, d in (by_set | {"": over_kinds}).items()
            if d is not None
        }
        kinds = plain.pop("", None)
        found.append({"model": report.model, "first": first.model, "sets": plain, "kinds": kinds})
    return found


# The page


@dataclass(frozen=True)
class _Shown:
    """An image on the page, and what is said below it."""

    file: str  # the end of its name
    title: str
    image: Image
    note: str = ""


def write_page(folder: Path, reports: Sequence[Report], networks: Mapping[str, Derain]) -> Path:
    """`index.html` and the images that it shows, which are derained once more for it, by model."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    first = reports[0]
    cases = _Cases(images, [report.model for report in reports], networks)
    sets = [_set_on_page(cases, number, reports) for number in range(len(first.results))]
    real = [_real_on_page(cases, number, reports) for number in range(len(first.real))]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.undefined = jinja2.StrictUndefined
    environment.filters["number"] = rounded
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        reports=reports,
        measured_on=list(dict.fromkeys(report.measured_on for report in reports)),
        tables=tables(reports),
        sets=sets,
        real=real,
        error_gain=_ERROR_GAIN,
    )
    write_atomically(folder / "index.html", page.encode())
    return folder / "index.html"


def _set_on_page(cases: "_Cases", number: int, reports: Sequence[Report]) -> dict[str, Any]:
    """Of a set the first model's worst and best images, by gain, or by PSNR where there is no rain."""
    results = [report.results[number] for report in reports]
    measured, tone_changed = results[0].measured, results[0].evaluation.tone_changed
    has_rain = any(image.scores is not None for image in measured)
    shown = [index for index, image in enumerate(measured) if image.scores or not has_rain]
    order = sorted(shown, key=lambda index: _rank(measured[index], tone_changed))
    worst = order[:_CASES]
    best = [index for index in reversed(order) if index not in worst][:_CASES]
    return {
        "evaluation": results[0].evaluation,
        "bars": _bars_of_each(cases.models, results) if has_rain else [],
        "groups": [
            (title, [cases.of_a_pair(f"{number}-{i}", results, i) for i in some])
            for title, some in (("Worst", worst), ("Best", best))
            if some
        ],
    }


def _rank(image: Measured, tone_changed: bool) -> float:
    """dB won over the input, or of an image without rain what is left of it."""
    return image.clean_psnr if image.scores is None else image.counted_gain(tone_changed)


@dataclass(frozen=True)
class _Cases:
    """Derains images for the page, and writes what it shows of them into `folder`, as `<stem>-...`."""

    folder: Path
    models: list[str]
    networks: Mapping[str, Derain]

    def of_a_pair(self, stem: str, results: Sequence[Result], index: int) -> dict[str, Any]:
        pair = results[0].cases[index].read()
        measured = [result.measured[index] for result in results]
        derained = self._derained(pair.rainy)
        shown = [_Shown("before", "input", pair.rainy), *_of_models(self.models, derained, measured)]
        if measured[0].scores is not None:
            shown.append(_Shown("clean", "clean", pair.clean))
        if len(self.models) == 1:
            shown.append(_Shown("error", "error", difference(derained[0], pair.clean, _ERROR_GAIN)))
        return {
            "name": pair.name,
            "image": measured[0] if len(self.models) == 1 else None,
            "files": _write_images(self.folder, stem, shown),
        }

    def of_a_real_image(self, stem: str, results: Sequence[RealResult], index: int) -> dict[str, Any]:
        pair = results[0].cases[index].read()
        derained = self._derained(pair.rainy)
        shown = [_Shown("before", "input", pair.rainy)]
        if len(self.models) == 1:
            removed = difference(pair.rainy, derained[0], _ERROR_GAIN)
            shown += [_Shown("after", "after", derained[0]), _Shown("removed", "removed", removed)]
        else:
            shown += [
                _Shown(f"model-{n}", model, image, f"streaks {results[n].measured[index].scores.streaks:.2f}")
                for n, (model, image) in enumerate(zip(self.models, derained, strict=True))
            ]
        scores = results[0].measured[index].scores if len(self.models) == 1 else None
        return {"name": pair.name, "scores": scores, "files": _write_images(self.folder, stem, shown)}

    def _derained(self, image: Image) -> list[Image]:
        return [self.networks[model](image) for model in self.models]


def _of_models(
    models: Sequence[str], derained: Sequence[Image], measured: Sequence[Measured]
) -> list[_Shown]:
    if len(models) == 1:
        return [_Shown("after", "after", derained[0])]
    return [
        _Shown(f"model-{number}", model, image, _note(scores))
        for number, (model, image, scores) in enumerate(zip(models, derained, measured, strict=True))
    ]


def _note(image: Measured) -> str:
    if image.scores is not None:
        gains = f"gain {image.gain:+.2f}, tone-fitted {image.tone_fitted_gain:+.2f}"
        return f"{image.scores.psnr:.2f} dB, {gains}"
    return f"{image.clean_psnr:.2f} dB" if np.isfinite(image.clean_psnr) else "identical"


def _real_on_page(cases: _Cases, number: int, reports: Sequence[Report]) -> dict[str, Any]:
    """All images, those first of which the first model took the least rain and the most background."""
    results = [report.real[number] for report in reports]
    measured = results[0].measured
    order = sorted(range(len(measured)), key=lambda index: measured[index].scores.streaks)
    shown = [cases.of_a_real_image(f"real-{number}-{i}", results, i) for i in order]
    return {"name": results[0].name, "cases": shown}


def _write_images(folder: Path, stem: str, shown: Sequence[_Shown]) -> list[dict[str, Any]]:
    """The address of each on the page, and its size for the browser to make room."""
    files = []
    for each in shown:
        small = shrink(each.image, _LONGEST_PX)
        name = f"{stem}-{each.file}.jpg"
        write_atomically(folder / name, encode(small, JPEG, _PAGE_QUALITY))
        about = {"path": f"{folder.name}/{name}", "title": each.title, "note": each.note}
        files.append(about | {"width": small.shape[1], "height": small.shape[0]})
    return files


def _bars_of_each(models: Sequence[str], results: Sequence[Result]) -> list[dict[str, Any]]:
    """By model, the gains sorted; all on one scale."""
    tone_changed = results[0].evaluation.tone_changed
    gains = [
        sorted(image.counted_gain(tone_changed) for image in result.measured if image.scores is not None)
        for result in results
    ]
    highest = max(0.0, *(min(own[-1], _LONGEST_BAR_DB) for own in gains))
    lowest = min(0.0, *(own[0] for own in gains))
    return [
        {"model": model, "lowest": own[0], "highest": own[-1], "bars": _bars(own, lowest, highest)}
        for model, own in zip(models, gains, strict=True)
    ]


def _bars(gains: Sequence[float], lowest: float, highest: float) -> list[dict[str, float]]:
    """The gain of each image as a bar up or down from zero, on a plane of 100 x 100."""
    unit = 100 / ((highest - lowest) or 1)
    step = 100 / len(gains)
    return [
        {
            "x": i * step + 0.1 * step,
            "width": 0.8 * step,
            "y": (highest - min(max(gain, 0.0), highest)) * unit,
            "height": max(0.5, min(abs(gain), _LONGEST_BAR_DB) * unit),
            "gain": gain,
        }
        for i, gain in enumerate(gains)
    ]
