"""The curves of runs, as a figure and as a table, from what runs really write down."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import figure_texts
from training.commands.curves import main
from training.trainer.curves import COLUMNS, read_runs, smoothed
from training.trainer.run_log import Pace, RunLog

SCORES = {"psnr": 30.0, "input_psnr": 25.0, "removal": 0.5, "background_error": 4.0, "clean_worst_psnr": None}


def train(folder: Path, first_step: int, last_step: int, steps_per_second: float = 2.0) -> Path:
    """As a run would: an entry each 100 steps, a validation each 300."""
    folder.mkdir(parents=True)
    with RunLog(folder, first_step, last_step) as progress:
        for step in range(first_step + 100, last_step + 1, 100):
            pace = Pace(steps=100, worked_s=100 / steps_per_second)
            averages = {"loss": 1 / step, "gradient_norm": 0.5, "estimator_loss": 2 / step}
            progress.trained(step, 1e-3, [averages], pace, batch=8)
            if step % 300 == 0:
                progress.validated(step, SCORES, [])
    return folder


@pytest.mark.slow
def test_the_table_has_what_was_written_down(tmp_path: Path) -> None:
    run = train(tmp_path / "mine", 0, 600)
    assert main([str(run), "-o", str(tmp_path / "mine.svg")]) == 0
    with (tmp_path / "mine.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == ["100", "200", "300", "400", "500", "600"]
    third = {"run": "mine", "step": "300", "hours": f"{150 / 3600:.4f}"}
    third |= {
        "loss": "0.0033333",
        "estimator_loss": "0.0066667",
        "gradient_norm": "0.5",
        "learning_rate": "0.001",
        "samples_per_second": "16",
    }
    third |= {
        "psnr": "30",
        "input_psnr": "25",
        "removal": "0.5",
        "background_error": "4",
        "clean_worst_psnr": "",
    }
    assert rows[2] == third
    assert rows[1]["psnr"] == ""


@pytest.mark.slow
def test_the_figure_has_every_run(tmp_path: Path) -> None:
    one, other = (train(tmp_path / name, 0, 600) for name in ("one", "other"))
    figure = tmp_path / "two.svg"
    assert main([str(one), str(other), "-o", str(figure)]) == 0
    said = figure_texts(figure)
    assert {"one", "other", "loss", "loss of the rain estimator", "learning rate", "steps"} <= set(said)
    assert "rain removal η, in unseen rain" in said
    assert "clean images back, dB" not in said, "none was measured"


@pytest.mark.slow
def test_hours_are_of_training(tmp_path: Path) -> None:
    """600 steps at 2 a second; validation takes no time."""
    run = train(tmp_path / "run", 0, 600)
    (read,) = read_runs([run])
    assert [entry.hours * 3600 for entry in read.entries] == pytest.approx([50, 100, 150, 200, 250, 300])
    figure = tmp_path / "hours.svg"
    assert main([str(run), "-o", str(figure), "--hours"]) == 0
    assert "hours of training" in figure_texts(figure)


def test_a_pause_is_not_training(tmp_path: Path) -> None:
    run = train(tmp_path / "run", 0, 300)
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    moved = [line | {"time": line["time"] + 1e6 * (line["step"] > 100)} for line in lines]
    (run / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in moved))
    (read,) = read_runs([run])
    assert read.entries[-1].hours * 3600 == pytest.approx(150)


def test_what_is_being_written_is_left_out(tmp_path: Path) -> None:
    run = train(tmp_path / "run", 0, 300)
    with (run / "stats.jsonl").open("a") as file:
        file.write('{"step": 400, "lo')
    (read,) = read_runs([run])
    assert [entry.step for entry in read.entries] == [100, 200, 300]


def test_smoothing_keeps_lines_and_quiets_noise() -> None:
    line, noise = np.linspace(3, 1, 200), np.random.default_rng(0).normal(size=200)
    assert smoothed(line)[10:-10] == pytest.approx(line[10:-10])
    assert np.std(smoothed(noise)) < 0.5 * np.std(noise)
    assert smoothed(noise[:3]) == pytest.approx(noise[:3]), "of so few, none is a neighbour"


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = train(tmp_path / "run", 0, 300)
    for name in ("a", "b"):
        assert main([str(run), "-o", str(tmp_path / f"{name}.svg")]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize(
    ("stats", "said"),
    [
        (None, "run has no stats.jsonl: name a run folder, such as runs/base"),
        ("", "stats.jsonl has no entry of training yet"),
        ('{"step": 300, "psnr": 20.0}\n', "stats.jsonl has no entry of training yet"),
        (
            '{"step": 100, "loss": 0.5, "steps_per_second": 2}\nhello\n',
            "stats.jsonl, line 2: no entry of a run",
        ),
        ('{"step": 100, "loss": 0.5}\n', "stats.jsonl, line 1: an entry without steps_per_second"),
        ('{"loss": 0.5, "steps_per_second": 2}\n', "stats.jsonl, line 1: an entry without step"),
        ("[1, 2]\n", "stats.jsonl, line 1: no entry of a run"),
    ],
)
def test_a_folder_without_curves_is_said_to_be_one(
    stats: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    if stats is not None:
        (tmp_path / "run" / "stats.jsonl").write_text(stats)
    assert main([str(tmp_path / "run"), "-o", str(tmp_path / "run.svg")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert said in error
    assert not (tmp_path / "run.svg").exists()


def test_what_is_there_and_no_table_of_curves_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "run", 0, 300)
    (tmp_path / "peers.csv").write_text("name,trained_on\n")
    assert main([str(run), "-o", str(tmp_path / "peers.svg")]) == 1
    assert "peers.csv is there and is no table of curves" in capsys.readouterr().err
    assert (tmp_path / "peers.csv").read_text() == "name,trained_on\n"


def test_runs_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [train(tmp_path / folder / "run", 0, 100) for folder in ("a", "b")]
    many = [train(tmp_path / f"run{number}", 0, 100) for number in range(8)]
    for folders, said in ((runs, "two runs are named run"), (many, "8 runs are more than can be told apart")):
        assert main([*map(str, folders), "-o", str(tmp_path / "f.svg")]) == 1
        assert said in capsys.readouterr().err
