"""What `derain serve` says before it starts anything; tests/test_package.py starts it."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_port


def derain(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """The command, in a Python that lacks a package."""
    hide = f"sys.modules[{without!r}] = None; " if without else ""
    program = f"import sys; {hide}from derain.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("package", "extra"),
    [("bentoml", "derain[cpu,serve]"), ("starlette", "derain[gpu,serve]"), ("onnxruntime", "derain[cpu")],
)
def test_serve_names_the_extra_that_is_missing(package: str, extra: str) -> None:
    done = derain("serve", without=package)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("derain: error: the service needs packages that are not installed")
    assert f"({package})" in done.stderr
    assert extra in done.stderr


def test_files_name_the_extra_that_is_missing() -> None:
    done = derain("rain.jpg", "-o", "out", without="onnxruntime")
    expected = "derain: error: onnxruntime is not installed: pip install 'derain[cpu]', or 'derain[gpu]'"
    assert done.returncode == 2
    assert done.stderr.startswith(expected)
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = derain("serve", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr == f"derain: error: port {port} is taken: choose another with --port\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "0"], "'0' is no port from 1 to 65535"),
        (["--port", "http"], "'http' is no port"),
        (["--host", "256.0.0.1"], "--host 256.0.0.1 is no address of this machine"),
        (["--host", "192.0.2.1"], "cannot be listened on"),
        (["rain.jpg"], "unrecognized arguments: rain.jpg"),
    ],
)
def test_what_cannot_be_meant(arguments: list[str], said: str) -> None:
    done = derain("serve", *([] if "--port" in arguments else ["--port", str(free_port())]), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("BENTOML_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = derain("serve", "--port", str(free_port()))
    assert done.returncode == 2
    assert done.stderr.startswith("derain: error: ")
    assert "Traceback" not in done.stderr
