"""`derain_video`: a path in, a path out."""

from pathlib import Path
from typing import Any

import pytest

import derain
import derain.library
from derain import DerainedVideo, Derainer, DerainError, derain_video
from derain.errors import FileError, MissingFileError, ModelError, OptionError
from derain.video.errors import VideoError
from tests.derain.video.clips import FRAMES, HEIGHT, WIDTH, frames, packets, stamps, write_clip


def test_a_path_in_a_path_out(model: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4")
    seen: list[tuple[int, int]] = []
    target = str(tmp_path / "b.mp4")
    result = derain_video(str(source), target, model=model, note_progress=lambda *done: seen.append(done))
    assert result == DerainedVideo(WIDTH, HEIGHT, FRAMES, FRAMES, (), None)
    assert stamps(Path(target)) == stamps(source)
    assert seen == [(number, FRAMES) for number in range(FRAMES + 1)]


@pytest.mark.slow
def test_options_go_through(model: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4")
    with Derainer(model) as derainer:
        derainer.derain_video(source, tmp_path / "b.mkv", codec="ffv1", strength=0.5)
        derainer.derain_video(source, tmp_path / "c.mp4", crf=50)
        derainer.derain_video(source, tmp_path / "d.mp4", strength=0)
    assert frames(tmp_path / "b.mkv")[0].format.name == "yuv420p"
    assert packets(tmp_path / "d.mp4", "video") == packets(source, "video")
    assert packets(tmp_path / "c.mp4", "video") != packets(source, "video")


@pytest.mark.parametrize(
    ("source", "options", "kind", "said"),
    [
        ("none.mp4", {}, MissingFileError, "none.mp4 does not exist"),
        ("none.mp4", {}, FileNotFoundError, "none.mp4 does not exist"),
        ("a.mp4", {"strength": 2}, OptionError, "the strength is a number from 0 to 1, not 2"),
        ("a.mp4", {"codec": "vp9"}, VideoError, "no codec 'vp9': there are h264, hevc, av1, ffv1"),
        ("a.mp4", {"crf": 99}, VideoError, "the crf of h264 is from 0 to 51, not 99"),
        ("a.mp4", {"target": "none/b.mp4/c.mp4"}, FileError, "b.mp4"),
        ("a.mp4", {"target": "b.gif"}, VideoError, "a video can be written as .mp4"),
        ("a.mp4", {"model": "huge"}, ModelError, "no model 'huge'"),
        (".", {}, VideoError, "is no file"),
    ],
)
def test_what_can_go_wrong(
    source: str, options: dict[str, Any], kind: type[Exception], said: str, model: Path, tmp_path: Path
) -> None:
    write_clip(tmp_path / "a.mp4")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "b.mp4").touch()
    given: dict[str, Any] = {"target": "b.mp4", "model": model} | options
    target = tmp_path / given.pop("target")
    with pytest.raises(kind, match=said.replace("(", r"\(")) as error:
        derain_video(tmp_path / source, target, **given)
    assert isinstance(error.value, DerainError)


def test_without_pyav_it_says_what_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derain.library, "can_read_videos", lambda: False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'derain\[video\]'"):
        derain_video(tmp_path / "a.mp4", tmp_path / "b.mp4", model=model)
