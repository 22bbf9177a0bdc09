"""Two models on the same images: what each scores, the difference, and how sure it is."""

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from time import process_time
from typing import Any

import numpy as np
from tqdm import tqdm

from derain.arrays import Image
from derain.inference.engine import Engine
from derain.inference.sessions import Provider
from derain.manifest import Manifest
from training.evaluation.gate.scenes import SceneSet
from training.evaluation.metrics import mean_known
from training.evaluation.scoring import Measured, finite, measure
from training.stats import CONFIDENCE, RESAMPLES, Interval, interval_of_mean

# Beyond it nothing is counted: saving as JPEG, as the service does, brings photographs back at 43.6 dB (the
# mean of those held out). So nothing is lost when a flat image that came back at 60 dB comes back at 50.
CLEAN_ENOUGH_PSNR = 45.0  # dB

# Short turns and many of them: on a busy machine 60 turns of this size were sure to 1 %, and 15 of four times
# the size, which take as long, to 5 %.
TURNS = 60  # of both models, to time them
_TIMED_SIZE_PX = (240, 320)  # height, width
_TURN_S = 0.05  # at least, in as many runs as it takes


@dataclass(frozen=True)
class Tolerances:
    """How much worse a candidate may be, surely and at most."""

    psnr: float = field(
        default=0.5, metadata={"unit": "dB", "why": "of rainy images: less is not seen side by side"}
    )
    removal: float = field(
        default=0.04, metadata={"unit": "ETA", "why": "share of the rain removed: a twenty-fifth of the rain"}
    )
    background_error: float = field(
        default=1.0, metadata={"unit": "LEVELS", "why": "E_B: one step of the 255 that an image can show"}
    )
    clean_psnr: float = field(
        default=1.0,
        metadata={
            "unit": "dB",
            "why": "of images without rain; above "
            f"{CLEAN_ENOUGH_PSNR:g} dB, where nobody sees it, nothing is counted",
        },
    )
    slower: float = field(
        default=10.0,
        metadata={"unit": "PERCENT", "why": "time a megapixel: as much as the load of a service varies"},
    )
    larger: float = field(
        default=10.0,
        metadata={"unit": "PERCENT", "why": "ONNX files: more weights are another network, to be asked for"},
    )


@dataclass(frozen=True)
class Measure:
    """What is compared, and how it is said."""

    key: str  # of its tolerance, too
    label: str
    says: str  # how a refusal begins
    unit: str
    digits: int
    higher_is_better: bool
    value: Callable[[Measured], float]  # of one image, NaN where it has none
    in_percent: bool = False  # the difference

    @property
    def difference_unit(self) -> str:
        return " %" if self.in_percent else self.unit


def _of_rain(key: str) -> Callable[[Measured], float]:
    return lambda measured: math.nan if measured.scores is None else float(getattr(measured.scores, key))


def _clean_psnr(measured: Measured) -> float:
    return min(CLEAN_ENOUGH_PSNR, measured.clean_psnr)


def _nothing(_: Measured) -> float:
    return math.nan


PSNR = Measure("psnr", "PSNR", "rainy images come out at", " dB", 2, True, _of_rain("psnr"))
REMOVAL = Measure("removal", "removal η", "the share of rain removed is", "", 3, True, _of_rain("removal"))
BACKGROUND = Measure(
    "background_error", "E_B", "the error off the rain is", " of 255", 2, False, _of_rain("background_error")
)
CLEAN = Measure("clean_psnr", "clean back", "clean images come back at", " dB", 2, True, _clean_psnr)
MEASURES = (PSNR, REMOVAL, BACKGROUND, CLEAN)
# Follows removal, and rises with damage as well: shown, not judged.
RAIN_CHANGE = Measure(
    "rain_change", "E_R", "the change on the rain is", " of 255", 2, True, _of_rain("rain_change")
)
SPEED = Measure("slower", "ms a megapixel", "a megapixel takes", " ms", 0, False, _nothing, True)
SIZE = Measure("larger", "ONNX files, MB", "the ONNX files have", " MB", 2, False, _nothing, True)


@dataclass(frozen=True)
class Both:
    """What both models did to one scene."""

    candidate: list[Measured]
    current: list[Measured]


