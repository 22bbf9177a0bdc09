"""What others make of a result, where they are installed; and what it takes to write one."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from derain.inference.engine import Engine
from derain.video.clip import derain_clip
from derain.video.options import ClipOptions
from tests.conftest import PEAK_KB, ROOT
from tests.derain.video.clips import FRAMES, HEIGHT, WIDTH, Clip, moving, packets, write_clip

pytestmark = pytest.mark.slow


@pytest.fixture
def clean(engine: Engine, tmp_path: Path) -> Path:
    source = write_clip(tmp_path / "rain.mp4", Clip(has_sound=True))
    derain_clip(engine, source, tmp_path / "clean.mp4", ClipOptions())
    return tmp_path / "clean.mp4"


def test_ffprobe_reads_it(clean: Path) -> None:
    if not shutil.which("ffprobe"):
        pytest.skip("ffprobe is not installed")
    asked = ["-count_frames", "-show_entries", "stream=codec_name,nb_read_frames,duration,pix_fmt"]
    command = ["ffprobe", "-v", "error", *asked, "-of", "json", str(clean)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    video, sound = json.loads(done.stdout)["streams"]
    assert (video["codec_name"], video["pix_fmt"], video["nb_read_frames"]) == (
        "h264",
        "yuv420p",
        str(FRAMES),
    )
    assert float(video["duration"]) == FRAMES / 30
    assert sound["codec_name"] == "aac"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_chromium_plays_it(clean: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    (clean.parent / "page.html").write_text("<video src=clean.mp4 muted></video>")
    play = """async () => {
        const video = document.querySelector("video");
        const ended = new Promise((done, failed) => {
            video.onended = done;
            video.onerror = () => failed(new Error(video.error.message));
        });
        await video.play();
        await ended;
        return [video.videoWidth, video.videoHeight, video.duration];
    }"""
    with served(clean.parent) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{url}/page.html")
        width, height, duration_s = page.evaluate(play)
        browser.close()
    assert (width, height) == (WIDTH, HEIGHT)
    assert duration_s == pytest.approx(FRAMES / 30, abs=0.05)


def test_memory_does_not_grow_with_the_length(model: Path, tmp_path: Path) -> None:
    """Beyond what encoders and decoders keep of some dozens of frames."""

    def peak_kb(frames: int) -> int:
        size = 320, 180
        clip = Clip(
            draw=lambda number: moving(number, 180, 320),
            size=size,
            stamps=[512 * number for number in range(frames)],
            has_sound=True,
        )
        source = write_clip(tmp_path / f"{frames}.mp4", clip)
        program = f"from derain.cli import main; status = main(); print({PEAK_KB}); exit(status)"
        target = tmp_path / f"clean-{frames}.mp4"
        options = ["-m", str(model), "--threads", "1", "-q"]
        command = [sys.executable, "-c", program, str(source), "-o", str(target), *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, env=environment, check=True, timeout=600)
        assert len(packets(target, "video")) == frames
        return int(done.stdout)

    short, long = peak_kb(80), peak_kb(240)
    assert long < 1.1 * short
    assert long < 1_000_000
