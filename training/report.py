"""The scores of a network for people and programs: a table, a JSON file, a page with pictures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from derain.arrays import Picture
from derain.image import JPEG, encode, write_atomically
from derain.manifest import Evaluation
from training.measurement import (
    PERFECT_PSNR,
    Case,
    Derain,
    Measured,
    MeasuredReal,
    finite,
    ms_per_megapixel,
    rounded,
)
from training.pictures import difference, shrink
from training.real import mean_real_scores

_TEMPLATE = Path(__file__).parent / "report.html"
_LONGEST_PX = 960  # of the pictures on the page
_PAGE_QUALITY = 85
_CASES = 3  # worst, and as many best
_ERROR_GAIN = 2


@dataclass(frozen=True)
class Result:
    """A set with ground truth: the pictures, what was measured of each, and the means."""

    cases: Sequence[Case]
    measured: Sequence[Measured]
    evaluation: Evaluation


@dataclass(frozen=True)
class RealResult:
    """A set without ground truth."""

    name: str
    cases: Sequence[Case]
    measured: Sequence[MeasuredReal]

    def means(self) -> dict[str, float]:
        means = asdict(mean_real_scores([picture.scores for picture in self.measured]))
        return means | {"pictures": len(self.measured), "ms_per_megapixel": ms_per_megapixel(self.measured)}


@dataclass(frozen=True)
class Report:
    model: str
    network: str  # what it is and how it is fed
    measured_on: str
    results: Sequence[Result]
    real: Sequence[RealResult]


@dataclass(frozen=True)
class _Row:
    key: str
    label: str
    digits: int
    meaning: str


_ROWS = (
    _Row("pictures", "pictures", 0, ""),
    _Row("psnr", "PSNR", 2, f"dB, RGB: higher is better, {PERFECT_PSNR:.0f} is the clean picture"),
    _Row("input_psnr", "  of the input", 2, "dB: what doing nothing scores"),
    _Row("ssim", "SSIM", 4, "RGB: 1 is the clean picture"),
    _Row("psnr_y", "PSNR Y", 2, "dB, of the luma: what papers report"),
    _Row("input_psnr_y", "  of the input", 2, "dB"),
    _Row("ssim_y", "SSIM Y", 4, "of the luma"),
    _Row("removal", "removal η", 2, "share of the rain that came off: 1 is all of it"),
    _Row("restored", "restored", 2, "rho: the same, with damage done on the rain counted against it"),
    _Row("rain_change", "E_R", 1, "change on the rain, of 255: higher, more came off"),
    _Row("rain_error", "E_R^GT", 1, "error on the rain, of 255: lower is better"),
    _Row("background_error", "E_B", 1, "error off the rain, of 255: lower is better"),
    _Row("background_error_50", "E_B50", 1, "error off the bright rain, of 255"),
    _Row("clean_psnr", "clean back", 2, "dB: PSNR of the clean pictures, sent through as well"),
    _Row("ms_per_megapixel", "ms a megapixel", 0, "median of the pictures"),
)
_REAL_ROWS = (
    _Row("pictures", "pictures", 0, ""),
    _Row("removed", "removed", 2, "RMS of what was taken away, of 255"),
    _Row("removed_share", "  of the contrast", 3, "the same against the rainy picture's standard deviation"),
    _Row("streaks", "streaks", 2, "above 0 it was rain, below 0 background: compare on the same pictures"),
    _Row("ms_per_megapixel", "ms a megapixel", 0, "median of the pictures"),
)


def text_table(report: Report) -> str:
    """A column a set and a row a score, in plain text; what was not measurable is left out."""
    blocks = []
    if report.results:
        scores = [result.evaluation.model_dump() for result in report.results]
        blocks.append(_columns([s["name"] for s in scores], scores, _ROWS))
    if report.real:
        blocks.append(
            _columns([real.name for real in report.real], [real.means() for real in report.real], _REAL_ROWS)
        )
    return "\n\n".join([*blocks, f"Measured on {report.measured_on}."])


def write_json(path: Path, report: Report) -> None:
    """All there is, picture by picture; null where a score cannot be measured."""
    sets = [
        result.evaluation.model_dump() | {"each": [_plain(picture) for picture in result.measured]}
        for result in report.results
    ]
    real = [
        {"name": result.name}
        | {key: finite(value) for key, value in result.means().items()}
        | {"each": [_plain(picture) for picture in result.measured]}
        for result in report.real
    ]
    about = {"model": report.model, "network": report.network, "measured_on": report.measured_on}
    text = json.dumps(about | {"sets": sets, "real": real}, indent=2, allow_nan=False)
    write_atomically(path, text.encode() + b"\n")


def write_page(folder: Path, report: Report, derain: Derain) -> Path:
    """`index.html` and the pictures that it shows, which are derained once more for it."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    sets = [_set_on_page(pictures, number, result, derain) for number, result in enumerate(report.results)]
    real = [_real_on_page(pictures, number, result, derain) for number, result in enumerate(report.real)]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.undefined = jinja2.StrictUndefined
    environment.filters["number"] = rounded
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        report=report,
        columns=[(result.evaluation.name, result.evaluation.model_dump()) for result in report.results],
        rows=_ROWS,
        sets=sets,
        real_rows=_REAL_ROWS,
        real=real,
        error_gain=_ERROR_GAIN,
    )
    write_atomically(folder / "index.html", page.encode())
    return folder / "index.html"


