"""The scores of one model or several as tables, a row a set and model: for a terminal, a page, a CSV file."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from derain.manifest import CleanBack, Evaluation, Extreme, Gain
from training.evaluation.report.summary import (
    Kind,
    KindSummary,
    gain_difference,
    kinds_difference,
    summarise_kinds,
)
from training.evaluation.scoring import HARMED_DB, RealResult, Report, finite, rounded
from training.stats import Interval

Cells = dict[str, str]  # by column

_GAIN = {
    "images": "that have rain",
    "input": "PSNR of the rainy images, dB",
    "PSNR": "of RGB, dB",
    "gain": "dB over the input, mean",
    "tone-fitted": "the same, a gain and an offset a channel fitted to the truth first, for input and output",
    "worst": "gain of the image that gained least, dB",
    "harmed": f"images that came out worse than the input by more than {HARMED_DB} dB",
    "untouched": "rainy images that came back identical",
    "kept": "enlarged: share of the gain in dB that the set has as it is",
    "difference": "in gain, dB, to the first model: 95 % bootstrap interval over scenes",
}
_FIDELITY = {
    "PSNR Y": "of the luma, dB: what papers report",
    "input Y": "of the rainy images' luma, dB",
    "SSIM": "of RGB, 1 is the clean image",
    "SSIM Y": "of the luma",
    "η": "share of the rain that came off: 1 is all of it",
    "restored": "rho: the same, with damage done on the rain counted against it",
    "E_R": "change on the rain, of 255: higher, more came off",
    "E_R^GT": "error on the rain, of 255: lower is better",
    "E_B": "error off the rain, of 255: lower is better",
    "E_B50": "error off the bright rain, of 255",
    "ms": "a megapixel, median of the images",
}
_CLEAN = {
    "images": "without rain, sent through; each once",
    "identical": "came back as they were",
    "below 40": "dB",
    "below 30": "dB",
    "worst": "PSNR of the image that came back worst, dB",
    "median": "dB, of those that did not come back identical",
    "ms": "a megapixel, median of the images",
}
_REAL = {
    "images": "without ground truth",
    "removed": "RMS of what was taken away, of 255",
    "of the contrast": "the same against the rainy image's standard deviation",
    "streaks": "above 0 it was rain, below 0 background: compare on the same images",
    "ms": "a megapixel, median of the images",
}
TONE_MARK = "*"
_TONE_MEANING = "tone changed with the rain: what follows, and the kinds, go by the tone-fitted gain"


@dataclass(frozen=True)
class Table:
    """Whatever column has nothing in it is left out."""

    title: str
    head: list[str]
    rows: list[list[str]]
    meanings: list[tuple[str, str]]  # of the columns

    @property
    def words(self) -> list[bool]:
        """Which columns have words, and are aligned at the left."""
        return [column in ("set", "model", "worst") for column in self.head]


def tables(reports: Sequence[Report]) -> list[Table]:
    """Of models that were scored on the same sets; those without rows are left out."""
    found = [
        _table("Rain", reports, _GAIN, _gain_rows(reports)),
        _table("Rain: how much came off, and what it cost", reports, _FIDELITY, _fidelity_rows(reports)),
        _table("Clean images", reports, _CLEAN, _clean_rows(reports)),
        _table("Real rain", reports, _REAL, _real_rows(reports)),
    ]
    return [table for table in found if table.rows]


def text_tables(reports: Sequence[Report]) -> str:
    blocks = [f"{table.title}\n\n{_text(table)}" for table in tables(reports)]
    measured_on = "; ".join(dict.fromkeys(report.measured_on for report in reports))
    return "\n\n".join([*blocks, f"Measured on {measured_on}."])


def csv_table(reports: Sequence[Report]) -> str:
    """All scores: a line a set and model, then one a kind of several sets, and one of all kinds."""
    rows: list[dict[str, Any]] = []
    for report in reports:
        others = reports[0] if report is not reports[0] else None
        for number, result in enumerate(report.results):
            more = None if others is None else gain_difference(result, others.results[number])
            row = {"row": "set", "model": report.model} | _flat(Evaluation, result.evaluation)
            rows.append(row | _difference_columns(more))
        rows += [
            {"row": "real", "model": report.model, "name": real.name} | real.means() for real in report.real
        ]
        rows += _kind_lines(report, others)
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns_of(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# Rows, by set and then by model


@dataclass(frozen=True)
class _Row:
    name: str
    model: str
    cells: Cells


def _gain_rows(reports: Sequence[Report]) -> list[_Row]:
    rows = []
    for number, first in enumerate(reports[0].results):
        for report in reports:
            result = report.results[number]
            if result.evaluation.gain is not None:
                more = None if report is reports[0] else gain_difference(result, first)
                mark = TONE_MARK if result.evaluation.tone_changed else ""
                cells = gain_cells(result.evaluation) | _difference_cell(more)
                rows.append(_Row(result.evaluation.name + mark, report.model, cells))
    return rows + _kind_rows(reports)


def gain_cells(e: Evaluation) -> Cells:
    assert e.gain is not None and e.tone_fitted_gain is not None and e.counted_gain is not None
    return {
        "images": str(e.rainy),
        "input": rounded(e.input_psnr, 2),
        "PSNR": rounded(e.psnr, 2),
        "gain": f"{e.gain.mean:+.2f}",
        "tone-fitted": f"{e.tone_fitted_gain.mean:+.2f}",
        "worst": named(e.counted_gain.worst, "+.2f"),
        "harmed": str(e.counted_gain.harmed),
        "untouched": str(e.untouched),
        "kept": "" if e.gain_kept is None else f"{e.gain_kept:.2f}",
    }


def _kind_rows(reports: Sequence[Report]) -> list[_Row]:
    summaries = [kinds_of(report) for report in reports]
    rows = [
        _Row(f"{kind.name}: {len(kind.sets)} sets", report.model, _kind_cells(kind))
        for kinds in zip(*(summary.kinds for summary in summaries), strict=True)
        for report, kind in zip(reports, kinds, strict=True)
        if len(kind.sets) > 1
    ]
    if (count := len(summaries[0].kinds)) < 2:
        return rows
    for report, summary in zip(reports, summaries, strict=True):
        is_first = report is reports[0]
        more = None if is_first else kinds_difference(report.results, reports[0].results, summary)
        cells = summary_cells(summary) | _difference_cell(more)
        rows.append(_Row(f"mean of {count} kinds", report.model, cells))
    return rows


def _kind_cells(kind: Kind) -> Cells:
    return {
        "images": str(kind.rainy),
        "gain": f"{kind.gain:+.2f}",
        "worst": named(kind.worst, "+.2f"),
        "harmed": str(kind.harmed),
        "untouched": str(kind.untouched),
    }


def summary_cells(summary: KindSummary) -> Cells:
    """Of all kinds: in the place of the worst image the worst kind."""
    return {
        "images": str(summary.rainy),
        "gain": f"{summary.gain:+.2f}",
        "worst": f"{summary.worst.gain:+.2f} {summary.worst.name}",
        "harmed": str(summary.harmed),
        "untouched": str(summary.untouched),
    }


def _fidelity_rows(reports: Sequence[Report]) -> list[_Row]:
    return [_Row(e.name, model, _fidelity_cells(e)) for e, model in _by_set(reports) if e.psnr is not None]


def _fidelity_cells(e: Evaluation) -> Cells:
    return {
        "PSNR Y": rounded(e.psnr_y, 2),
        "input Y": rounded(e.input_psnr_y, 2),
        "SSIM": rounded(e.ssim, 4),
        "SSIM Y": rounded(e.ssim_y, 4),
        "η": rounded(e.removal, 2),
        "restored": rounded(e.restored, 2),
        "E_R": rounded(e.rain_change, 1),
        "E_R^GT": rounded(e.rain_error, 1),
        "E_B": rounded(e.background_error, 1),
        "E_B50": rounded(e.background_error_50, 1),
        "ms": rounded(e.ms_per_megapixel, 0),
    }


def _clean_rows(reports: Sequence[Report]) -> list[_Row]:
    return [
        _Row(e.name, model, clean_cells(e.clean) | _clean_speed(e))
        for e, model in _by_set(reports)
        if e.clean is not None
    ]


def clean_cells(clean: CleanBack) -> Cells:
    return {
        "images": str(clean.images),
        "identical": str(clean.identical),
        "below 40": str(clean.below_40),
        "below 30": str(clean.below_30),
        "worst": "–" if clean.worst is None else named(clean.worst, ".2f"),
        "median": rounded(clean.median_changed, 2),
    }


def _clean_speed(e: Evaluation) -> Cells:
    return {} if e.rainy else {"ms": rounded(e.ms_per_megapixel, 0)}


def _real_rows(reports: Sequence[Report]) -> list[_Row]:
    return [
        _Row(report.real[number].name, report.model, real_cells(report.real[number]))
        for number in range(len(reports[0].real))
        for report in reports
    ]


def real_cells(real: RealResult) -> Cells:
    means = real.means()
    return {
        "images": str(len(real.measured)),
        "removed": rounded(means["removed"], 2),
        "of the contrast": rounded(means["removed_share"], 3),
        "streaks": rounded(means["streaks"], 2),
        "ms": rounded(means["ms_per_megapixel"], 0),
    }


def _by_set(reports: Sequence[Report]) -> list[tuple[Evaluation, str]]:
    return [
        (report.results[number].evaluation, report.model)
        for number in range(len(reports[0].results))
        for report in reports
    ]


def kinds_of(report: Report) -> KindSummary:
    return summarise_kinds(result.evaluation for result in report.results)


def named(extreme: Extreme, form: str) -> str:
    """Decibels, and the name of the image."""
    return f"{extreme.db:{form}} {extreme.name}"


def _difference_cell(interval: Interval | None) -> Cells:
    if interval is None:
        return {}
    low, high = (rounded(end, 2) for end in (interval.low, interval.high))
    return {"difference": f"{interval.mean:+.2f} ({low} to {high})"}


# Tables of the rows


def _table(title: str, reports: Sequence[Report], meanings: Mapping[str, str], rows: list[_Row]) -> Table:
    columns = [column for column in meanings if any(row.cells.get(column) for row in rows)]
    is_several = len(reports) > 1
    shown = [(column, meanings[column]) for column in columns]
    if any(row.name.endswith(TONE_MARK) for row in rows):
        shown.append((TONE_MARK, _TONE_MEANING))
    return Table(
        title,
        ["set", *(["model"] if is_several else []), *columns],
        [
            [row.name, *([row.model] if is_several else []), *(row.cells.get(each, "") for each in columns)]
            for row in rows
        ],
        shown,
    )


def _text(table: Table) -> str:
    lines = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(width) if is_words else cell.rjust(width)
            for cell, width, is_words in zip(line, widths, table.words, strict=True)
        ).rstrip()
        for line in lines
    ]
    width = max((len(column) for column, _ in table.meanings), default=0)
    return "\n".join([*aligned, "", *(f"  {column.ljust(width)}  {text}" for column, text in table.meanings)])


# Lines of the CSV file

_PARTS: dict[str, type[BaseModel]] = {
    "gain": Gain,
    "tone_fitted_gain": Gain,
    "clean": CleanBack,
    "worst": Extreme,
}


def _flat(of: type[BaseModel], part: BaseModel | None, prefix: str = "") -> dict[str, Any]:
    """Fields by name, those of parts after the part's: gain_worst_db."""
    fields: dict[str, Any] = {}
    for name in of.model_fields:
        value = getattr(part, name, None)
        if name in _PARTS:
            fields |= _flat(_PARTS[name], value, f"{prefix}{name}_")
        else:
            fields[prefix + name] = value
    return fields


