"""The outcome of each file: printed at the end, and written as JSON or CSV."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from derain.command.streams import STANDARD_INPUT, STANDARD_OUTPUT, STREAM, write_output
from derain.files import write_atomically

REPORT_SUFFIXES = (".json", ".csv")

MAX_NAMED = 3  # of files that are left out for one reason


class Status(StrEnum):
    """What became of a file."""

    DERAINED = "derained"
    DRY = "no rain found, left as it was"
    CUT_SHORT = "derained as far as it goes"
    THERE = "already there"
    FAILED = "failed"
    LEFT_OUT = "left out"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Outcome:
    """What became of one file; a source of None is standard input, a target of None standard output."""

    source: Path | None
    status: Status
    target: Path | None = None
    reason: str = ""  # in words, where it is not derained
    width: int | None = None  # pixels, of the result
    height: int | None = None
    seconds: float | None = None
    dropped: tuple[str, ...] = ()  # what the file held and the result does not
    frames: int | None = None  # of a video
    derained_frames: int | None = None  # the others are of scenes without rain
    is_told: bool = True  # False: only in the report, as nobody would expect a result

    def row(self) -> dict[str, Any]:
        """As the report has it; what there is not is None."""
        has_target = self.status in (Status.DERAINED, Status.DRY, Status.CUT_SHORT, Status.THERE)
        target = os.fspath(self.target) if self.target else STANDARD_OUTPUT
        return {
            "source": source_name(self.source),
            "status": self.status.value,
            "target": target if has_target else None,
            "reason": self.reason or None,
            "width": self.width,
            "height": self.height,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "dropped": ", ".join(self.dropped) or None,
            "frames": self.frames,
            "derained_frames": self.derained_frames,
        }


def summary(counts: Mapping[Status, int], where: str) -> str:
    """How many files became what, and where the results are."""
    shown = [Status.DERAINED, Status.THERE, Status.FAILED]
    others = (Status.CUT_SHORT, Status.DRY, Status.LEFT_OUT, Status.NOT_TRIED)
    shown += [status for status in others if counts[status]]
    return ", ".join(f"{counts[status]} {status}" for status in shown) + f"; in {where}"


def source_name(source: Path | str | None) -> str:
    return os.fspath(source) if source else STANDARD_INPUT


def shown_name(source: Path | str | None) -> str:
    """For a terminal, which obeys what is in a name and cannot be printed."""
    name = source_name(source)
    return name if name.isprintable() else repr(name)


class Report:
    """The outcomes of a run, the last one of each file; written to a file, or to standard output for `-`."""

    def __init__(self, place: str | None, model: str) -> None:
        self._place = place
        self._model = model
        self._outcomes: dict[tuple[Path | None, Path | None], Outcome] = {}

    def add(self, outcome: Outcome) -> None:
        self._outcomes[outcome.source, outcome.target] = outcome

    def count(self, status: Status) -> int:
        """The files with this status that the summary counts."""
        return sum(each.status is status and each.is_told for each in self._outcomes.values())

    def summary(self, where: str) -> str:
        return summary({status: self.count(status) for status in Status}, where)

    def write(self) -> None:
        """Raises OSError. Names that are no text are written as the bytes that they are in CSV."""
        if self._place is None:
            return
        rows = [outcome.row() for outcome in self._outcomes.values()]
        if self._place == STREAM:
            write_output(self._json(rows).encode())
        elif self._place.lower().endswith(".csv"):
            write_atomically(Path(self._place), _csv(rows).encode("utf-8", "surrogateescape"))
        else:
            write_atomically(Path(self._place), self._json(rows).encode())

    def _json(self, rows: list[dict[str, Any]]) -> str:
        counts = Counter(row["status"] for row in rows)
        report = {
            "model": self._model,
            "counts": {status.value: counts[status.value] for status in Status},
            "files": rows,
        }
        return json.dumps(report, indent=2) + "\n"


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Outcome(None, Status.FAILED).row()))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def left_out_lines(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each reason, which names a few of the files."""
    by_reason: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.status is Status.LEFT_OUT and outcome.is_told:
            by_reason.setdefault(outcome.reason, []).append(shown_name(outcome.source))
    return [f"left out, {reason}: {_some(names)}" for reason, names in by_reason.items()]


def _some(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
