import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from derain.arguments import check_output, run_command
from derain.cli import main
from derain.errors import DerainError, FileError
from derain.images.encoding import encode_photo
from derain.images.formats import JPEG, PNG
from derain.images.header import read_header
from derain.images.photo import Photo, decode_photo, derain_photo
from derain.images.plain import encode, read_image
from derain.inference.engine import Engine
from tests.conftest import ROOT, files_in, noise


class Derain:
    """The command on the tiny model, as it is typed."""

    def __init__(self, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model = model
        self.capsys = capsys

    def __call__(self, *arguments: str | Path) -> tuple[int, str]:
        """Exit status, and what was said."""
        status = main([*map(str, arguments), "--model", str(self.model)])
        printed = self.capsys.readouterr()
        assert printed.out == ""
        return status, printed.err


@pytest.fixture
def derain(model: Path, capsys: pytest.CaptureFixture[str]) -> Derain:
    return Derain(model, capsys)


@pytest.fixture
def rainy(tmp_path: Path) -> Path:
    """A folder of images and other files."""
    folder = tmp_path / "rainy"
    (folder / "trip" / "day 2").mkdir(parents=True)
    (folder / "a.png").write_bytes(encode(noise(20, 30), PNG))
    (folder / "trip" / "a.png").write_bytes(encode(noise(30, 20), PNG))
    (folder / "trip" / "day 2" / "B.JPEG").write_bytes(encode(noise(8, 8), JPEG))
    (folder / "notes.txt").write_text("rain")
    return folder


ALL = {"a.png", "trip/a.png", "trip/day 2/B.JPEG"}


def test_files(derain: Derain, engine: Engine, rainy: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "deep"
    status, said = derain(rainy / "a.png", rainy / "trip" / "day 2" / "B.JPEG", "--output", output)
    assert (status, said) == (0, f"2 derained, 0 already there, 0 failed; in {output}\n")
    assert files_in(output) == {"a.png", "B.JPEG"}
    assert np.array_equal(read_image(output / "a.png"), engine.derain(read_image(rainy / "a.png")))
    assert read_header((output / "B.JPEG").read_bytes()).format == JPEG


def test_a_folder_keeps_its_structure(derain: Derain, rainy: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert derain(rainy, "-o", output)[0] == 0
    assert files_in(output) == ALL


def test_what_is_done_is_skipped_unless_told(derain: Derain, rainy: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "a.png").write_bytes(b"before")
    assert derain(rainy, "-o", output) == (0, f"2 derained, 1 already there, 0 failed; in {output}\n")
    assert derain(rainy, "-o", output) == (0, f"0 derained, 3 already there, 0 failed; in {output}\n")
    assert (output / "a.png").read_bytes() == b"before"
    assert derain(rainy, "-o", output, "--overwrite")[0] == 0
    assert read_image(output / "a.png").shape == (20, 30, 3)


def test_one_bad_file_does_not_stop_the_rest(derain: Derain, rainy: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    whole = (rainy / "a.png").read_bytes()
    (rainy / "a.png").write_bytes(whole[: len(whole) // 2])
    (rainy / "empty.jpg").touch()
    status, said = derain(rainy, "-o", output)
    assert status == 1
    assert f"{rainy}/a.png: the PNG image is " in said
    assert f"{rainy}/empty.jpg: no image: the data is empty\n" in said
    assert said.endswith(f"2 derained, 0 already there, 2 failed; in {output}\n")
    assert files_in(output) == ALL - {"a.png"}


def test_a_place_that_cannot_be_written(derain: Derain, rainy: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "trip").write_text("a file where a folder should go")
    status, said = derain(rainy, "-o", output)
    assert status == 1
    assert "1 derained, 0 already there, 2 failed" in said
    assert files_in(output) == {"a.png", "trip"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.png", "-o", "out"], "missing.png does not exist"),
        (["empty", "-o", "out"], "no images in empty (known: .avif, .bmp, "),
        (
            ["rainy/a.png", "rainy/trip/a.png", "-o", "out"],
            "rainy/trip/a.png would both be written to out/a.png",
        ),
        (["rainy", "rainy/a.png", "rainy/trip", "-o", "out"], "would both be written to out/a.png"),
        (["rainy/a.png", "-o", "rainy"], "rainy/a.png would be written over itself"),
        (["rainy", "-o", "rainy"], "would be written over itself"),
        (["rainy", "-o", "rainy/trip/.."], "would be written over itself"),
        (["rainy", "-o", "notes"], "notes is not a folder"),
        (["rainy", "-o", "out", "--provider", "tensorrt"], "tensorrt was asked for"),
        (["rainy", "-o", "out", "--threads", "-1"], "threads"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant(
    derain: Derain,
    rainy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").touch()
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path)
    try:
        status, printed = derain(*arguments)
    except SystemExit as exit:  # argparse's own
        assert isinstance(exit.code, int)
        status, printed = exit.code, capsys.readouterr().err
    assert status == 2
    assert said in printed
    assert "error: " in printed
    assert files_in(tmp_path) == before


def test_one_file_named_twice_is_one_image(derain: Derain, rainy: Path, tmp_path: Path) -> None:
    status, said = derain(rainy / "a.png", rainy / "trip" / ".." / "a.png", "-o", tmp_path / "out")
    assert (status, said.split(",")[0]) == (0, "1 derained")


@pytest.mark.parametrize("output", ["rainy/out", "rainy/trip/../out", "{here}/rainy/out"])
def test_results_inside_the_folder_are_not_derained_again(
    derain: Derain, rainy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    where = output.format(here=tmp_path)
    for already in (0, 3):
        status, said = derain("rainy", "-o", where)
        assert (status, said) == (
            0,
            f"{3 - already} derained, {already} already there, 0 failed; in {where}\n",
        )
    assert files_in(rainy / "out") == ALL


def test_results_beside_the_folder(derain: Derain, rainy: Path) -> None:
    assert derain(rainy / "trip" / "day 2", "-o", rainy)[0] == 0
    assert files_in(rainy) == {*ALL, "B.JPEG", "notes.txt"}


def test_a_broken_model(derain: Derain, rainy: Path, tmp_path: Path) -> None:
    derain.model = tmp_path / "none"
    status, said = derain(rainy, "-o", tmp_path / "out")
    assert (status, said) == (2, f"derain: error: no model at {tmp_path}/none: manifest.json is missing\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "stream"),
    [(["--help"], 0, "stdout"), ([], 2, "stderr"), (["a.png"], 2, "stderr"), (["--colour"], 2, "stderr")],
)
def test_as_a_module(arguments: list[str], status: int, stream: str) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "derain", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == status
    assert getattr(run, stream).startswith("usage: derain ")
    assert "Traceback" not in run.stderr


# What the other commands share


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (DerainError("too small"), 1, "error: too small\n"),
        (PermissionError("not yours"), 1, "error: not yours\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
    ],
)
def test_what_stops_a_command_is_said_in_one_line(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raising(error)) == status
    assert capsys.readouterr().err == said


def test_our_own_mistakes_are_not_hidden() -> None:
    assert run_command(lambda: 0) == 0
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))


def test_a_place_for_output_is_checked(tmp_path: Path) -> None:
    for name in ("new.svg", "NEW.SVG"):
        check_output(tmp_path / name, (".svg", ".png"))
    check_output(tmp_path / "anything")
    for path, said in [
        (tmp_path, "is a folder: name a file"),
        (tmp_path / "missing" / "new.svg", "missing is not a folder"),
        (tmp_path / "new.jpg", r"new.jpg: it can be written as .svg or .png"),
    ]:
        with pytest.raises(FileError, match=said):
            check_output(path, (".svg", ".png"))


def test_files_keep_what_they_hold(derain: Derain, engine: Engine, tmp_path: Path) -> None:
    deep = noise(9, 12).astype(np.uint16) * 257
    photo = Photo(deep, deep[..., 0], False, None, None, PNG)
    (tmp_path / "deep.png").write_bytes(encode_photo(photo, PNG))
    (tmp_path / "phone.heic").write_bytes((ROOT / "tests/derain/images/files/turned.heic").read_bytes())
    assert derain(tmp_path / "deep.png", tmp_path / "phone.heic", "-o", tmp_path / "out")[0] == 0
    assert files_in(tmp_path / "out") == {"deep.png", "phone.heic.jpg"}
    data = (tmp_path / "out" / "deep.png").read_bytes()
    derained = decode_photo(data, read_header(data))
    assert derained.image.dtype == np.uint16
    assert derained.alpha is not None
    assert np.array_equal(derained.alpha, deep[..., 0])
    assert np.array_equal(derained.image, derain_photo(engine.examine, photo).photo.image)
    assert b"Rain" in (tmp_path / "out" / "phone.heic.jpg").read_bytes()


def test_strength_and_metadata_are_asked_for(derain: Derain, tmp_path: Path) -> None:
    source = tmp_path / "phone.heic"
    source.write_bytes((ROOT / "tests/derain/images/files/turned.heic").read_bytes())
    assert derain(source, "-o", tmp_path / "out", "--strength", "0", "--strip-metadata")[0] == 0
    answer = (tmp_path / "out" / "phone.heic.jpg").read_bytes()
    assert b"Rain" not in answer
    before, after = read_image(source).astype(int), read_image(tmp_path / "out" / "phone.heic.jpg")
    assert np.abs(before - after).mean() < 2
    with pytest.raises(SystemExit):
        derain(source, "-o", tmp_path / "out", "--strength", "2")