def _kind_lines(report: Report, first: Report | None) -> list[dict[str, Any]]:
    summary = kinds_of(report)
    about = {"model": report.model}
    lines = [
        about
        | {"row": "kind", "name": kind.name, "rainy": kind.rainy, "gain_mean": kind.gain}
        | {"gain_worst_name": kind.worst.name, "gain_worst_db": kind.worst.db}
        | {"gain_harmed": kind.harmed, "untouched": kind.untouched}
        for kind in summary.kinds
        if len(kind.sets) > 1
    ]
    if len(summary.kinds) > 1:
        more = None if first is None else kinds_difference(report.results, first.results, summary)
        lines.append(
            about
            | {"row": "kinds", "name": f"mean of {len(summary.kinds)} kinds", "rainy": summary.rainy}
            | {"gain_mean": summary.gain, "gain_worst_name": summary.worst.name}
            | {"gain_worst_db": summary.worst.gain, "gain_harmed": summary.harmed}
            | {"untouched": summary.untouched}
            | _difference_columns(more)
        )
    return lines


def _difference_columns(interval: Interval | None) -> dict[str, Any]:
    if interval is None:
        return {}
    low, high = finite(interval.low), finite(interval.high)
    return {"difference": interval.mean, "difference_low": low, "difference_high": high}


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """In order of appearance."""
    return list(dict.fromkeys(column for row in rows for column in row))
