import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from derain.cli import main
from derain.command.plan import Job
from derain.command.watch import Arrivals, Watched
from derain.images.formats import JPEG, PNG
from derain.images.plain import encode, read_image
from tests.conftest import ROOT, files_in, noise


def test_a_file_has_arrived_when_it_stays_as_it_is(tmp_path: Path) -> None:
    arrivals, file = Arrivals(), tmp_path / "a.jpg"
    file.touch()
    assert arrivals.look([file]) == []
    assert arrivals.look([file]) == []  # still empty: somebody has only made it
    file.write_bytes(b"half")
    assert arrivals.look([file]) == []
    file.write_bytes(b"half and half")
    assert arrivals.look([file]) == []
    assert arrivals.look([file]) == [file]
    assert arrivals.look([file]) == []
    file.write_bytes(b"another image")
    assert arrivals.look([file]) == []
    assert arrivals.look([file]) == [file]


def test_a_file_that_goes_is_no_matter(tmp_path: Path) -> None:
    arrivals, file = Arrivals(), tmp_path / "a.jpg"
    file.write_bytes(b"rain")
    arrivals.look([file])
    file.unlink()
    assert arrivals.look([file]) == []
    assert arrivals.look([]) == []


def sources(jobs: list[Job]) -> list[str]:
    return [job.source.name for job in jobs if job.source]


def test_new_changed_and_left_out(tmp_path: Path) -> None:
    folder, results = tmp_path / "in", tmp_path / "in" / "out"
    results.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(encode(noise(8, 8), JPEG))
    (folder / "raw.dng").touch()
    (results / "b.jpg").write_bytes(encode(noise(8, 8), JPEG))
    watched = Watched(folder, results, None)
    new, changed, untold = watched.look()
    assert (new, changed, [each.source for each in untold]) == ([], [], [folder / "raw.dng"])
    new, changed, untold = watched.look()
    assert (sources(new), changed, untold) == (["a.jpg"], [], [])
    assert new[0].target == results / "a.jpg"
    (folder / "a.jpg").write_bytes(encode(noise(9, 8), JPEG))
    assert watched.look() == ([], [], [])
    new, changed, untold = watched.look()
    assert (new, sources(changed), untold) == ([], ["a.jpg"], [])
    assert changed[0].target == results / "a.jpg"


def test_a_folder_that_goes_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(encode(noise(8, 8), JPEG))
    watched = Watched(folder, tmp_path / "out", None)
    watched.look()
    assert sources(watched.look()[0]) == ["a.jpg"]
    folder.rename(tmp_path / "elsewhere")
    assert [each.reason for each in watched.look()[2]] == ["No such file or directory"]
    assert watched.look() == ([], [], [])
    (tmp_path / "elsewhere").rename(folder)
    for _ in range(3):
        assert watched.look() == ([], [], [])


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What happens after each look, in place of the wait; after the last one Ctrl+C is pressed."""
    steps: list[Callable[[], object]] = []

    def wait(_: float) -> None:
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr(time, "sleep", wait)
    yield steps
    assert not steps


def test_a_folder_is_watched_until_ctrl_c(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], looks: list[Callable[[], object]]
) -> None:
    folder, results = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    results.mkdir()
    (folder / "there.png").write_bytes(encode(noise(8, 8), PNG))
    (results / "there.png").write_bytes(b"before")
    whole = encode(noise(20, 30), PNG)
    looks += [
        lambda: (folder / "new.png").write_bytes(whole[:100]),
        lambda: (folder / "new.png").write_bytes(whole),
        lambda: None,
        lambda: (folder / "cut.png").write_bytes(whole[:100]),
        lambda: None,
        lambda: (folder / "new.png").write_bytes(encode(noise(40, 30), PNG)),
        lambda: None,
    ]
    status = main([str(folder), "-o", str(results), "--watch", "-m", str(model)])
    said = capsys.readouterr().err
    assert status == 130
    assert f"derain: watching {folder}; Ctrl+C ends it\n" in said
    assert said.count(f"{folder}/new.png: derained in ") == 2
    assert said.count(f"{folder}/cut.png: ") == 1
    assert f"1 derained, 1 already there, 1 failed; in {results}\n" in said
    assert files_in(results) == {"there.png", "new.png"}
    assert read_image(results / "new.png").shape == (40, 30, 3)
    assert (results / "there.png").read_bytes() == b"before"


@pytest.mark.parametrize("inputs", [["a.png"], ["in", "in"], ["-"], ["none"]])
def test_only_a_folder_is_watched(
    inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "a.png").touch()
    with pytest.raises(SystemExit, match="2"):
        main([*inputs, "-o", "out", "--watch"])
    assert "--watch takes one folder" in capsys.readouterr().err


def test_results_are_not_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "-o", f"{tmp_path}/../{tmp_path.name}", "--watch"]) == 2
    assert "cannot take the results while it is watched" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "-o", "out", "--watch", "--report", "-"])


@pytest.mark.slow
def test_a_signal_ends_the_watch(model: Path, tmp_path: Path) -> None:
    """As a service manager does it, in a process of its own."""
    folder, results = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode(noise(20, 30), PNG))
    command = [sys.executable, "-m", "derain", folder, "-o", results, "--watch", "-m", model]
    report = ["--report", str(tmp_path / "r.csv")]
    process = subprocess.Popen([*map(str, command), *report], cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (results / "a.png").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"Traceback" not in said
    assert np.asarray(read_image(results / "a.png")).shape == (20, 30, 3)
    assert "a.png,derained," in (tmp_path / "r.csv").read_text()
