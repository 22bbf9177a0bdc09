"""What a run writes down as it goes: the bar, `stats.jsonl`, TensorBoard, sample images.

A resumed run forgets what came after its checkpoint, which happens again.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean, median
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from tqdm import tqdm

from derain.arrays import Image, middle
from derain.files import write_atomically
from derain.images.formats import JPEG
from derain.images.plain import encode
from training.figures.montage import beside, caption
from training.trainer.checkpoint import DiskError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STATS = "stats.jsonl"
SAMPLES = "samples"
TENSORBOARD = "tensorboard"

Averages = dict[str, float]  # what is averaged over the steps between two log entries
Scores = Mapping[str, float | None]  # None where there was nothing to measure


@dataclass(frozen=True)
class Row:
    """An image in the rain, what the network makes of it, and what it should be."""

    title: str
    rainy: Image
    derained: Image
    clean: Image


class RunLog:
    """Of one run, from `first_step` to `steps`; on the main process alone."""

    def __init__(self, run_folder: Path, first_step: int, steps: int) -> None:
        self.folder = run_folder
        self.stats = run_folder / STATS
        with _on_disk(self.folder):
            _forget_after(self.stats, first_step)
            self.board = _open_board(run_folder / TENSORBOARD, first_step)
        interval_s = 0.2 if sys.stderr.isatty() else 10  # in a file, a line now and then will do
        self.bar = tqdm(
            initial=first_step,
            total=steps,
            unit="step",
            mininterval=interval_s,
            smoothing=0.05,
        )
        self.shown: dict[str, str] = {}
        self.step_times = StepTimes(steps - first_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        with suppress(OSError) if kind else _on_disk(self.folder):
            self.board.close()

    def stepped(self, seconds: float) -> None:
        """A step is done, and took so long; says what there is to say of it."""
        self.bar.update()
        if (remark := self.step_times.add(seconds, datetime.now())) is not None:
            self.bar.write(remark, file=sys.stderr)

    def trained(
        self, step: int, learning_rate: float, unlogged: list[Averages], pace: "Pace", batch: int
    ) -> None:
        """Means since the last entry: of losses, and of gradients' norms before they are clipped."""
        entry = {name: fmean(step[name] for step in unlogged) for name in unlogged[0]}
        entry |= {
            "learning_rate": learning_rate,
            "steps_per_second": pace.steps / pace.worked_s,
            "samples_per_second": pace.steps * batch / pace.worked_s,
            "waiting_share": pace.waited_s / pace.worked_s,
        }
        self._append(step, entry, "training/")
        self._show(
            loss=f"{entry['loss']:.4f}",
            samples=f"{entry['samples_per_second']:.0f}/s",
            waiting=f"{entry['waiting_share']:.0%}",
        )

    def validated(self, step: int, scores: Scores, rows: list[Row]) -> None:
        self._append(step, scores, "validation/")
        self._show(**{name: f"{scores[name]:.2f}" for name in ("psnr", "removal") if scores.get(name)})
        if rows:
            sheet = side_by_side(rows)
            path = self.folder / SAMPLES / f"step-{step:07d}.jpg"
            with _on_disk(path):
                path.parent.mkdir(exist_ok=True)
                write_atomically(path, encode(sheet, JPEG))
                self.board.add_image("rainy, derained, clean", sheet, step, dataformats="HWC")

    def settle(self) -> None:
        """All that was written is on disk: a run goes on from the checkpoint saved next."""
        with _on_disk(self.folder / TENSORBOARD):
            self.board.flush()

    def _show(self, **values: str) -> None:
        self.shown |= values
        self.bar.set_postfix(self.shown, refresh=False)

    def _append(self, step: int, values: Scores, group: str) -> None:
        now = time.time()
        with _on_disk(self.stats):
            _append_line(self.stats, json.dumps({"step": step, "time": now, **values}))
            for name, value in values.items():
                if value is not None:
                    self.board.add_scalar(group + name, value, step, now)


@dataclass
class Pace:
    """How fast steps go, and how long they wait for their batch."""

    steps: int = 0
    waited_s: float = 0.0
    worked_s: float = 0.0  # waiting included; validation and the like not

    def add(self, asked: float, fetched: float, ended: float) -> None:
        """A step, by the clock."""
        self.steps += 1
        self.waited_s += fetched - asked
        self.worked_s += ended - asked


class StepTimes:
    """Of the steps of a run: how long all will take, and whether one took far longer than the first ones."""

    FIRST = 12  # steps; the very first is left out, for what it starts is started once
    SLOW = 10.0  # times the median of the first ones
    SAID_AGAIN_AFTER = 100  # steps

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.done = 0
        self.first: list[float] = []
        self.quiet_until = 0

    def add(self, seconds: float, now: datetime) -> str | None:
        """What there is to say after a step that took so long and ended now."""
        self.done += 1
        if self.done <= self.FIRST:
            self.first.append(seconds)
            return self._forecast(now) if self.done == self.FIRST else None
        if seconds < self.SLOW * self.median_s or self.done < self.quiet_until:
            return None
        self.quiet_until = self.done + self.SAID_AGAIN_AFTER
        return (
            f"a step took {seconds:.1f} s, where the first ones took {self.median_s:.2g}: other work on "
            "this machine? --threads 1 bears it best, and the same command goes on where it is stopped"
        )

    @property
    def median_s(self) -> float:
        return median(self.first[1:])

    def _forecast(self, now: datetime) -> str:
        left = timedelta(seconds=(self.steps - self.done) * self.median_s)
        return (
            f"{self.median_s:.2g} s a step: the {self.steps - self.done:,} steps left take about "
            f"{_duration(left)}, until {now + left:%a %d %b %H:%M}, without validation"
        )


def _duration(time: timedelta) -> str:
    """As in "3 h 20 min"."""
    minutes = max(1, round(time.total_seconds() / 60))
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def side_by_side(rows: list[Row]) -> Image:
    """One image: a row each, cut to the size of the smallest, under their titles."""
    height, width = (min(row.clean.shape[axis] for row in rows) for axis in (0, 1))
    strips: list[Image] = []
    for row in rows:
        columns = [middle(image, height, width) for image in (row.rainy, row.derained, row.clean)]
        strips += [caption(3 * width, f"{row.title}: rainy", "derained", "clean"), beside(columns)]
    return np.concatenate(strips, axis=0)


def _open_board(folder: Path, first_step: int) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter  # heavy, and of no use before training starts

    # A point at the checkpoint's own step is of the run that saved it, and stays.
    return SummaryWriter(folder, purge_step=first_step + 1)


def _forget_after(stats: Path, step: int) -> None:
    """Of an interrupted run, what came after its last checkpoint happens again."""
    for leftover in stats.parent.glob(
        ".*.unfinished"
    ):  # of `write_atomically`, killed: the run is alone here
        leftover.unlink()
    lines = stats.read_text().splitlines(keepends=True) if stats.exists() else []
    kept = [line for line in lines if line.endswith("\n") and _step(line) <= step]
    write_atomically(stats, "".join(kept).encode())


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # torn when the power failed


def _append_line(path: Path, line: str) -> None:
    """All of the line, or nothing where the disk is full."""
    before = path.stat().st_size
    try:
        with path.open("a") as file:
            file.write(line + "\n")
    except OSError:
        os.truncate(path, before)
        raise


@contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror}") from error
