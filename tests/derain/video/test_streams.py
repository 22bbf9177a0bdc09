"""Frames through pipes: y4m and plain RGB; what is not changed comes back to the byte."""

import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from derain.cli import main
from derain.inference.engine import Engine
from derain.video.errors import VideoError
from derain.video.streams import read_frames, read_images, read_y4m
from derain.video.yuv import Samples, add_change, to_rgb
from tests.conftest import ROOT, noise, write_estimating

# By the colour space: the planes of a frame of 9 x 7 pixels, and bytes of a sample.
KINDS = {
    "420jpeg": ([(7, 9), (4, 5), (4, 5)], 1),
    "420mpeg2": ([(7, 9), (4, 5), (4, 5)], 1),
    "422": ([(7, 9), (7, 5), (7, 5)], 1),
    "444": ([(7, 9), (7, 9), (7, 9)], 1),
    "mono": ([(7, 9)], 1),
    "420p10": ([(7, 9), (4, 5), (4, 5)], 2),
    "422p10": ([(7, 9), (7, 5), (7, 5)], 2),
    "444p10": ([(7, 9), (7, 9), (7, 9)], 2),
    "mono10": ([(7, 9)], 2),
}


def y4m(kind: str, frames: int = 3, tags: str = "F30000:1001 Ip A4:3") -> bytes:
    shapes, size = KINDS[kind]
    rng = np.random.default_rng(0)
    highest = 255 if size == 1 else 1023
    stream = f"YUV4MPEG2 W9 H7 {tags} C{kind} XYSCSS=SAID\n".encode()
    for _ in range(frames):
        planes = [
            rng.integers(0, highest + 1, shape).astype("u1" if size == 1 else "<u2") for shape in shapes
        ]
        stream += b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)
    return stream


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    status: int
    written: bytes
    said: str


class Derain:
    """`derain -` in this process, on the tiny model."""

    def __init__(
        self, model: Path, monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[bytes]
    ) -> None:
        self._model = model
        self._monkeypatch = monkeypatch
        self._captured = captured

    def __call__(self, data: bytes, *options: str, model: Path | None = None) -> Done:
        pipe = io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)))
        self._monkeypatch.setattr(sys, "stdin", pipe)
        try:
            status = main(["-", "-m", str(model or self._model), *options])
        except SystemExit as ended:  # argparse's own
            status = int(str(ended.code))
        written, said = self._captured.readouterr()
        assert b"Traceback" not in said
        return Done(status, written, said.decode())