@dataclass(frozen=True)
class Row:
    """One measure on one set, of both models."""

    set: str
    measure: Measure
    candidate: float
    current: float
    difference: Interval  # candidate - current, in percent of the current where the measure says so
    images: int  # or turns, of times; 0: known without doubt
    allowed: float | None  # None: shown, not judged

    @property
    def loss(self) -> Interval:
        """The difference, positive where the candidate is worse."""
        d = self.difference
        return Interval(-d.mean, -d.high, -d.low) if self.measure.higher_is_better else d

    @property
    def passes(self) -> bool:
        return self.allowed is None or self.loss.high <= self.allowed

    def refusal(self) -> str:
        """Why it does not pass, in words."""
        assert self.allowed is not None
        m, loss = self.measure, self.loss
        digits = 1 if m.in_percent else m.digits

        def amount(value: float) -> str:
            return f"{value:.{digits}f}"

        now = f"{m.says} {self.candidate:.{m.digits}f}{m.unit}"
        then = f"the current model's {self.current:.{m.digits}f}{m.unit}"
        allowed = f"allowed: {self.allowed:g}{m.difference_unit}"
        count = f"{self.images} {'turn' if m is SPEED else 'image'}{'s' * (self.images != 1)}"
        if not math.isfinite(loss.high):
            return f"{self.set}: {now}, against {then}, but {count} cannot tell; {allowed}"
        if loss.mean > self.allowed:
            by = f"{amount(loss.mean)}{m.difference_unit}"
            if self.images:
                by += f" [{amount(loss.low)}, {amount(loss.high)}]"
            return f"{self.set}: {now}, {by} {'below' if m.higher_is_better else 'above'} {then}; {allowed}"
        return (
            f"{self.set}: too uncertain: {now}, against {then}, which is within what is allowed, but "
            f"{count} cannot rule out {amount(loss.high)}{m.difference_unit} worse; {allowed}"
        )


@dataclass(frozen=True)
class Outcome:
    """All that was compared."""

    rows: list[Row]
    scenes: dict[str, dict[str, Both]]  # by set and name

    @property
    def refusals(self) -> list[str]:
        return [row.refusal() for row in self.rows if not row.passes]


def compare(candidate: Engine, current: Engine, sets: Sequence[SceneSet], tolerances: Tolerances) -> Outcome:
    """Scores, times and weighs both models; the candidate passes where no row refuses."""
    rows: list[Row] = []
    scenes: dict[str, dict[str, Both]] = {}
    for each in sets:
        progress = tqdm(each.scenes, desc=each.name, unit="scene", disable=None)
        done = {
            scene.name: Both(measure(candidate.derain, scene.cases), measure(current.derain, scene.cases))
            for scene in progress
        }
        scenes[each.name] = done
        judged = [_row(each.name, m, list(done.values()), getattr(tolerances, m.key)) for m in MEASURES]
        shown = [_row(each.name, RAIN_CHANGE, list(done.values()), None)]
        for number, rain in enumerate(each.rains):
            of_rain = [Both([both.candidate[number]], [both.current[number]]) for both in done.values()]
            shown += [_row(f"– {rain}", m, of_rain, None) for m in MEASURES if m is not CLEAN]
        rows += [row for row in judged + shown if row is not None]
    rows += [_speed(candidate, current, tolerances), _size(candidate, current, tolerances)]
    return Outcome(rows, scenes)


def _row(name: str, m: Measure, scenes: Sequence[Both], allowed: float | None) -> Row | None:
    """None where no image has the measure."""
    means = [
        (mean_known(map(m.value, both.candidate)), mean_known(map(m.value, both.current))) for both in scenes
    ]
    known = [(ours, theirs) for ours, theirs in means if not (math.isnan(ours) or math.isnan(theirs))]
    if not known:
        return None
    difference = interval_of_mean([ours - theirs for ours, theirs in known])
    ours, theirs = (fmean(side) for side in zip(*known, strict=True))
    return Row(name, m, ours, theirs, difference, len(known), allowed)


def _speed(candidate: Engine, current: Engine, tolerances: Tolerances) -> Row:
    """Turn about, in turned order: what else the machine does meets both alike."""
    image = np.random.default_rng(0).integers(0, 256, (*_TIMED_SIZE_PX, 3), dtype=np.uint8)
    megapixels = image[..., 0].size / 1e6
    runs = {engine: _runs_a_turn(engine, image) for engine in (candidate, current)}
    taken: dict[Engine, list[float]] = {candidate: [], current: []}
    for turn in tqdm(range(TURNS), desc="speed", unit="turn", disable=None):
        for engine in (candidate, current) if turn % 2 else (current, candidate):
            seconds = _processor_time(engine, image, runs[engine])
            taken[engine].append(seconds / megapixels * 1000)
    # Of ratios the logarithm: twice as long and half as long are equally far from the same.
    ratios = [math.log(ours / theirs) for ours, theirs in zip(*taken.values(), strict=True)]
    log = interval_of_mean(ratios)
    percent = Interval(*(100 * math.expm1(min(value, 100.0)) for value in (log.mean, log.low, log.high)))
    ours, theirs = (float(np.median(taken[engine])) for engine in (candidate, current))
    return Row("speed", SPEED, ours, theirs, percent, TURNS, tolerances.slower)


