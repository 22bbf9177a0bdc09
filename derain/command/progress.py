"""How far the work is, in megapixels, and what there is to say meanwhile; all on standard error."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from derain.command.plan import Job
from derain.command.report import Outcome, Status, shown_name

_BAR = (
    "{percentage:3.0f}%|{bar}| {n:.1f} of {total:.1f} MP [{elapsed}<{remaining}, {rate_noinv_fmt}]{postfix}"
)


def make_bar(total: float, unit: str, bar_format: str, is_hidden: bool) -> "tqdm[Any]":
    """Only where standard error is a terminal."""
    return tqdm(
        total=total,
        unit=unit,
        bar_format=bar_format,
        dynamic_ncols=True,
        smoothing=0.1,
        delay=0.1,
        disable=True if is_hidden else None,
    )


class Progress:
    """A bar over all jobs, where standard error is a terminal; it moves within an image as well.

    `has_lines` says a line of each image that is done instead. Failures are always said.
    """

    def __init__(self, jobs: Sequence[Job], is_quiet: bool = False, has_lines: bool = False) -> None:
        self._count = len(jobs)
        self._number = 0
        self._is_quiet = is_quiet
        self._has_lines = has_lines
        self._pixels, self._is_begun = 0, False  # of the image in work
        self._total = sum(job.pixels for job in jobs) / 1e6
        self._bar = make_bar(self._total, "MP", _BAR, is_hidden=is_quiet or has_lines)
        self._done = 0.0  # megapixels of the images before
        self._text = ""  # of the job in work
        self._frames_before: int | None = None  # of a video: done by an earlier run
        self._begun = 0.0

    def begin(self, job: Job, pixels: int) -> None:
        """`pixels` is what its header says now."""
        self._number += 1
        self._expect(job, pixels)
        text = f"{self._number} of {self._count}, {shown_name(job.source)}"
        self._text, self._frames_before = text, None
        self._bar.set_postfix_str(text, refresh=False)
        self._move(0)

    def note(self, done: int, of: int) -> None:
        self._move(self._pixels * done / of / 1e6)

    def note_frames(self, frames: int, of: int) -> None:
        """Of a video; those that an earlier run has done come first, at once, and count for no speed.

        `of` is 0 where the video does not say how long it is.
        """
        of = max(of, 1)
        if self._frames_before is None:
            self._frames_before, self._begun = frames, time.monotonic()
            if not self._bar.disable:
                skipped = self._pixels * frames / of / 1e6
                self._bar.initial += skipped
        elif self._bar.total is not None:
            rate = (frames - self._frames_before) / max(time.monotonic() - self._begun, 1e-3)
            self._bar.set_postfix_str(f"{self._text}, {rate:.1f} frames/s", refresh=False)
        self.note(frames, of)

    def end(self, job: Job, outcome: Outcome) -> None:
        if outcome.status is Status.FAILED:
            self._expect(job, 0)
        self._done += self._pixels / 1e6
        self._move(0)
        self._pixels, self._is_begun = 0, False
        if outcome.status is Status.FAILED or outcome.status is Status.CUT_SHORT:
            self.complain(f"{shown_name(outcome.source)}: {outcome.reason}")
        elif outcome.status is Status.DRY and (self._count == 1 or self._has_lines):
            self.say(f"{shown_name(outcome.source)}: {outcome.status}; --force derains it all the same")
        elif self._has_lines:
            self.say(f"{shown_name(outcome.source)}: {outcome.status} in {outcome.seconds:.1f} s")
        if outcome.dropped and self._count == 1:
            self.say(f"{shown_name(outcome.source)}: not in the result: {', '.join(outcome.dropped)}")

    def say(self, text: str) -> None:
        if not self._is_quiet:
            self.complain(text)

    def complain(self, text: str) -> None:
        """Also where it is to be quiet."""
        self._bar.write(f"derain: {text}", file=sys.stderr)

    def close(self) -> None:
        self._bar.close()

    def _expect(self, job: Job, pixels: int) -> None:
        self._total += (pixels - (self._pixels if self._is_begun else job.pixels)) / 1e6
        self._bar.total = self._total
        self._pixels, self._is_begun = pixels, True

    def _move(self, within: float) -> None:
        self._bar.update(min(self._done + within, self._total) - self._bar.n)
