"""What a run writes down."""

import json
import resource
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from derain.images.plain import read_image
from training.trainer.checkpoint import DiskError
from training.trainer.run_log import Pace, Row, RunLog, StepTimes, side_by_side


def logged(folder: Path, first_step: int, last_step: int, loss: float) -> None:
    """Part of a run: an entry a step."""
    averages = {"loss": loss, "gradient_norm": 2.0, "estimator_loss": 8 * loss}
    with RunLog(folder, first_step, 10) as progress:
        for step in range(first_step + 1, last_step + 1):
            pace = Pace()
            pace.add(0.0, 0.25, 1.0)
            progress.stepped(0.1)
            progress.trained(step, 1e-3, [averages], pace, batch=8)


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(tag)]


def entries(folder: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]


def test_an_entry_says_how_fast_and_how_well(tmp_path: Path) -> None:
    logged(tmp_path, 0, 1, loss=0.5)
    (entry,) = entries(tmp_path)
    assert entry.pop("time")
    assert entry == {
        "step": 1,
        "loss": 0.5,
        "gradient_norm": 2.0,
        "estimator_loss": 4.0,
        "learning_rate": 1e-3,
        "steps_per_second": 1.0,
        "samples_per_second": 8.0,
        "waiting_share": 0.25,
    }


def leave_unfinished(path: Path) -> None:
    """What a process leaves that is killed while it writes the file."""
    killed = """if True:
        import os, sys
        from pathlib import Path
        from derain.files import write_atomically
        Path.replace = lambda *_: os._exit(9)
        write_atomically(Path(sys.argv[1]), b"half")
        """
    before = set(path.parent.iterdir())
    assert subprocess.run([sys.executable, "-c", killed, str(path)]).returncode == 9
    assert len(set(path.parent.iterdir()) - before) == 1


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path: Path) -> None:
    """Torn lines, and lines that a power cut filled with zeros, as well."""
    logged(tmp_path, 0, 5, loss=0.5)
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write('\0\0\0\n{"loss": 1}\n{"step": 6, "lo')
    leave_unfinished(tmp_path / "stats.jsonl")
    logged(tmp_path, 3, 6, loss=0.25)
    expected = [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.25), (5, 0.25), (6, 0.25)]
    assert [(entry["step"], entry["loss"]) for entry in entries(tmp_path)] == expected
    assert points(tmp_path, "training/loss") == expected
    assert {path.name for path in tmp_path.iterdir()} == {"stats.jsonl", "tensorboard"}


def test_a_validation_leaves_its_scores_and_a_picture(tmp_path: Path) -> None:
    dark, light = (np.full((40, 60, 3), level, dtype=np.uint8) for level in (50, 200))
    with RunLog(tmp_path, 0, 10) as progress:
        progress.validated(4, {"psnr": 12.5, "removal": None}, [Row("grey", dark, light, light)])
    (entry,) = entries(tmp_path)
    assert entry == {"step": 4, "time": entry["time"], "psnr": 12.5, "removal": None}
    assert points(tmp_path, "validation/psnr") == [(4, 12.5)]
    sheet = read_image(tmp_path / "samples" / "step-0000004.jpg")
    assert sheet.shape == (60, 180, 3)
    assert abs(int(sheet[40, 30, 0]) - 50) < 3
    assert abs(int(sheet[40, 90, 0]) - 200) < 3
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    (image,) = board.Images("rainy, derained, clean")
    shown = cv2.imdecode(np.frombuffer(image.encoded_image_string, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == sheet.shape


def test_rows_of_different_sizes_are_cut_to_their_middles() -> None:
    wide, high = np.zeros((20, 90, 3), dtype=np.uint8), np.zeros((50, 30, 3), dtype=np.uint8)
    high[15:35] = 255
    sheet = side_by_side([Row("wide", wide, wide, wide), Row("high", high, high, high)])
    assert sheet.shape == (2 * (20 + 20), 3 * 30, 3)
    assert (sheet[20:40] == 0).all()
    assert (sheet[60:] == 255).all()


def test_a_line_that_does_not_fit_on_the_disk_is_not_there_by_half(tmp_path: Path) -> None:
    """By a limit on the size of files, which is an error of the same kind."""
    logged(tmp_path, 0, 3, loss=0.5)
    before = (tmp_path / "stats.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunLog(tmp_path, 3, 10) as progress:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
        try:
            with pytest.raises(DiskError, match=r"stats\.jsonl cannot be written: File too large"):
                progress.validated(4, {"psnr": 12.5}, [])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "stats.jsonl").read_bytes() == before


NOON = datetime(2026, 11, 29, 12, 0)


def said(times: StepTimes, *seconds: float) -> list[str]:
    return [remark for each in seconds if (remark := times.add(each, NOON)) is not None]


def test_after_a_dozen_steps_it_says_how_long_the_rest_takes_and_until_when() -> None:
    times = StepTimes(5012)
    assert said(times, 40.0, *[2.0] * 10) == [], "the first step, which starts the workers, says nothing"
    (remark,) = said(times, 2.0)
    assert remark.startswith("2 s a step: the 5,000 steps left take about 2 h 47 min, until Sun 29 Nov 14:46")
    assert said(times, *[2.0] * 50) == []


def test_a_run_that_is_shorter_says_nothing() -> None:
    assert said(StepTimes(6), *[1.0] * 6) == []


def test_a_step_that_takes_ten_times_as_long_is_said_once_in_a_hundred_steps() -> None:
    times = StepTimes(5000)
    said(times, *[0.5] * 12)
    assert said(times, 4.9) == []
    (remark,) = said(times, 5.1, *[6.0] * 99)
    assert remark.startswith("a step took 5.1 s, where the first ones took 0.5: other work on this machine?")
    assert "--threads 1" in remark
    assert len(said(times, 6.0)) == 1


def test_what_there_is_to_say_stands_beside_the_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunLog(tmp_path, 0, 1000) as log:
        for _ in range(12):
            log.stepped(3.0)
    assert "3 s a step: the 988 steps left take about 49 min, until " in capsys.readouterr().err