@pytest.fixture
def derain(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Derain:
    return Derain(model, monkeypatch, capsysbinary)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_whole(kind: str) -> None:
    data = y4m(kind)
    stream = io.BytesIO(data)
    header = read_y4m(stream)
    assert (header.width, header.height, header.depth) == (
        9,
        7,
        8 * KINDS[kind][1] if "10" not in kind else 10,
    )
    written = header.line
    for line, planes in read_frames(stream, header):
        assert [plane.shape for plane in planes] == KINDS[kind][0]
        written += line + b"".join(plane.tobytes() for plane in planes)
    assert written == data


def test_y4m_is_derained_and_keeps_its_lines(derain: Derain, engine: Engine) -> None:
    data = y4m("420p10")
    done = derain(data, "--no-temporal")
    assert done.status == 0, done.said
    assert len(done.written) == len(data)
    assert done.written.startswith(b"YUV4MPEG2 W9 H7 F30000:1001 Ip A4:3 C420p10 XYSCSS=SAID\nFRAME\n")
    assert "3 frames, 3 derained, " in done.said
    before, after = io.BytesIO(data), io.BytesIO(done.written)
    headers = read_y4m(before), read_y4m(after)
    samples = Samples(10, 6)
    for (_, given), (_, got) in zip(
        read_frames(before, headers[0]), read_frames(after, headers[1]), strict=True
    ):
        rgb = to_rgb(given, samples)
        add_change(given, rgb, engine.derain(rgb), samples, 1.0)
        assert all(np.abs(one.astype(int) - other).max() <= 1 for one, other in zip(given, got, strict=True))


def test_dry_frames_come_back_to_the_byte(derain: Derain, tmp_path: Path) -> None:
    dark = b"YUV4MPEG2 W4 H2\n" + (b"FRAME Ip\n" + bytes(range(20, 32))) * 4
    done = derain(dark, model=write_estimating(tmp_path / "model"))
    assert (done.status, done.written) == (0, dark)
    assert "4 frames, 0 derained" in done.said


def test_plain_frames_are_derained(derain: Derain, engine: Engine) -> None:
    images = [noise(7, 9, seed) for seed in range(3)]
    done = derain(b"".join(image.tobytes() for image in images), "--raw", "9x7", "--quiet", "--no-temporal")
    assert (done.status, done.said) == (0, "")
    got = list(read_images(io.BytesIO(done.written), 9, 7))
    for image, derained in zip(images, got, strict=True):
        assert np.abs(engine.derain(image).astype(int) - derained).max() <= 1


def test_a_part_of_the_strength(derain: Derain, engine: Engine) -> None:
    image = noise(7, 9)
    (half,) = read_images(
        io.BytesIO(derain(image.tobytes(), "--raw", "9x7", "--strength", "0.5").written), 9, 7
    )
    wanted = image + 0.5 * (engine.derain(image).astype(float) - image)
    assert np.abs(half - wanted).max() <= 1


@pytest.mark.parametrize("raw", [False, True])
def test_a_stream_that_breaks_off_is_derained_as_far_as_it_goes(
    raw: bool, derain: Derain, tmp_path: Path
) -> None:
    data = b"".join(noise(7, 9, seed).tobytes() for seed in range(3)) if raw else y4m("444")
    report = tmp_path / "run.csv"
    done = derain(data[:-5], *(["--raw", "9x7"] if raw else []), "--report", str(report))
    assert done.status == 1
    assert "derain: the stream ends within frame 3: 2 before it were whole\n" in done.said
    whole = 3 * 7 * 9 + (0 if raw else len(b"FRAME\n"))
    assert len(done.written) == len(data) - whole
    assert "standard input,derained as far as it goes,standard output," in report.read_text()
    assert report.read_text().rstrip().endswith(",2,2")


@pytest.mark.slow
@pytest.mark.parametrize(("options", "ahead"), [([], 2), (["--no-temporal"], 0)])
def test_a_live_frame_waits_for_those_that_help_it_and_no_longer(
    options: list[str], ahead: int, model: Path
) -> None:
    """The stream stays open, as that of a camera does."""
    frame_bytes = 9 * 7 * 3
    command = [sys.executable, "-m", "derain", "-", "-m", str(model), "--raw", "9x7", "--quiet", *options]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for number in range(6):
            process.stdin.write(noise(7, 9, number).tobytes())
            process.stdin.flush()
            if number >= ahead:
                assert len(process.stdout.read(frame_bytes)) == frame_bytes
        process.stdin.close()
        assert len(process.stdout.read()) == ahead * frame_bytes
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (b"YUV4MPEG2 W9 H7 C411\n", [], "y4m in 411: there are 420, 422, 444 and mono, of 8 to 16 bits"),
        (b"YUV4MPEG2 W0 H7\n", [], "y4m with W0: a side is from 1 to 32,768 pixels"),
        (b"YUV4MPEG2 W9\n", [], "y4m with H: a side is from 1 to 32,768 pixels"),
        (b"YUV4MPEG2 W9 H7 Im\n", [], "y4m with the scan 'm': it is p, t or b"),
        (b"YUV4MPEG2 W9 H7", [], "no y4m: its first line begins with YUV4MPEG2"),
        (b"YUV4MPEG2 W9 H7\n", [], "standard input has no frames"),
        (b"YUV4MPEG2 W9 H7\nFRAMX\n", [], "frame 1 of the y4m does not begin with FRAME"),
        (
            b"YUV4MPEG2 W30000 H30000\n",
            ["--max-pixels", "9"],
            "30000 x 30000 pixels are 900,000,000, 9 are allowed",
        ),
        (b"", ["--raw", "9x7"], "standard input has no frames"),
        (b"x", ["--raw", "9x"], "'9x' is no width and height in pixels, such as 1280x720"),
        (
            b"x",
            ["--raw", "9x7", "-o", "out.mp4"],
            "frames from standard input go to standard output, not to out.mp4",
        ),
        (b"x", ["--raw", "9x7", "--explain"], "--explain is of images, and frames is none"),
    ],
)
def test_what_cannot_be_meant(data: bytes, options: list[str], said: str, derain: Derain) -> None:
    done = derain(data, *options)
    assert done.status == 2
    assert said in done.said
    assert done.written == b""


def test_fields_are_derained_apart(engine: Engine) -> None:
    from derain.video.frames import FrameDerainer, PlanarFrame

    data = y4m("444", 1, "It")
    stream = io.BytesIO(data)
    header = read_y4m(stream)
    assert header.is_interlaced
    ((_, planes),) = read_frames(stream, header)
    fields = [[plane[start::2].copy() for plane in planes] for start in (0, 1)]
    samples = header.samples
    list(FrameDerainer(engine).derain_all([PlanarFrame(planes, samples, header.is_interlaced, 0)]))
    for start, field in enumerate(fields):
        list(FrameDerainer(engine).derain_all([PlanarFrame(field, samples, False, 0)]))
        for one, other in zip(field, planes, strict=True):
            assert np.abs(one.astype(int) - other[start::2]).max() <= 1


def test_no_frame_is_read_for_a_header_alone() -> None:
    with pytest.raises(VideoError):
        read_y4m(io.BytesIO(b"no header"))


@pytest.mark.slow
def test_a_result_that_nobody_reads_on_is_a_failure(model: Path, tmp_path: Path) -> None:
    (tmp_path / "rain.y4m").write_bytes(b"YUV4MPEG2 W64 H64\n" + (b"FRAME\n" + bytes(64 * 64 * 3 // 2)) * 60)
    command = f'"{sys.executable}" -m derain - -m "{model}" < rain.y4m | head -c 9 > /dev/null'
    script = f"{command}; exit ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, timeout=120
    )
    assert done.returncode == 1
    assert b"derain: standard output cannot be written to: Broken pipe\n" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_it_works_without_pyav(model: Path) -> None:
    without = (
        "import sys, importlib.abc\n"
        "class Gone(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'av': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "from derain.cli import main\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-W", "error", "-c", without, "-", "-m", str(model)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    data = y4m("420jpeg")
    done = subprocess.run(command, input=data, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == len(data)
