import os
import socket
from pathlib import Path

import pytest

from derain.command.folder import walk
from derain.command.report import Outcome, Status, left_out_lines


def found(folder: Path, results: Path | None = None) -> list[str]:
    return [str(each.relative_to(folder)) for each in walk(folder, results) if isinstance(each, Path)]


def left_out(folder: Path) -> dict[str, str]:
    outcomes = [each for each in walk(folder) if isinstance(each, Outcome)]
    return {each.source.name: each.reason for each in outcomes if each.source and each.is_told}


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".MPO", ".hif", ".dib", ".insp", ".tif", ".AVIF"])
def test_what_can_be_read_is_found_by_any_of_its_suffixes(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").touch()
    assert found(tmp_path) == [f"a{suffix}"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.gif", "GIF cannot be read"),
        ("a.DNG", "camera raw cannot be read"),
        ("a.nef", "camera raw cannot be read"),
        ("a.cr3", "camera raw cannot be read"),
        ("a.jp2", "JPEG 2000 cannot be read"),
        ("a.psd", "layered images cannot be read"),
        (".a.jpg", "hidden files"),
    ],
)
def test_what_is_left_out_is_told(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert found(tmp_path) == []
    assert left_out(tmp_path) == {name: reason}


def test_what_nobody_expects_is_in_the_report_alone(tmp_path: Path) -> None:
    for name in ("notes.txt", "._a.jpg", "no suffix"):
        (tmp_path / name).touch()
    outcomes = list(walk(tmp_path))
    assert len(outcomes) == 3
    assert left_out(tmp_path) == {}


def test_links_are_followed_to_files_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.jpg").touch()
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "outside").symlink_to(outside)
    (folder / "to-file.jpg").symlink_to(outside / "b.jpg")
    (folder / "to-nothing.jpg").symlink_to(outside / "none.jpg")
    (folder / "to-itself.jpg").symlink_to("to-itself.jpg")
    assert found(folder) == ["to-file.jpg"]
    assert set(left_out(folder)) == {"loop", "outside", "to-nothing.jpg", "to-itself.jpg"}
    assert "symlinked folders" in left_out(folder)["loop"]


def test_what_would_hang_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        assert found(tmp_path) == []
        assert set(left_out(tmp_path)) == {"pipe.jpg", "socket.png"}


def test_hidden_folders_are_left_out(tmp_path: Path) -> None:
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "a.jpg").touch()
    assert found(tmp_path) == []
    assert left_out(tmp_path) == {".thumbnails": "hidden folders"}


def test_a_folder_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "b.jpg").touch()
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "c.jpg").touch()
    (tmp_path / "locked").chmod(0)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:  # nothing is locked for root, so it is nobody who looks
        if not os.geteuid():
            tmp_path.chmod(0o755)
            os.chdir(tmp_path)
            os.setuid(65534)
        seen = [
            str(each) if isinstance(each, Path) else f"{each.status} {each.source} {each.reason}"
            for each in walk(Path())
        ]
        os.write(writer, "\n".join(seen).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        assert told.read().splitlines() == ["a.jpg", "failed locked Permission denied", "z/c.jpg"]


def test_folders_may_lie_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = 2100  # more than Python recurses; the path is longer than the system takes
    for _ in range(depth):
        os.mkdir("a")  # noqa: PTH102 (relative to where we are)
        os.chdir("a")
    seen = list(walk(tmp_path))
    for _ in range(depth):
        os.chdir("..")
        os.rmdir("a")  # noqa: PTH106
    assert [isinstance(each, Outcome) and each.reason for each in seen] == ["File name too long"]


def test_results_inside_are_passed_by(tmp_path: Path) -> None:
    for name in ("a.jpg", "out/b.jpg", "out2/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert found(tmp_path, tmp_path / "out2" / ".." / "out") == ["a.jpg", "out2/c.jpg"]


def test_reasons_name_a_few_files_each() -> None:
    outcomes = [Outcome(Path(f"{n}.dng"), Status.LEFT_OUT, reason="camera raw") for n in range(5)]
    outcomes.append(Outcome(Path("a.gif"), Status.LEFT_OUT, reason="GIF"))
    outcomes.append(Outcome(Path("b.txt"), Status.LEFT_OUT, reason="text", is_told=False))
    assert left_out_lines(outcomes) == [
        "left out, camera raw: 0.dng, 1.dng, 2.dng and 2 more",
        "left out, GIF: a.gif",
    ]
