"""The `derain` command where it meets a shell: streams, signals, names, disks."""

import csv
import errno
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

import derain.command.work
from derain.arguments import DONE, INTERRUPTED, SOME_FAILED, USAGE
from derain.arrays import rain_layer
from derain.cli import main
from derain.command import arguments, work
from derain.command.disk import check_folder, check_space, problem_of
from derain.command.report import Outcome, Status
from derain.errors import FileError, ProviderError
from derain.files import write_atomically
from derain.images.encoding import encode_photo
from derain.images.formats import AVIF, BMP, FORMATS, JPEG, PNG, TIFF, WEBP, ImageFormat
from derain.images.header import read_header
from derain.images.photo import Photo
from derain.images.plain import encode, read_image
from derain.inference import sessions
from derain.inference.engine import Engine
from derain.inference.network import Network
from derain.inference.sessions import Provider
from derain.models.registry import Registry
from tests.conftest import ROOT, files_in, noise, scene, write_estimating, write_model
from tests.derain.terminal import shown_in_terminal

HEIC_FILE = ROOT / "tests/derain/images/files/turned.heic"


class Command:
    """The command on the tiny model, as it is typed, in this process."""

    def __init__(self, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model = model
        self.capsys = capsys
        self.printed = ""

    def __call__(self, *arguments: str | Path) -> tuple[int, str]:
        """Exit status, and what was said on standard error."""
        given = list(map(str, arguments))
        try:
            status = main([*given, *([] if "-m" in given else ["-m", str(self.model)])])
        except SystemExit as ended:  # argparse's own
            assert isinstance(ended.code, int)
            status = ended.code
        self.printed, said = self.capsys.readouterr()
        assert "Traceback" not in said
        return status, said


@pytest.fixture
def command(model: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(model, capsys)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one image, where the command is typed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rain.jpg").write_bytes(encode(scene(30, 40), JPEG))
    return tmp_path


def format_of(path: Path) -> ImageFormat:
    return read_header(path.read_bytes()).format


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """In a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "derain", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, env=environment, timeout=120, **options)


# A file as the target


@pytest.mark.parametrize(
    ("name", "image_format"),
    [
        ("clean.jpg", JPEG),
        ("clean.JPEG", JPEG),
        ("clean.jfif", JPEG),
        ("clean.png", PNG),
        ("clean.webp", WEBP),
        ("clean.tif", TIFF),
        ("clean.bmp", BMP),
        ("clean.avif", AVIF),
        ("new/deep/clean.png", PNG),
    ],
)
def test_a_target_with_an_images_suffix_is_a_file(
    name: str, image_format: ImageFormat, command: Command, here: Path
) -> None:
    assert command("rain.jpg", "-o", name) == (0, f"1 derained, 0 already there, 0 failed; in {name}\n")
    assert format_of(here / name) == image_format
    assert files_in(here) == {"rain.jpg", name}


def test_a_file_that_is_named_is_written_over(command: Command, here: Path) -> None:
    """Else it would still be the result of another image."""
    (here / "clean.png").write_bytes(b"before")
    assert command("rain.jpg", "-o", "clean.png")[0] == 0
    assert format_of(here / "clean.png") == PNG


def test_a_link_stays_a_link(command: Command, here: Path) -> None:
    (here / "store").mkdir()
    (here / "clean.png").symlink_to("store/real.png")
    assert command("rain.jpg", "-o", "clean.png")[0] == 0
    assert (here / "clean.png").is_symlink()
    assert format_of(here / "store/real.png") == PNG


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_may_be_called_like_an_image(is_there: bool, command: Command, here: Path) -> None:
    if is_there:
        (here / "clean.jpg").mkdir()
    assert command("rain.jpg", "-o", "clean.jpg" if is_there else "clean.jpg/")[0] == 0
    assert files_in(here) == {"rain.jpg", "clean.jpg/rain.jpg"}


def test_an_empty_file_made_for_it(command: Command, here: Path) -> None:
    """As `mktemp` makes it, for its owner alone."""
    (here / "tmp.Xyz").touch(0o600)
    assert command("rain.jpg", "-o", "tmp.Xyz", "--format", "png")[0] == 0
    assert format_of(here / "tmp.Xyz") == PNG
    assert (here / "tmp.Xyz").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["", "-o", "out"], "'' is no name of a file or folder"),
        (["rain.jpg", "-o", ""], "'' is no name of a file or folder"),
        (["rain.jpg", "-o", "out", "-m", ""], "'' is no name of a file or folder"),
        (["rain.jpg", "-o", "out", "--report", ""], "'' is no name of a file or folder"),
        (["rain.jpg", "rain.jpg", "-o", "new.jpg"], "new.jpg is one image by its name"),
        (["in", "-o", "new.jpg"], "new.jpg is one image by its name"),
        (["rain.jpg", "-o", "rain.jpg"], "rain.jpg would be written over itself"),
        (["rain.jpg", "-o", "link.jpg"], "rain.jpg would be written over itself"),
        (["rain.jpg", "-o", "text.txt"], "text.txt is not a folder, and no name of an image"),
        (["rain.jpg", "-o", "new.gif"], "no result can be written as .gif, but as .jpg, .png, .webp, .tif,"),
        (["rain.jpg", "-o", "new.HEIC"], "no result can be written as .HEIC"),
        (["rain.jpg", "-o", "new.dng"], "no result can be written as .dng"),
        (["rain.jpg", "-o", "new.mpo"], "no result can be written as .mpo"),
        (["rain.jpg", "-o", "new.png", "--format", "jpg"], "named as PNG, but --format says JPEG"),
        (["rain.jpg", "-o", "text.txt/new.png"], "text.txt is not a folder"),
        (["rain.jpg", "-o", "text.txt/new"], "text.txt/new cannot be made: text.txt is not a folder"),
        (["rain.jpg", "-o", f"{'n' * 260}.png"], "n.png: File name too long"),
        (["none.jpg", "-o", "new.jpg"], "none.jpg does not exist"),
        (["rain.jpg", "-o", "out", "--format", "gif"], "'gif' is no format that can be written: jpeg, png,"),
        (["rain.jpg", "-o", "out", "--format", "heic"], "HEIC can be read, but not written"),
        (["rain.jpg", "-o", "out", "--quality", "0"], "'0' is no whole number from 1 to 100"),
        (["rain.jpg", "-o", "out", "--quality", "101"], "'101' is no whole number from 1 to 100"),
        (["rain.jpg", "-o", "out", "--quality", "9", "--format", "png"], "--quality: PNG has none"),
        (["rain.jpg", "-o", "out", "--lossless", "--format", "jpg"], "--lossless: JPEG cannot"),
        (["rain.jpg", "-o", "out", "--max-pixels", "0"], "'0' is no whole number of 1 or more"),
        (["rain.jpg", "-o", "out", "-m", "bsae"], "no model 'bsae' in"),
        (["rain.jpg", "-o", "out", "--device", "0", "--provider", "cpu"], "device 0 was asked for"),
        (["rain.jpg", "-o", "out", "--report", "r.txt"], "r.txt: it can be written as .json or .csv"),
        (["rain.jpg", "-o", "out", "--report", "none/r.csv"], "none is not a folder"),
        (["rain.jpg", "-o", "-", "--report", "-"], "standard output has the image already"),
        (["rain.jpg"], "where is the result to go? -o clean.jpg"),
        (["-", "-", "-o", "-"], "- can be named once"),
        (["-", "rain.jpg", "-o", "out"], "standard input has no name to keep"),
        (["-", "-o", "out"], "standard input has no name to keep"),
        (["in", "-o", "-"], "standard output takes the result of one image"),
        (["pipe", "-o", "out"], "pipe is a device or a pipe, and has no name to keep"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_said_before_the_work(
    arguments: list[str], said: str, command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "in").mkdir()
    shutil.copy("rain.jpg", "in/a.jpg")
    (here / "link.jpg").symlink_to("rain.jpg")
    (here / "text.txt").write_text("a letter")
    os.mkfifo("pipe")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    before = sorted(here.rglob("*"))
    status, printed = command(*arguments)
    assert status == 2
    assert said in printed
    assert sorted(here.rglob("*")) == before
    assert (here / "text.txt").read_text() == "a letter"


# Standard input and output


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["-"], ["-", "-o", "-"]])
def test_an_image_goes_through_a_pipe(arguments: list[str], model: Path, engine: Engine) -> None:
    rainy = noise(30, 20)
    done = run(*arguments, "-m", model, input=encode(rainy, PNG))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == encode(engine.derain(rainy), PNG)


@pytest.mark.slow
def test_from_a_file_to_a_stream_and_back(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encode(noise(30, 20), PNG))
    as_webp = run(file, "-o", "-", "--format", "WEBP", "-m", model).stdout
    assert read_header(as_webp).format == WEBP
    assert run("-", "-o", tmp_path / "b.tif", "-m", model, input=as_webp).returncode == 0
    assert format_of(tmp_path / "b.tif") == TIFF
    with file.open("rb") as opened:
        done = run("/dev/stdin", "-o", "/dev/stdout", "-m", model, stdin=opened)
    assert read_header(done.stdout).format == PNG


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "said"),
    [(b"", "the data is empty"), (b"GIF89a", "GIF is not supported"), (b"x", "not an image")],
)
def test_no_image_on_standard_input(sent: bytes, said: str, model: Path) -> None:
    done = run("-", "-m", model, input=sent)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"derain: standard input: " in done.stderr
    assert said in done.stderr.decode()


@pytest.mark.slow
def test_a_reader_that_goes_away(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(encode(noise(300, 400), BMP))  # more than a pipe holds
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        command = [sys.executable, "-m", "derain", str(tmp_path / "a.bmp"), "-o", "-", "-m", str(model)]
        done = subprocess.run(command, cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, f"derain: {tmp_path}/a.bmp: broken pipe\n")


def test_a_terminal_is_no_place_for_images(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, other = os.openpty()
    try:
        with os.fdopen(other, "w") as opened:
            monkeypatch.setattr(sys, "stdout", opened)
            assert command("rain.jpg", "-o", "-")[0] == 2
        with os.fdopen(os.openpty()[1]) as opened:
            monkeypatch.setattr(sys, "stdin", opened)
            status, said = command("-", "-o", "clean.jpg")
        assert (status, said) == (
            2,
            "derain: error: standard input is a terminal: pipe an image into it\n",
        )
    finally:
        os.close(terminal)


# Options


def test_the_format_is_asked_for(command: Command, here: Path) -> None:
    (here / "b.tif").write_bytes(encode(scene(9, 9), TIFF))
    assert command("rain.jpg", "b.tif", "-o", "out", "--format", "WebP")[0] == 0
    assert files_in(here / "out") == {"rain.jpg.webp", "b.tif.webp"}
    assert {format_of(path) for path in (here / "out").iterdir()} == {WEBP}


def test_the_quality_is_asked_for(command: Command, here: Path) -> None:
    (here / "rain.jpg").write_bytes(encode(noise(64, 64), JPEG))
    sizes = []
    for quality in ("20", "60", "100"):
        assert command("rain.jpg", "-o", "clean.jpg", "--quality", quality)[0] == 0
        sizes.append((here / "clean.jpg").stat().st_size)
    assert sizes == sorted(set(sizes))


def test_lossless_is_asked_for(command: Command, engine: Engine, here: Path) -> None:
    (here / "a.webp").write_bytes(encode(noise(20, 20), WEBP))
    assert command("rain.jpg", "a.webp", "-o", "out", "--lossless")[0] == 0  # the JPEG is one all the same
    derained = engine.derain(read_image(here / "a.webp"))
    assert np.array_equal(read_image(here / "out" / "a.webp"), derained)


def test_explain_shows_what_is_taken_away(command: Command, engine: Engine, here: Path) -> None:
    rainy = noise(20, 30)
    (here / "a.png").write_bytes(encode(rainy, PNG))
    assert command("a.png", "-o", "removed.png", "--explain")[0] == 0
    expected = rain_layer(rainy, engine.derain(rainy))
    assert expected.any()
    assert np.array_equal(read_image(here / "removed.png"), expected)


def test_an_image_without_rain_is_left_as_it_was_and_said_so(here: Path, command: Command) -> None:
    model = write_estimating(here / "estimating")
    dark = noise(30, 40) // 8
    (here / "dark.png").write_bytes(encode(dark, PNG))
    status, said = command("dark.png", "-o", "out.png", "--report", "r.json", "-m", model)
    assert status == 0
    assert "dark.png: no rain found, left as it was; --force derains it all the same" in said
    np.testing.assert_array_equal(read_image(here / "out.png"), dark)
    (row,) = json.loads((here / "r.json").read_text())["files"]
    assert (row["status"], row["target"]) == ("no rain found, left as it was", "out.png")
    assert command("dark.png", "-o", "out.png", "--force", "-m", model)[0] == 0
    assert not np.array_equal(read_image(here / "out.png"), dark)


def test_what_is_not_in_the_result_is_said(here: Path, command: Command) -> None:
    comment = b"\xff\xfe\x00\x07hello"
    data = (here / "rain.jpg").read_bytes()
    (here / "rain.jpg").write_bytes(data[:2] + comment + data[2:])
    status, said = command("rain.jpg", "-o", "out.jpg", "--report", "r.json")
    assert status == 0
    assert "rain.jpg: not in the result: comment" in said
    assert json.loads((here / "r.json").read_text())["files"][0]["dropped"] == "comment"


def test_the_version(command: Command) -> None:
    assert command("--version") == (0, "")
    assert command.printed == f"derain {derain.__version__}\n"


def test_the_models_that_come_along(command: Command) -> None:
    assert command("--list-models")[0] == 0
    lines = command.printed.splitlines()
    assert [line.split("\t")[0] for line in lines] == Registry().names()
    assert [line.split("\t")[0] for line in lines if line.endswith(", the default")] == ["base"]
    on_disk = sum(file.stat().st_size for file in Registry().folder("fast").glob("*.onnx")) / 1e6
    assert f"fast\t{on_disk:.1f} MB, 0.4 of the time of base" in lines


def test_a_model_by_its_name(here: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(here / "models" / "mine")
    monkeypatch.setattr(Registry.__init__, "__defaults__", (here / "models",))
    (here / "mine").mkdir()  # a folder that is no model, unless it is named as a path
    assert command("rain.jpg", "-o", "a.png", "-m", "mine")[0] == 0
    assert command("rain.jpg", "-o", "b.png", "-m", "./mine")[0] == 2
    status, said = command("rain.jpg", "-o", "b.png", "-m", "other")
    assert (status, said) == (
        2,
        f"derain: error: no model 'other' in {here}/models: there are mine\n",
    )


def test_quiet_says_what_failed_alone(command: Command, here: Path) -> None:
    (here / "in").mkdir()
    (here / "in" / "b.gif").touch()
    shutil.copy("rain.jpg", "in/a.jpg")
    assert command("in", "-o", "out", "--quiet") == (0, "")
    (here / "in" / "c.jpg").write_bytes(b"GIF89a")
    status, said = command("in", "-o", "out", "-q")
    assert status == 1
    assert said.startswith("derain: in/c.jpg: GIF is not supported")
    assert said.count("\n") == 1


@pytest.mark.parametrize("provider", [Provider.AUTO, Provider.CUDA, Provider.TENSORRT])
def test_a_gpu_that_is_not_there_is_not_replaced(provider: Provider, model: Path) -> None:
    with pytest.raises(ProviderError, match=f"{provider.replace('auto', 'cuda')} was asked for"):
        Engine(model, provider, device=1)


def test_the_device_is_told_to_all_that_runs_on_it() -> None:
    options = sessions._provider_options
    assert options(Provider.CUDA, 1) == {"cudnn_conv_algo_search": "HEURISTIC", "device_id": "1"}
    assert options(Provider.TENSORRT, 0) == {"device_id": "0"}
    assert options(Provider.CPU, 1) == options(Provider.TENSORRT, None) == {}


# How large an image may be


def test_the_limit_is_the_machines_or_the_one_asked_for(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "usable_memory", lambda: 2 * 14 * 1000)  # 1000 pixels
    status, said = command("rain.jpg", "-o", "clean.jpg")
    assert status == 1
    assert "40 x 30 takes about 0.02 MB of memory: 0.01 MB are there for it; --max-pixels may allow" in said
    assert command("rain.jpg", "-o", "clean.jpg", "--max-pixels", "1200")[0] == 0
    assert command("rain.jpg", "-o", "clean.jpg", "--max-pixels", "1199")[0] == 1


# Folders


def test_a_folder_run_says_what_it_leaves_out(command: Command, here: Path) -> None:
    folder = here / "in"
    (folder / "trip").mkdir(parents=True)
    for name in ("a.jfif", "b.jpe", "c.mpo"):
        shutil.copy("rain.jpg", folder / name)
    shutil.copy(HEIC_FILE, folder / "d.hif")
    for name in ("e.gif", "f.dng", "trip/g.NEF", "notes.txt"):
        (folder / name).touch()
    (folder / "link").symlink_to("trip")
    status, said = command("in", "-o", "out")
    assert status == 0
    assert files_in(here / "out") == {"a.jfif", "b.jpe", "c.mpo.jpg", "d.hif.jpg"}
    assert "derain: left out, GIF cannot be read: in/e.gif\n" in said
    assert "derain: left out, camera raw cannot be read: in/f.dng, in/trip/g.NEF\n" in said
    assert "symlinked folders (name them outright to derain what is in them): in/link\n" in said
    assert said.endswith("4 derained, 0 already there, 0 failed, 4 left out; in out\n")
    assert "notes" not in said


def test_a_folder_of_nothing_but_raw_says_so(command: Command, here: Path) -> None:
    (here / "in").mkdir()
    (here / "in" / "a.dng").touch()
    status, said = command("in", "-o", "out")
    assert status == 2
    assert "no images in in (known: " in said
    assert "left out, camera raw cannot be read: in/a.dng" in said


def test_what_is_missing_does_not_stop_the_rest(command: Command, here: Path) -> None:
    """A list of 3000 files by xargs, of which one is gone."""
    status, said = command("gone.jpg", "rain.jpg", "-o", "out")
    assert status == 1
    assert said == "derain: gone.jpg: does not exist\n1 derained, 0 already there, 1 failed; in out\n"


def test_no_result_is_written_over_another(command: Command, here: Path) -> None:
    folder = here / "in"
    folder.mkdir()
    shutil.copy("rain.jpg", folder / "IMG_1.jpg")
    shutil.copy(HEIC_FILE, folder / "IMG_1.heic")
    shutil.copy(HEIC_FILE, folder / "img_1.HIF")
    (folder / "IMG_1.JPG").write_bytes(encode(noise(8, 9), JPEG))
    for form in ("NFC", "NFD"):
        shutil.copy("rain.jpg", folder / unicodedata.normalize(form, "été.jpg"))
    for expected in ("6 derained, 0 already there", "0 derained, 6 already there"):
        status, said = command("in", "-o", "out")
        assert (status, said) == (0, f"{expected}, 0 failed; in out\n")
    names = files_in(here / "out")
    assert {"IMG_1.heic.jpg", "img_1.HIF.jpg"} < names
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == 6


@pytest.mark.parametrize(
    ("first", "second"), [("a.bmp", "a.png"), ("a.bmp", "a.bmp.png"), ("a.png", "A.png"), ("A.png", "a.png")]
)
def test_what_is_there_of_another_source_is_not_taken_for_ones_own(
    first: str, second: str, command: Command, here: Path
) -> None:
    red, blue = (np.full((9, 9, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    asked = ("in", "-o", "out", "--format", "png", "--strength", "0", "--report", "run.json")
    (here / "in").mkdir()
    (here / "in" / first).write_bytes(encode(red, BMP if first.endswith("bmp") else PNG))
    assert command(*asked)[0] == 0
    (here / "in" / second).write_bytes(encode(blue, PNG))
    assert command(*asked)[0] == 0
    rows = {row["source"]: row["target"] for row in json.loads((here / "run.json").read_text())["files"]}
    assert np.array_equal(read_image(here / rows[f"in/{first}"]), red)
    assert np.array_equal(read_image(here / rows[f"in/{second}"]), blue)
    assert "0 derained, 2 already there" in command(*asked)[1]


def test_the_suffix_says_what_is_in_the_file(command: Command, here: Path) -> None:
    (here / "in").mkdir()
    (here / "in" / "wrong.jpg").write_bytes(encode(scene(9, 9), PNG))
    shutil.copy(HEIC_FILE, here / "in" / "turned.png")
    late = bytearray(encode(scene(400, 400), TIFF))  # its directory is behind the pixels
    (here / "in" / "late.jpg").write_bytes(late)
    assert command("in", "-o", "out")[0] == 0
    assert {path.name: format_of(path) for path in (here / "out").iterdir()} == {
        "wrong.jpg.png": PNG,
        "turned.png.jpg": JPEG,
        "late.jpg.tif": TIFF,
    }


def test_no_result_is_written_over_another_source(command: Command, here: Path) -> None:
    for folder in ("a", "b"):
        (here / folder).mkdir()
        shutil.copy("rain.jpg", here / folder / f"{folder}.jpg")
    shutil.copy("rain.jpg", here / "b" / "a.jpg")
    before = (here / "b" / "a.jpg").read_bytes()
    assert command("a/a.jpg", "b/b.jpg", "-o", "b", "--overwrite")[0] == 2
    assert command("b/a.jpg", "a/b.heic", "-o", "a")[0] == 1
    assert (here / "b" / "a.jpg").read_bytes() == before


# Disks


def test_a_name_may_be_as_long_as_the_disk_takes(command: Command, here: Path) -> None:
    longest = "n" * 251 + ".jpg"
    shutil.copy("rain.jpg", longest)
    write_atomically(here / longest, (here / longest).read_bytes())
    assert command(longest, "-o", "out")[0] == 0
    assert files_in(here / "out") == {longest}


def test_a_name_too_long_is_found_before_the_work(command: Command, here: Path) -> None:
    (here / "in").mkdir()
    shutil.copy("rain.jpg", here / "in" / ("n" * 251 + ".jpg"))
    shutil.copy("rain.jpg", here / "in" / "a.jpg")
    status, said = command("in", "-o", "other", "--format", "webp")
    assert status == 1
    assert "the name of the result is too long: 260 bytes, at most 255\n" in said
    assert said.index("too long") < said.index("1 derained, 0 already there, 1 failed")
    assert files_in(here / "other") == {"a.jpg.webp"}


def test_a_folder_in_the_place_of_a_result(command: Command, here: Path) -> None:
    (here / "out" / "rain.jpg").mkdir(parents=True)
    status, said = command("rain.jpg", "-o", "out", "--overwrite")
    assert (status, said.splitlines()[0]) == (1, "derain: rain.jpg: out/rain.jpg is a folder")


@pytest.mark.parametrize("target", ["/proc/derain", "/proc/derain/out.jpg"])
def test_a_disk_that_cannot_be_written_is_found_before_the_work(
    target: str, command: Command, here: Path
) -> None:
    """Not even by root."""
    status, said = command("rain.jpg", "-o", target, "-m", str(here / "no model"))
    assert status == 2
    assert "/proc/derain cannot be written to: " in said  # before the model is looked at
    with pytest.raises(FileError, match="cannot be written to"):
        check_folder(Path("/proc/derain"))


def test_a_full_disk_is_found_before_the_work(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 100, 100))
    status, said = command("rain.jpg", "-o", "out")
    assert status == 2
    assert "out has no room: the results take about " in said
    assert not (here / "out").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 0))
    for where in (["-o", "out", "--format", "avif"], ["-o", "clean.jpg"]):
        assert command("rain.jpg", *where)[0] == 2
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 100, 100))
    check_space(here, 100)
    with pytest.raises(FileError):
        check_space(here, 101)


@pytest.mark.usefixtures("here")
def test_a_model_that_fails_is_told_from_an_error_of_ours(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(network: Network, jobs: object) -> None:
        raise RuntimeException("no room for 3 GB")

    monkeypatch.setattr(Network, "run", fail)
    status, said = command("rain.jpg", "-o", "clean.jpg")
    assert status == SOME_FAILED
    assert "rain.jpg: the model failed: no room for 3 GB" in said


def test_an_error_of_ours_fails_its_file_alone(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (here / "in").mkdir()
    for name in ("a.jpg", "c.jpg"):
        shutil.copy("rain.jpg", here / "in" / name)
    (here / "in" / "b.png").write_bytes(encode(scene(9, 9), PNG))

    def fail_on_png(photo: Photo, target: ImageFormat, *given: Any, **named: Any) -> bytes:
        if target == PNG:
            raise OverflowError("9 is too large")
        return encode_photo(photo, target, *given, **named)

    monkeypatch.setattr(work, "encode_photo", fail_on_png)
    caplog.set_level(logging.DEBUG, "derain")
    status, said = command("in", "-o", "out")
    assert status == SOME_FAILED
    assert "derain: in/b.png: an error in Derain: OverflowError: 9 is too large\n" in said
    assert said.endswith("2 derained, 0 already there, 1 failed; in out\n")
    assert "in fail_on_png" in caplog.text  # the traceback


def test_an_interruption_is_no_error_of_a_file(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: Any, **named: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "encode_photo", interrupt)
    status, said = command("rain.jpg", "-o", "out")
    assert status == INTERRUPTED
    assert "1 not tried" in said


def test_a_disk_that_fills_up_ends_the_run(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results of 2999 images need not be computed to see that there is no room for them."""
    (here / "in").mkdir()
    for name in "abc":
        shutil.copy("rain.jpg", here / "in" / f"{name}.jpg")

    def write(path: Path, data: bytes) -> None:
        """A disk with room for one image."""
        if list((here / "out").iterdir()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_atomically(path, data)

    monkeypatch.setattr(derain.command.work, "write_atomically", write)
    status, said = command("in", "-o", "out")
    assert status == 1
    assert said == (
        "derain: in/b.jpg: no space left on device\n"
        "1 derained, 0 already there, 1 failed, 1 not tried; in out\n"
    )


def test_devices_stay_devices(command: Command, here: Path) -> None:
    os.mkfifo(here / "pipe")
    (here / "out").mkdir()
    (here / "out" / "rain.jpg").symlink_to("../pipe")
    status, said = command("rain.jpg", "-o", "out", "--overwrite")
    assert (status, said.splitlines()[0]) == (1, "derain: rain.jpg: out/rain.jpg is a device or a pipe")
    assert (here / "pipe").is_fifo()
    assert command("rain.jpg", "-o", "/dev/null")[0] == 0
    assert Path("/dev/null").is_char_device()


def test_a_place_that_cannot_be_written_is_named(here: Path) -> None:
    (here / "file").touch()
    assert problem_of(here / "new" / "deep" / "a.jpg") is None
    assert problem_of(here / "file" / "a.jpg") == f"{here}/file is not a folder"
    assert problem_of(here) == f"{here} is a folder"


# The report


def test_the_report_has_each_file(command: Command, here: Path) -> None:
    folder = here / "in"
    folder.mkdir()
    shutil.copy("rain.jpg", folder / "a.jpg")
    shutil.copy("rain.jpg", folder / "b,\n.jpg")
    (folder / "c.jpg").write_bytes(b"GIF89a")
    for name in ("d.dng", "._a.jpg", "notes.txt"):
        (folder / name).touch()
    (here / "out").mkdir()
    (here / "out" / "a.jpg").touch()
    assert command("in", "-o", "out", "--report", "r.json", "-m", command.model)[0] == 1
    told = json.loads((here / "r.json").read_text())
    assert told["model"] == "tiny"
    assert told["counts"] == {
        "derained": 1,
        "already there": 1,
        "failed": 1,
        "no rain found, left as it was": 0,
        "derained as far as it goes": 0,
        "left out": 3,
        "not tried": 0,
    }
    files = {row["source"]: row for row in told["files"]}
    assert set(files) == {f"in/{path.name}" for path in folder.iterdir()}
    done = files["in/b,\n.jpg"]
    assert (done["status"], done["target"], done["width"], done["height"]) == (
        "derained",
        "out/b,\n.jpg",
        40,
        30,
    )
    assert done["seconds"] > 0
    assert files["in/a.jpg"]["status"] == "already there"
    assert files["in/c.jpg"]["reason"].startswith("GIF is not supported")
    assert files["in/d.dng"]["reason"] == "camera raw cannot be read"
    shutil.rmtree(here / "out")
    assert command("in", "-o", "out", "--report", "r.CSV")[0] == 1
    with (here / "r.CSV").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert {row["source"] for row in rows} == set(files)
    assert {row["status"] for row in rows} == {"derained", "failed", "left out"}


def test_the_report_on_standard_output(command: Command, here: Path) -> None:
    assert command("rain.jpg", "-o", "out", "--report", "-", "-q") == (0, "")
    (row,) = json.loads(command.printed)["files"]
    assert (row["source"], row["target"]) == ("rain.jpg", "out/rain.jpg")


@pytest.mark.skipif(sys.platform == "darwin", reason="names are text there")
@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_names_that_are_no_text(suffix: str, command: Command, here: Path) -> None:
    (here / "in").mkdir()
    shutil.copy("rain.jpg", os.fsdecode(b"in/\xff\n.jpg"))
    assert command("in", "-o", "out", "--report", f"r.{suffix}")[0] == 0
    assert [os.fsencode(path.name) for path in (here / "out").iterdir()] == [b"\xff\n.jpg"]
    assert (here / f"r.{suffix}").stat().st_size


def test_names_do_nothing_to_a_terminal(command: Command, here: Path) -> None:
    (here / "in").mkdir()
    (here / "in" / "a\x1b[2J.jpg").write_bytes(b"GIF89a")
    (here / "in" / "b\n.gif").touch()
    status, said = command("in", "-o", "out")
    assert status == 1
    assert "'in/a\\x1b[2J.jpg': GIF is not supported" in said
    assert "left out, GIF cannot be read: 'in/b\\n.gif'\n" in said
    assert "\x1b" not in said


# Interruptions


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_leaves_no_half_file(number: signal.Signals, tmp_path: Path) -> None:
    slow = write_model(tmp_path / "slow", channels=64)
    folder, results = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode(noise(20, 20), PNG))
    (folder / "b.bmp").write_bytes(encode(scene(3000, 4000), BMP))
    (folder / "c.png").write_bytes(encode(noise(20, 20), PNG))
    command = [sys.executable, "-m", "derain", folder, "-o", results, "-m", slow, "--threads", "1"]
    report = ["--report", str(tmp_path / "r.json")]
    # What is ignored stays so, and whoever started these tests may ignore the signal (nohup).
    before = signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    try:
        arguments = [*map(str, command), *report]
        process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(number, before)
    deadline = time.monotonic() + 60
    while not (results / "a.png").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert files_in(results) == {"a.png"}
    assert said.endswith(
        f"1 derained, 0 already there, 0 failed, 2 not tried; in {results}\n"
        "\nderain: interrupted; the same command goes on with what is left\n"
    )
    told = json.loads((tmp_path / "r.json").read_text())
    assert [row["status"] for row in told["files"]] == ["derained", "not tried", "not tried"]


def test_the_help_says_the_exit_statuses(command: Command) -> None:
    assert command("--help")[0] == 0
    listed = command.printed.partition("exit status:")[2].split()
    assert {"0", "1", "2", "130", "(143:"} <= set(listed)


@pytest.mark.slow
def test_the_bar_is_in_megapixels_and_moves_within_an_image(tmp_path: Path) -> None:
    """On a terminal; elsewhere there is none."""
    slow = write_model(tmp_path / "slow", channels=16)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.bmp").write_bytes(encode(scene(1000, 1500), BMP))
    command = [sys.executable, "-m", "derain", tmp_path / "in", "-o", tmp_path / "out", "-m", slow]
    shown = shown_in_terminal([*map(str, command), "--threads", "4"], 100, ROOT)
    done = [float(figure) for figure in re.findall(rb"([0-9.]+) of 1.5 MP \[", shown)]
    assert done == sorted(done)
    assert done[-1] == 1.5
    assert any(0 < figure < 1.5 for figure in done)
    assert b"1 of 1, " in shown


def test_deep_images_fit_too(command: Command, here: Path) -> None:
    deep = noise(9, 12).astype(np.uint16) * 257
    (here / "deep.png").write_bytes(encode_photo(Photo(deep, None, False, None, None, PNG), PNG))
    assert command("deep.png", "-o", "deep.tif")[0] == 0
    assert format_of(here / "deep.tif") == TIFF


# The page that describes it

PAGE = (ROOT / "docs" / "command.md").read_text()


def test_the_page_has_every_option() -> None:
    documented = re.findall(r"^\| (`-.+?`) \| [a-z0-9]", PAGE, flags=re.MULTILINE)
    options = {name for row in documented for name in re.findall(r"`(-[^`]+)`", row)}
    there = {name for action in arguments.make_parser()._actions for name in action.option_strings}
    assert options == there


def test_the_page_has_every_suffix() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| (\.[^|]+) \|$", PAGE, flags=re.MULTILINE))
    assert {name: tuple(suffixes.split()) for name, suffixes in rows.items()} == {
        known.name: known.suffixes + known.other_suffixes for known in FORMATS
    }


def test_the_page_has_every_column_and_status() -> None:
    for word in (*Outcome(None, Status.FAILED).row(), *Status):
        assert re.search(rf"\b{word}\b", PAGE), word
    for status in (DONE, SOME_FAILED, USAGE, INTERRUPTED):
        assert re.search(rf"^\| {status} \| ", PAGE, flags=re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
)
def test_the_commands_of_the_page_run(line: str, model: Path, here: Path) -> None:
    """On one image wherever one is named, and on the tiny model."""
    if missing := [tool for tool in ("jq", "ffmpeg") if tool in line and not shutil.which(tool)]:
        pytest.skip(f"there is no {missing[0]}")
    for folder in ("holiday", "camera"):
        (here / folder).mkdir()
        shutil.copy("rain.jpg", here / folder)
    (here / "last-run").touch()
    os.utime(here / "last-run", (0, 0))
    if "ffmpeg" in line:
        subprocess.run(["ffmpeg", "-loglevel", "error", "-i", "rain.jpg", "rain.mp4"], check=True)
    line = re.sub(r" (--model|-m) fast| --watch", "", line)
    command = f'{sys.executable} -m derain --model "{model}"'
    script = re.sub(r"\bderain(?= [^/])", lambda _: command, line)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert (here / "clean.jpg").exists() or (here / "clean.png").exists() or any(here.glob("*/rain.jpg"))