def _runs_a_turn(engine: Engine, image: Image) -> int:
    engine.derain(image)  # the first run is slower than all that follow
    return max(1, math.ceil(_TURN_S / max(_processor_time(engine, image, 1), 1e-6)))


def _processor_time(engine: Engine, image: Image, runs: int) -> float:
    """Seconds a run, of this process: it bears a busy machine better than the clock on the wall."""
    start = process_time()
    for _ in range(runs):
        engine.derain(image)
    return (process_time() - start) / runs


def _size(candidate: Engine, current: Engine, tolerances: Tolerances) -> Row:
    ours, theirs = (_bytes(engine.manifest) for engine in (candidate, current))
    percent = 100 * (ours / theirs - 1)
    exactly = Interval(percent, percent, percent)
    return Row("size", SIZE, ours / 1e6, theirs / 1e6, exactly, 0, tolerances.larger)


def _bytes(model: Manifest) -> int:
    """Of all its files."""
    return sum(file.bytes for file in model.files)


# What is said of it


def text_table(outcome: Outcome) -> str:
    lines = [["", "", "candidate", "current", "difference", "95 % interval", "allowed", ""]]
    for row in outcome.rows:
        m, d = row.measure, row.difference
        digits = 1 if m.in_percent else m.digits
        percent = "%" if m.in_percent else ""
        sign = "-" if m.higher_is_better else "+"
        lines.append(
            [
                row.set,
                m.label,
                f"{row.candidate:.{m.digits}f}",
                f"{row.current:.{m.digits}f}",
                f"{d.mean:+.{digits}f}{percent}",
                f"[{d.low:+.{digits}f}, {d.high:+.{digits}f}]" if row.images else "",
                "" if row.allowed is None else f"{sign}{row.allowed:g}{percent}",
                "" if row.allowed is None else "ok" if row.passes else "REFUSED",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        [
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in aligned)


def report(
    outcome: Outcome, models: dict[str, tuple[Path, Manifest]], tolerances: Tolerances
) -> dict[str, Any]:
    """Everything, image by image; null where something has no value or no end."""
    rows = [
        {
            "set": row.set,
            "measure": row.measure.key,
            "candidate": row.candidate,
            "current": row.current,
            "difference": row.difference.mean,
            "low": finite(row.difference.low),
            "high": finite(row.difference.high),
            "in_percent": row.measure.in_percent,
            "images": row.images,
            "allowed": row.allowed,
            "passes": row.passes,
        }
        for row in outcome.rows
    ]
    each = [
        {"set": name, "scene": scene, "model": side, "image": measured.name} | measured.plain()
        for name, scenes in outcome.scenes.items()
        for scene, both in scenes.items()
        for side in ("candidate", "current")
        for measured in getattr(both, side)
    ]
    return {
        "at": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "passed": not outcome.refusals,
        "refusals": outcome.refusals,
        "models": {
            side: {"folder": str(folder), "name": m.name, "sha256": m.sha256, "bytes": _bytes(m)}
            for side, (folder, m) in models.items()
        },
        "measured_on": f"cpu, 1 thread, {platform.machine()}",
        "rule": "the bad end of the interval is within what is allowed",
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "tolerances": asdict(tolerances),
        "rows": rows,
        "each": each,
    }


def in_short(outcome: Outcome, name: str) -> str:
    """What has changed on a set, in a line."""
    rows = [row for row in outcome.rows if row.set == name and row.allowed is not None]
    return ", ".join(f"{r.measure.label} {r.difference.mean:+.{r.measure.digits}f}" for r in rows)


def compare_folders(
    candidate: Path, current: Path, sets: Sequence[SceneSet], tolerances: Tolerances
) -> Outcome:
    ours, theirs = (Engine(folder, Provider.CPU, threads=1) for folder in (candidate, current))
    try:
        return compare(ours, theirs, sets, tolerances)
    finally:
        ours.close()
        theirs.close()
