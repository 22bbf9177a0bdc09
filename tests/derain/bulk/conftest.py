from collections.abc import Callable
from pathlib import Path

import pytest

from derain.bulk.cli import main
from derain.images.formats import JPEG, PNG
from derain.images.plain import encode
from tests.conftest import noise, write_model

Bulk = Callable[..., tuple[int, str]]


@pytest.fixture
def bulk(model: Path, capsys: pytest.CaptureFixture[str]) -> Bulk:
    """`derain bulk` on the tiny model, as it is typed: exit status, and what was said."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        status = main([*map(str, arguments), "--model", str(model)])
        printed = capsys.readouterr()
        assert printed.out == ""
        return status, printed.err

    return run


def photographs() -> dict[str, bytes]:
    """By their places."""
    return {
        "a.png": encode(noise(20, 30), PNG),
        "trip/a.png": encode(noise(30, 20, seed=1), PNG),
        "trip/day 2/B.JPEG": encode(noise(8, 8, seed=2), JPEG),
    }


@pytest.fixture
def rainy(tmp_path: Path) -> Path:
    """A folder of images and other files."""
    folder = tmp_path / "rainy"
    for place, data in photographs().items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data)
    (folder / "notes.txt").write_text("rain")
    (folder / "old.gif").write_bytes(b"GIF89a")
    return folder


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "slow", channels=64)


def write_many(folder: Path, count: int) -> Path:
    """A new folder of so many images, named by their numbers."""
    folder.mkdir()
    for index in range(count):
        (folder / f"{index:02}.png").write_bytes(encode(noise(160, 200, seed=index), PNG))
    return folder
