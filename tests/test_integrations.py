"""The examples of docs/integrations.md and docs/api.md run, each where its language is installed."""

import http.server
import io
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image as PilImage

from derain.images.formats import JPEG
from derain.images.plain import encode, read_image
from tests.conftest import ROOT, free_port, scene
from tests.serving.server import Server, serving

PAGE = (ROOT / "docs" / "integrations.md").read_text()
RAINY = encode(scene(48, 64), JPEG)

pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(model, tmp_path_factory.mktemp("server"), max_pixels=48 * 64) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rainy.jpg").write_bytes(RAINY)
    return tmp_path


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def write_tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def write(folder: Path, name: str, code: str, server: Server) -> str:
    assert "localhost:3000" in code
    (folder / name).write_text(code.replace("localhost:3000", f"localhost:{server.port}"))
    return name


API = (ROOT / "docs" / "api.md").read_text()
CALLS = [call for block in re.findall(r"^```sh\n(.*?)^```$", API, re.M | re.S) for call in block.splitlines()]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_of_the_page_of_the_api_is_answered(server: Server, folder: Path, call: str) -> None:
    program("curl")
    (folder / "examples").mkdir()
    for name in ("rain.jpg", "gate.jpg"):
        (folder / "examples" / name).write_bytes(RAINY)
    assert "localhost:3000" in call
    command = call.replace("curl ", "curl --fail ").replace("localhost:3000", f"localhost:{server.port}")
    done = run(folder, "bash", "-c", command)
    assert done.returncode == 0, done.stderr
    (target,) = re.findall(r"-o (\S+)", call)
    if target.endswith(".zip"):
        assert {"rain.jpg", "gate.jpg", "results.json"} <= set(zipfile.ZipFile(folder / target).namelist())
    else:
        with PilImage.open(folder / target) as image:
            assert (image.size, image.format) == ((64, 48), Path(target).suffix[1:].upper())


LANGUAGES = {
    "python": ("derain_over_http.py", sys.executable),
    "js": ("derain.mjs", "node"),
    "php": ("derain.php", "php"),
    "java": ("Derain.java", "java"),
    "sh": ("derain.sh", "bash"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_example_writes_the_picture(server: Server, folder: Path, language: str) -> None:
    name, interpreter = LANGUAGES[language]
    command = interpreter if language == "python" else program(interpreter)
    done = run(folder, command, write(folder, name, blocks(language)[0], server))
    assert done.returncode == 0, done.stderr
    assert read_image(folder / "clean.jpg").shape == (48, 64, 3)
    assert (folder / "clean.jpg").read_bytes() != RAINY


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_example_fails_with_the_words_of_the_service(server: Server, folder: Path, language: str) -> None:
    """Not by an exit status of 0 and a problem in clean.jpg."""
    (folder / "rainy.jpg").write_bytes(encode(scene(65, 48), JPEG))
    name, interpreter = LANGUAGES[language]
    command = interpreter if language == "python" else program(interpreter)
    done = run(folder, command, write(folder, name, blocks(language)[0], server))
    assert done.returncode != 0
    if language == "python":
        assert "413" in done.stderr
    elif language != "sh":
        assert "3,072 are allowed" in done.stdout + done.stderr


def wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)


@contextmanager
def proxy(server: Server, folder: Path) -> Iterator[str]:
    """nginx with the configuration of the page, on a port of its own; its address."""
    nginx, openssl, port = program("nginx"), program("openssl"), free_port()
    made = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=test",
        "-keyout",
        "key",
        "-out",
        "pem",
    ]
    assert run(folder, openssl, *made).returncode == 0
    (configuration,) = blocks("nginx")
    for given, here in [
        ("127.0.0.1:3000", f"127.0.0.1:{server.port}"),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/ssl/derain.example.org.pem", f"{folder}/pem"),
        ("/etc/ssl/derain.example.org.key", f"{folder}/key"),
    ]:
        assert given in configuration
        configuration = configuration.replace(given, here)
    written = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{each}_temp_path {folder}/temp;\n" for each in written)
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\n{paths}access_log off;\n{configuration}}}\n"
    )
    command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = run(folder, *command, "-t")
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    with (folder / "nginx.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log)
    try:
        wait_until_open(port, process, folder / "nginx.log")
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_nginx_passes_pictures_on_and_hides_what_is_not_for_the_public(server: Server, folder: Path) -> None:
    with proxy(server, folder) as url, httpx.Client(base_url=url, verify=False, timeout=60) as client:
        answer = client.post("/v1/derain", content=RAINY).raise_for_status()
        assert answer.headers["content-type"] == "image/jpeg"
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])  # nginx's
        assert client.get("/").is_success
        assert client.get("/v1/models").is_success
        hidden = ("/metrics", "/admin/reload", "/livez", "/readyz")
        assert [client.get(path).status_code for path in hidden] == [404] * 4


def test_a_video_goes_through_the_pipe(folder: Path) -> None:
    ffmpeg = program("ffmpeg")
    program("ffprobe")
    made = ["-v", "error", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=5:duration=1"]
    sound = ["-f", "lavfi", "-i", "sine=duration=1", "-shortest", "-pix_fmt", "yuv420p", "rainy.mp4"]
    assert run(folder, ffmpeg, *made, *sound).returncode == 0
    (pipe,) = (block for block in blocks("sh") if "rainy.mp4" in block)
    write_tool(folder, "derain", f'exec "{sys.executable}" -m derain "$@"')
    done = run(folder, "bash", "-o", "pipefail", "-c", f'PATH="$PWD:$PATH"\n{pipe}')
    assert done.returncode == 0, done.stderr
    shown = run(
        folder,
        "ffprobe",
        "-v",
        "error",
        "-count_frames",
        "-show_entries",
        "stream=codec_type,nb_read_frames",
        "-of",
        "csv=p=0",
        "clean.mp4",
    )
    assert "video,5" in shown.stdout
    assert "audio" in shown.stdout


def test_the_camera_reads_the_stream_that_the_pipe_publishes() -> None:
    (text,) = blocks("yaml")
    frigate = yaml.safe_load(text)
    (name,) = frigate["go2rtc"]["streams"]
    (pipe,) = (block for block in blocks("sh") if "-f rtsp" in block)
    assert pipe.split()[-1].endswith(f":8554/{name}")
    inputs = frigate["cameras"]["front"]["ffmpeg"]["inputs"]
    assert inputs[0] == {
        "path": f"rtsp://127.0.0.1:8554/{name}",
        "input_args": "preset-rtsp-restream",
        "roles": ["detect"],
    }
    assert frigate["cameras"]["front"]["detect"]["fps"] == int(re.findall(r"fps=(\d+)", pipe)[0])


@contextmanager
def recorder() -> Iterator[int]:
    """Has the snapshot of a camera where Frigate has it; its port."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/front/latest.jpg" else 404)
            self.end_headers()
            self.wfile.write(RAINY)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as recorder:
        threading.Thread(target=recorder.serve_forever, daemon=True).start()
        yield recorder.server_port
        recorder.shutdown()


def test_a_snapshot_goes_through_the_pipe(server: Server, folder: Path) -> None:
    program("curl")
    with recorder() as port:
        (snapshot,) = (block for block in blocks("sh") if "latest.jpg" in block)
        code = snapshot.replace("frigate:5000", f"localhost:{port}")
        done = run(folder, "bash", "-o", "pipefail", write(folder, "snapshot.sh", code, server))
    assert done.returncode == 0, done.stderr
    clean = PilImage.open(io.BytesIO((folder / "clean.jpg").read_bytes()))
    assert np.asarray(clean).shape == (48, 64, 3)
