"""What a run writes down."""

import json
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from derain.images.plain import read_image
from training.checkpoint import DiskError
from training.progress import Pace, Progress, Row, side_by_side


def logged(folder: Path, first_step: int, last_step: int, loss: float) -> None:
    """Part of a run: an entry a step."""
    averages = {"loss": loss, "gradient_norm": 2.0, "estimator_loss": 8 * loss}
    with Progress(folder, first_step, 10) as progress:
        for step in range(first_step + 1, last_step + 1):
            pace = Pace()
            pace.add(0.0, 0.25, 1.0)
            progress.stepped()
            progress.log(step, 1e-3, [averages], pace, batch=8)


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


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path: Path) -> None:
    """Torn lines, and lines that a power cut filled with zeros, as well."""
    logged(tmp_path, 0, 5, loss=0.5)
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write('\0\0\0\n{"loss": 1}\n{"step": 6, "lo')
    (tmp_path / ".stats.jsonl.123.unfinished").write_text("half")
    logged(tmp_path, 3, 6, loss=0.25)
    expected = [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.25), (5, 0.25), (6, 0.25)]
    assert [(entry["step"], entry["loss"]) for entry in entries(tmp_path)] == expected
    assert points(tmp_path, "training/loss") == expected
    assert {path.name for path in tmp_path.iterdir()} == {"stats.jsonl", "tensorboard"}


def test_a_validation_leaves_its_scores_and_a_picture(tmp_path: Path) -> None:
    dark, light = (np.full((40, 60, 3), level, dtype=np.uint8) for level in (50, 200))
    with Progress(tmp_path, 0, 10) as progress:
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
    with Progress(tmp_path, 3, 10) as progress:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
        try:
            with pytest.raises(DiskError, match=r"stats\.jsonl cannot be written: File too large"):
                progress.validated(4, {"psnr": 12.5}, [])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "stats.jsonl").read_bytes() == before
