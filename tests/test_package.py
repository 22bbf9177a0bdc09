"""What is built to be installed holds what it needs, and works in an empty environment without the clone."""

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import derain
from derain.images.plain import read_image
from tests.conftest import ROOT, copy_repository, free_port, repository_files, wait_until_ready
from training.metrics import psnr

EXAMPLES = ROOT / "examples"
UV = Path(sys.executable).parent / "uv"
START_S = 120

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("packages")
    clone = copy_repository(folder / "clone")
    build = [str(UV), "build", "--no-build-isolation", "--offline", "--python", sys.executable]
    subprocess.run([*build, "--out-dir", str(folder / "dist"), str(clone)], check=True, capture_output=True)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(packages: Path) -> Path:
    (wheel,) = packages.glob("*.whl")
    return wheel


def shipped() -> set[str]:
    """The files of the repository that an installed package has, by their place in it."""
    files = repository_files()
    code = {name for name in files if name.startswith(("derain/", "serving/", "training/"))}
    code = {name for name in code if not name.startswith("training/photographs/")}
    models = {name for name in files if re.fullmatch(r"models/([\w.-]+/)?[\w.-]+\.(onnx|json)", name)}
    examples = {name for name in files if re.fullmatch(r"examples/[\w.-]+\.(jpg|md)", name)}
    return code | {f"derain/shipped/{name}" for name in models | examples}


def test_the_wheel_holds_what_is_needed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == shipped()
    assert {"derain/py.typed", "derain/shipped/models/base/model.onnx", "serving/service.py"} <= names


def test_the_source_distribution_holds_code_models_and_licence(packages: Path) -> None:
    (archive,) = packages.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert {"LICENSE", "README.md", "models/base/model.onnx", "serving/service.py"} <= names


def test_the_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        told = email.message_from_bytes(archive.read(name))
        assert name.replace("METADATA", "licenses/LICENSE") in archive.namelist()
    assert told["Version"] == derain.__version__
    assert told["License-Expression"] == "Apache-2.0"
    assert {"cpu", "gpu", "serve", "train"} <= set(told.get_all("Provides-Extra", []))


def test_twine_finds_nothing(packages: Path) -> None:
    twine = ROOT / ".venv" / "release" / "bin" / "twine"
    if not twine.exists():
        pytest.skip("twine is not installed: make docs installs it")
    files = sorted(packages.glob("derain-*"))
    assert len(files) == 2
    done = subprocess.run([twine, "check", "--strict", *files], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


class Installed:
    """An environment without the clone, and an empty folder to work in."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.bin = folder / "venv" / "bin"
        self.folder = folder / "work"
        self.folder.mkdir()
        self.wheel = wheel
        self.pins = folder / "pins.txt"
        lock = (ROOT / "requirements" / "serve.txt").read_text()
        self.pins.write_text(
            "\n".join(re.findall(r"^[\w.-]+==\S+(?: ;.*?)?(?= \\$)", lock, flags=re.MULTILINE))
        )
        kept = ("DERAIN_", "BENTOML_", "PYTHON")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(kept)}
        self.environment["XDG_CACHE_HOME"] = str(folder / "cache")
        subprocess.run([sys.executable, "-m", "venv", self.bin.parent], check=True)

    def install_by_pip(self, extras: str) -> None:
        self._install([str(self.bin / "python"), "-m", "pip", "--quiet", "install"], extras)

    def install_by_uv(self, extras: str) -> None:
        python = str(self.bin / "python")
        self._install([str(UV), "pip", "install", "--quiet", "--python", python], extras)

    def _install(self, command: list[str], extras: str) -> None:
        what = ["--constraint", str(self.pins), f"{self.wheel}[{extras}]"]
        subprocess.run([*command, *what], check=True, timeout=600)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        words = [self.bin / command[0], *command[1:]]
        return subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    installed = Installed(tmp_path_factory.mktemp("installed"), wheel)
    installed.install_by_pip("cpu")
    (installed.folder / "rain.jpg").write_bytes((EXAMPLES / "rain.jpg").read_bytes())
    return installed


def is_derained(path: Path) -> bool:
    """Much nearer to the clean picture than the rainy one is."""
    clean, rainy = read_image(EXAMPLES / "clean.jpg"), read_image(EXAMPLES / "rain.jpg")
    return psnr(read_image(path), clean) > psnr(rainy, clean) + 2


def test_the_command_works_without_the_clone(installed: Installed) -> None:
    done = installed.run("derain", "rain.jpg", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert is_derained(installed.folder / "out" / "rain.jpg")


def test_uvx_runs_it_once(installed: Installed) -> None:
    """What `uvx` is short for; the tool that is made for it is kept in a cache."""
    run = [
        str(UV),
        "tool",
        "run",
        "--isolated",
        "--constraints",
        str(installed.pins),
        "--python",
        sys.executable,
    ]
    command = [*run, "--from", f"{installed.wheel}[cpu]", "derain", "rain.jpg", "-o", "by-uvx"]
    subprocess.run(command, cwd=installed.folder, env=installed.environment, check=True, timeout=300)
    assert is_derained(installed.folder / "by-uvx" / "rain.jpg")


@pytest.mark.parametrize("model", ["base", "fast"])
def test_three_lines_work_without_the_clone(installed: Installed, model: str) -> None:
    lines = f"from derain import derain\nderain('rain.jpg', model='{model}').save('{model}.jpg')"
    done = installed.run("python", "-W", "error", "-c", lines)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_derained(installed.folder / f"{model}.jpg")


def test_serve_asks_for_its_extra(installed: Installed) -> None:
    done = installed.run("derain", "serve")
    assert done.returncode == 2
    assert "pip install 'derain[cpu,serve]'" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def serving(installed: Installed, *options: str) -> Iterator[str]:
    port = free_port()
    log = installed.folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [installed.bin / "derain", "serve", "--port", str(port), *options],
            cwd=installed.folder,
            env=installed.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", server, log, START_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def test_the_service_works_without_the_clone(installed: Installed) -> None:
    """In a folder that has packages of the same names, and settings that are relative to it."""
    installed.install_by_uv("cpu,serve")
    (installed.folder / "serving").mkdir()
    (installed.folder / "serving" / "__init__.py").write_text("raise RuntimeError('not this one')")
    (installed.folder / "keys").touch()
    installed.environment["DERAIN_KEYS"] = "keys"
    with serving(installed) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/livez").is_success
        assert client.post("/v1/derain", content=b"").status_code == 401
    del installed.environment["DERAIN_KEYS"]
    with serving(installed) as url, httpx.Client(base_url=url, timeout=60) as client:
        page = client.get("/").raise_for_status()
        assert page.headers["content-type"].startswith("text/html")
        shown = re.findall(r"""(?:src=|href=|request\()["']([\w./-]+\.jpg)["']""", page.text)
        assert [client.get(each).status_code for each in shown] == [200] * len(shown) != []
        names = {model["name"] for model in client.get("/v1/models").json()["models"]}
        assert names == {"base", "fast"}
        answer = client.post("/v1/derain", content=(EXAMPLES / "rain.jpg").read_bytes()).raise_for_status()
    (installed.folder / "served.jpg").write_bytes(answer.content)
    assert is_derained(installed.folder / "served.jpg")
