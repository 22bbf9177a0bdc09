"""The command with videos: files, folders, watches, signals; and the page that describes it."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import derain.video.formats
from derain.cli import main
from derain.command.watch import Watched
from derain.images.formats import JPEG
from derain.images.plain import encode
from derain.video.formats import CODECS, CONTAINERS, MKV, VIDEO_SUFFIXES
from derain.video.preview import Preview, preview
from tests.conftest import ROOT, files_in, heed_interrupts, scene, write_estimating, write_model
from tests.derain.terminal import shown_in_terminal
from tests.derain.video.clips import (
    FRAMES,
    HEIGHT,
    WIDTH,
    Clip,
    flat,
    frames,
    moving,
    packets,
    stamps,
    write_clip,
)

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(model: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str | Path) -> tuple[int, str]:
        """Exit status, and what was said on standard error."""
        given = list(map(str, arguments))
        try:
            status = main([*given, *([] if "-m" in given else ["-m", str(model)])])
        except SystemExit as ended:  # argparse's own
            status = int(str(ended.code))
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return status, said

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one video, where the command is typed."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "rain.mp4", Clip(has_sound=True))
    return tmp_path


def test_a_video_becomes_a_video(command: Command, here: Path) -> None:
    status, said = command("rain.mp4", "-o", "clean.mp4", "--report", "run.json")
    assert (status, said) == (0, "1 derained, 0 already there, 0 failed; in clean.mp4\n")
    assert stamps(here / "clean.mp4") == stamps(here / "rain.mp4")
    assert packets(here / "clean.mp4", "audio") == packets(here / "rain.mp4", "audio")
    (row,) = json.loads((here / "run.json").read_text())["files"]
    assert row["seconds"] > 0
    del row["seconds"]
    assert row == {
        "source": "rain.mp4",
        "status": "derained",
        "target": "clean.mp4",
        "reason": None,
        "width": WIDTH,
        "height": HEIGHT,
        "dropped": None,
        "frames": FRAMES,
        "derained_frames": FRAMES,
    }
    assert files_in(here) == {"rain.mp4", "clean.mp4", "run.json"}


def test_a_dry_video_says_so(command: Command, here: Path) -> None:
    write_clip(here / "dry.mp4", Clip(draw=flat(*[20] * FRAMES)))
    estimating = write_estimating(here / "model")
    status, said = command("dry.mp4", "-o", "clean.mp4", "-m", estimating)
    assert status == 0
    assert "dry.mp4: no rain found, left as it was; --force derains it all the same\n" in said


@pytest.mark.slow
def test_options_reach_the_encoder(command: Command, here: Path) -> None:
    for crf in (10, 45):
        assert command("rain.mp4", "-o", f"{crf}.mp4", "--codec", "hevc", "--crf", str(crf))[0] == 0
    assert frames(here / "10.mp4")[0].format.name == "yuv420p"
    sizes = [sum(len(each[2]) for each in packets(here / f"{crf}.mp4", "video")) for crf in (10, 45)]
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.slow
def test_a_folder_of_images_and_videos(command: Command, here: Path) -> None:
    (here / "in").mkdir()
    (here / "in" / "photo.jpg").write_bytes(encode(scene(30, 40), JPEG))
    write_clip(here / "in" / "a.mov", Clip())
    write_clip(here / "in" / "b.avi", Clip(codec="mpeg4", options={}, has_sound=True))
    (here / "in" / "broken.mp4").write_bytes(b"no video")
    (here / "in" / "main.ts").write_text("let rain: boolean;\n")
    status, said = command("in", "-o", "out", "--report", "run.csv")
    assert status == 1
    assert "in/broken.mp4 cannot be read as a video" in said
    assert said.endswith("3 derained, 0 already there, 1 failed; in out\n")
    assert files_in(here / "out") == {"photo.jpg", "a.mov", "b.avi.mp4"}
    with (here / "run.csv").open() as file:
        rows = {row["source"]: row for row in csv.DictReader(file)}
    assert (rows["in/b.avi"]["target"], rows["in/b.avi"]["frames"]) == ("out/b.avi.mp4", str(FRAMES))
    assert rows["in/photo.jpg"]["frames"] == ""
    assert rows["in/main.ts"]["reason"] == "not named as an image"
    assert command("in", "-o", "out")[1].endswith("0 derained, 3 already there, 1 failed; in out\n")


def test_a_ts_that_is_named_is_a_video(command: Command, here: Path) -> None:
    write_clip(here / "camera.mts").rename(here / "camera.ts")
    assert command("camera.ts", "-o", "out")[0] == 0
    assert len(frames(here / "out" / "camera.ts.mp4")) == FRAMES


def test_a_container_is_chosen_that_holds_the_codec(command: Command, here: Path) -> None:
    assert command("rain.mp4", "-o", "out/", "--codec", "ffv1")[0] == 0
    assert files_in(here / "out") == {"rain.mp4.mkv"}


def test_an_unfinished_video_is_no_input(command: Command, here: Path) -> None:
    (here / "in" / "b.mp4.unfinished").mkdir(parents=True)
    shutil.copy(here / "rain.mp4", here / "in" / "a.mp4")
    shutil.copy(here / "rain.mp4", here / "in" / "b.mp4.unfinished" / "so-far.mp4")
    status, said = command("in", "-o", "out")
    assert status == 0
    assert "left out, unfinished videos: in/b.mp4.unfinished\n" in said
    assert files_in(here / "out") == {"a.mp4"}


def test_without_pyav_videos_are_left_out(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        derain.video.formats, "find_spec", lambda name: None if name == "av" else find_spec(name)
    )
    status, said = command("rain.mp4", "-o", "clean.mp4")
    assert status == 2
    assert "rain.mp4 is a video, which needs PyAV: pip install 'derain[video]'" in said
    (here / "photo.jpg").write_bytes(encode(scene(8, 8), JPEG))
    status, said = command(".", "-o", "out")
    assert status == 0
    assert "left out, videos need PyAV: pip install 'derain[video]': rain.mp4\n" in said
    assert files_in(here / "out") == {"photo.jpg"}


@pytest.mark.slow
def test_what_is_cut_short_is_derained_and_told(command: Command, here: Path) -> None:
    long = Clip(stamps=[512 * number for number in range(60)], container_options={"movflags": "faststart"})
    whole = write_clip(here / "cut.mp4", long).read_bytes()
    (here / "cut.mp4").write_bytes(whole[: 2 * len(whole) // 3])
    status, said = command("cut.mp4", "-o", "out", "--report", "run.csv")
    assert status == 1
    assert re.search(r"derain: cut.mp4: the file is cut short: [01]\.\d of 2\.0 s could be read\n", said)
    assert said.endswith("0 derained, 0 already there, 0 failed, 1 derained as far as it goes; in out\n")
    with (here / "run.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["status"] == "derained as far as it goes"
    assert len(frames(here / "out" / "cut.mp4")) == int(row["frames"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rain.mp4", "-o", "-"], "rain.mp4 is a video, and is written to a file: name one as --output"),
        (
            ["rain.mp4", "-o", "clean.jpg"],
            "clean.jpg: a video can be written as .mp4, .m4v, .mov, .mkv, .webm",
        ),
        (
            ["rain.mp4", "-o", "clean.avi"],
            "a video can be written as .mp4, .m4v, .mov, .mkv, .webm, not '.avi'",
        ),
        (["rain.mp4", "-o", "rain.mp4"], "rain.mp4 would be written over itself"),
        (["photo.jpg", "-o", "clean.mp4"], "no result can be written as .mp4, but as .jpg, "),
        (
            ["rain.mp4", "-o", "out", "--quality", "9"],
            "--quality is of images, and rain.mp4 is none; of videos it is",
        ),
        (
            ["rain.mp4", "-o", "out", "--lossless"],
            "--lossless is of images, and rain.mp4 is none; of videos it is --c",
        ),
        (["rain.mp4", "-o", "out", "--format", "png"], "--format is of images, and rain.mp4 is none"),
        (["rain.mp4", "photo.jpg", "-o", "out", "--explain"], "--explain is of images, and rain.mp4 is none"),
        (["rain.mp4", "-o", "out", "--codec", "vp9"], "invalid choice: 'vp9'"),
        (
            ["rain.mp4", "-o", "out", "--codec", "h264", "--crf", "52"],
            "the crf of h264 is from 0 to 51, not 52",
        ),
        (["rain.mp4", "-o", "out", "--crf", "-1"], "'-1' is no whole number of 0 or more"),
        (["rain.mp4", "-o", "out", "--raw", "4x4"], "--raw says how large the frames are that come through"),
    ],
)
def test_what_cannot_be_meant(arguments: list[str], said: str, command: Command, here: Path) -> None:
    (here / "photo.jpg").write_bytes(encode(scene(8, 8), JPEG))
    status, told = command(*arguments)
    assert status == 2
    assert said in told
    assert files_in(here) == {"rain.mp4", "photo.jpg"}


def test_quality_is_for_the_images_among_videos(command: Command, here: Path) -> None:
    (here / "photo.jpg").write_bytes(encode(scene(8, 8), JPEG))
    assert command("rain.mp4", "photo.jpg", "-o", "out", "--quality", "50")[0] == 0
    assert files_in(here / "out") == {"rain.mp4", "photo.jpg"}


def test_a_frame_too_large_fails(command: Command, here: Path) -> None:
    status, said = command("rain.mp4", "-o", "out", "--max-pixels", "3000")
    assert status == 1
    assert "rain.mp4: 64 x 48 pixels are 3,072, 3,000 are allowed; --max-pixels may allow more" in said


def test_a_watched_folder_takes_videos_too(here: Path) -> None:
    (here / "in").mkdir()
    shutil.copy(here / "rain.mp4", here / "in" / "a.mp4")
    watched = Watched(here / "in", here / "out", None)
    assert watched.look() == ([], [], [])
    (job,), changed, left_out = watched.look()
    assert (job.is_video, job.target, job.pixels) == (True, here / "out" / "a.mp4", FRAMES * WIDTH * HEIGHT)
    assert (changed, left_out) == ([], [])


def start(model: Path, here: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """In a process of its own, with segments of five frames, and slow enough to be stopped within."""
    program = (
        "import sys, time\n"
        "import derain.video.clip as clip, derain.video.frames as frames\n"
        "clip.SEGMENT_FRAMES = 5\n"
        "alone = frames.FrameDerainer._derain_alone\n"
        "def slow(*given):\n"
        "    time.sleep(0.05)\n"
        "    return alone(*given)\n"
        "frames.FrameDerainer._derain_alone = slow\n"
        "from derain.cli import main\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-W", "error", "-c", program, *arguments, "-m", str(model)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=here, env=environment, stderr=subprocess.PIPE, preexec_fn=heed_interrupts
    )


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 100
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_run_goes_on(
    model: Path, command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(here / "long.mp4", Clip(stamps=[512 * number for number in range(40)], has_sound=True))
    process = start(model, here, "long.mp4", "-o", "clean.mp4")
    wait_for(here / "clean.mp4.unfinished" / "00001.json", process)
    process.kill()
    process.communicate()
    assert not (here / "clean.mp4").exists()
    monkeypatch.setattr("derain.video.clip.SEGMENT_FRAMES", 5)
    first = (here / "clean.mp4.unfinished" / "00000.packets").stat()
    copy = here / "first"
    os.link(here / "clean.mp4.unfinished" / "00000.packets", copy)
    assert command("long.mp4", "-o", "clean.mp4")[0] == 0
    assert copy.stat().st_mtime_ns == first.st_mtime_ns  # it was not made again
    assert stamps(here / "clean.mp4") == stamps(here / "long.mp4")
    assert packets(here / "clean.mp4", "audio") == packets(here / "long.mp4", "audio")
    assert files_in(here) == {"rain.mp4", "long.mp4", "clean.mp4", "first"}


@pytest.mark.slow
def test_ctrl_c_leaves_a_file_that_plays_and_says_how_to_go_on(model: Path, here: Path) -> None:
    write_clip(here / "long.mp4", Clip(stamps=[512 * number for number in range(400)], has_sound=True))
    process = start(model, here, "long.mp4", "-o", "clean.mp4")
    wait_for(here / "clean.mp4.unfinished" / "00000.json", process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=100)[1].decode()
    assert process.returncode == 130
    assert "derain: interrupted; the same command goes on with what is left\n" in said
    (count,) = re.findall(
        r"derain: clean.mp4.unfinished/so-far.mp4 has the (\d+) frames that are done, and plays\n", said
    )
    assert stamps(here / "clean.mp4.unfinished" / "so-far.mp4") == stamps(here / "long.mp4")[: int(count)]
    assert not (here / "clean.mp4").exists()


@pytest.mark.slow
def test_the_bar_has_frames_a_second(model: Path, here: Path) -> None:
    """On a terminal, beside the megapixels that are done."""
    slow = write_model(here / "slow", channels=16)
    large = Clip(draw=lambda number: moving(number, 600, 800), size=(800, 600), stamps=[0, 512, 1024, 1536])
    write_clip(here / "large.mp4", large)
    command = [sys.executable, "-m", "derain", "large.mp4", "-o", "clean.mp4", "-m", str(slow)]
    shown = shown_in_terminal(command, 120, here, os.environ | {"PYTHONPATH": str(ROOT)})
    done = [float(figure) for figure in re.findall(rb"([0-9.]+) of 1.9 MP \[", shown)]
    assert done == sorted(done)
    assert done[-1] == 1.9
    assert any(0 < figure < 1.9 for figure in done)
    assert re.search(rb"1 of 1, large\.mp4, [0-9.]+ frames/s", shown)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_live_video_says_no_length_to_the_bar(
    model: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(here / "live.mkv", Clip(container_options={"live": "1"}))
    assert preview(here / "live.mkv", None) == Preview(MKV, 0)
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["live.mkv", "-o", "clean.mkv", "-m", str(model)]) == 0, terminal.getvalue()
    assert len(frames(here / "clean.mkv")) == FRAMES


# The page that describes it

PAGE = (ROOT / "docs" / "video.md").read_text()


def test_the_page_has_the_suffixes() -> None:
    (read,) = re.findall(r"^Read are ([^A-Z]+)\.", PAGE, flags=re.MULTILINE)
    assert set(re.findall(r"\.\w+", read)) == VIDEO_SUFFIXES


def test_the_page_has_the_containers_and_codecs() -> None:
    rows = re.findall(r"^\| (\.[^|]+) \| [^|]+ \| ([^|]+) \|$", PAGE, flags=re.MULTILINE)
    assert {tuple(suffixes.split()): tuple(codecs.split(", ")) for suffixes, codecs in rows} == {
        each.suffixes: tuple(codec.name for codec in each.codecs) for each in CONTAINERS
    }
    ranges = re.findall(
        r"^\| (\w+) \| [^|]+ \| (?:0 to (\d+)|none) \|(?: (\d+))? \|$", PAGE, flags=re.MULTILINE
    )
    assert {name: (int(worst or 51), int(crf) if crf else None) for name, worst, crf in ranges} == {
        name: (codec.worst_crf, codec.crf) for name, codec in CODECS.items()
    }


def test_the_page_has_the_figures() -> None:
    from derain.video.clip import SEGMENT_FRAMES
    from derain.video.scene import ENDS_BELOW, FADE_FRAMES, WINDOW_FRAMES

    flowing = " ".join(PAGE.split())
    assert f"each {SEGMENT_FRAMES} frames" in flowing and f"at most {SEGMENT_FRAMES} frames" in flowing
    assert f"the last {WINDOW_FRAMES} frames decides" in flowing
    assert f"over {FADE_FRAMES} frames" in flowing
    assert f"falls below {ENDS_BELOW}" in flowing


LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if line.strip()])
def test_the_commands_of_the_page_run(line: str, model: Path, here: Path) -> None:
    """On a small video wherever one is named, and on the tiny model."""
    if "ffmpeg" in line and not shutil.which("ffmpeg"):
        pytest.skip("there is no ffmpeg")
    (here / "recordings").mkdir()
    shutil.copy("rain.mp4", here / "recordings")
    line = re.sub(r" --model fast| --watch", "", line)
    command = f'{sys.executable} -m derain --model "{model}"'
    script = re.sub(r"\bderain(?= [^/])", lambda _: command, line)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], env=environment, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    written = [
        path
        for path in here.rglob("*.m*")
        if path.name in ("clean.mp4", "clean.mkv") or "derained" in path.parts
    ]
    assert [len(frames(path)) for path in written] == [FRAMES]
    assert (here / "run.csv").exists() == ("run.csv" in line)


def test_the_python_of_the_page_runs(model: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["result"].frames == FRAMES
    assert capsys.readouterr().out == f"{FRAMES} {names['result'].derained} () None\n"