def _columns(names: list[str], scores: list[dict[str, Any]], rows: Sequence[_Row]) -> str:
    cells = [[row.label, *(rounded(s[row.key], row.digits) for s in scores), row.meaning] for row in rows]
    shown = [line for line in cells if set(line[1:-1]) != {"–"}]
    table = [["", *names, ""], *shown]
    widths = [max(len(line[i]) for line in table) for i in range(len(names) + 1)]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(line[1:-1], widths[1:], strict=True)),
                line[-1],
            ]
        ).rstrip()
        for line in table
    )


def _plain(picture: Measured | MeasuredReal) -> dict[str, Any]:
    """One picture's line in the JSON file."""
    scores = {} if picture.scores is None else asdict(picture.scores)
    if isinstance(picture, Measured):
        scores["clean_psnr"] = picture.clean_psnr
    about = {"name": picture.name, "pixels": picture.pixels, "ms": picture.seconds * 1000}
    return about | {key: finite(value) for key, value in scores.items()}


def _set_on_page(folder: Path, number: int, result: Result, derain: Derain) -> dict[str, Any]:
    """What the template shows of a set: its worst and best pictures by gain, or by what came back."""
    has_rain = any(picture.scores is not None for picture in result.measured)
    shown = [index for index, picture in enumerate(result.measured) if picture.scores or not has_rain]
    order = sorted(shown, key=lambda index: _gain(result.measured[index]))
    worst = order[:_CASES]
    best = [index for index in reversed(order) if index not in worst][:_CASES]
    groups = [("Worst", worst), ("Best", best)]
    return {
        "evaluation": result.evaluation,
        "has_rain": has_rain,
        "bars": _bars([_gain(result.measured[index]) for index in order]) if has_rain else [],
        "groups": [
            (title, [_case_on_page(folder, f"{number}-{index}", result, index, derain) for index in some])
            for title, some in groups
            if some
        ],
    }


def _gain(picture: Measured) -> float:
    """dB won over the input, or of a picture without rain what is left of it."""
    if picture.scores is None:
        return picture.clean_psnr
    return picture.scores.psnr - picture.scores.input_psnr


def _case_on_page(folder: Path, stem: str, result: Result, index: int, derain: Derain) -> dict[str, Any]:
    pair, picture = result.cases[index].read(), result.measured[index]
    derained = derain(pair.rainy)
    error = difference(derained, pair.clean, _ERROR_GAIN)
    clean = {} if picture.scores is None else {"clean": pair.clean}
    shown = {"before": pair.rainy, "after": derained} | clean | {"error": error}
    return {
        "name": pair.name,
        "scores": picture.scores,
        "gain": _gain(picture),
        "clean_psnr": picture.clean_psnr,
        "files": _write_pictures(folder, stem, shown),
    }


def _real_on_page(folder: Path, number: int, result: RealResult, derain: Derain) -> dict[str, Any]:
    """All pictures, those first of which the least rain and the most background was taken."""
    order = sorted(range(len(result.measured)), key=lambda index: result.measured[index].scores.streaks)
    cases = []
    for index in order:
        pair = result.cases[index].read()
        derained = derain(pair.rainy)
        removed = difference(pair.rainy, derained, _ERROR_GAIN)
        shown = {"before": pair.rainy, "after": derained, "removed": removed}
        files = _write_pictures(folder, f"real-{number}-{index}", shown)
        cases.append({"name": pair.name, "scores": result.measured[index].scores, "files": files})
    return {"name": result.name, "means": result.means(), "cases": cases}


def _write_pictures(folder: Path, stem: str, shown: dict[str, Picture]) -> dict[str, dict[str, Any]]:
    """By kind: the address on the page, and the size for the browser to make room."""
    files = {}
    for kind, picture in shown.items():
        small = shrink(picture, _LONGEST_PX)
        name = f"{stem}-{kind}.jpg"
        write_atomically(folder / name, encode(small, JPEG, _PAGE_QUALITY))
        files[kind] = {"path": f"{folder.name}/{name}", "width": small.shape[1], "height": small.shape[0]}
    return files


def _bars(gains: list[float]) -> list[dict[str, float]]:
    """The gain of each picture as a bar up or down from zero, on a plane of 100 x 100."""
    finite_gains = [min(gain, 60.0) for gain in gains]
    top, bottom = max(0.0, *finite_gains), min(0.0, *finite_gains)
    unit = 100 / ((top - bottom) or 1)
    step = 100 / len(gains)
    return [
        {
            "x": i * step + 0.1 * step,
            "width": 0.8 * step,
            "y": (top - max(gain, 0.0)) * unit,
            "height": max(0.5, abs(gain) * unit),
            "gain": gain,
        }
        for i, gain in enumerate(finite_gains)
    ]
