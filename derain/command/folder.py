"""The images and videos in and below a folder, and what there is left out, with the reason."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from derain.command.report import Outcome, Status
from derain.images.formats import IMAGE_SUFFIXES, UNREAD_KINDS
from derain.video.formats import AMBIGUOUS_SUFFIX, UNFINISHED_SUFFIX, can_read_videos, is_video_name


def walk(folder: Path, results: Path | None = None) -> Iterator[Path | Outcome]:
    """Each file below, in order of their names: the path of an image or video, or why it is none to derain.

    The folder `results` is passed by, should it lie inside. Symlinked folders are not entered, so that
    there are no loops. A folder that cannot be read is a failure, and the walk goes on.
    """
    results = results.resolve() if results else None
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield Outcome(current, Status.FAILED, reason=error.strerror or str(error))
            continue
        below: list[Path] = []
        for entry in ordered:
            path = current / entry.name
            if not _is_dir(entry):
                yield path if (outcome := _file_outcome(entry, path)) is None else outcome
            elif reason := _folder_reason(entry):
                yield Outcome(path, Status.LEFT_OUT, reason=reason)
            elif results is None or path.resolve() != results:
                below.append(path)
        pending += reversed(below)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    """Also where a link leads to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _folder_reason(entry: os.DirEntry[str]) -> str | None:
    if entry.name.startswith("."):
        return "hidden folders"
    if entry.name.endswith(UNFINISHED_SUFFIX):
        return "unfinished videos"
    if entry.is_symlink():
        return "symlinked folders (name them outright to derain what is in them)"
    return None


def _file_outcome(entry: os.DirEntry[str], path: Path) -> Outcome | None:
    """None for an image or a video."""
    left_out = _video_left_out(entry.name) if is_video_name(entry.name) else left_out_by_name(entry.name)
    if left_out is not None:
        reason, is_told = left_out
    elif not _is_file(entry):
        reason, is_told = "links to nothing, devices and the like", True
    else:
        return None
    return Outcome(path, Status.LEFT_OUT, reason=reason, is_told=is_told)


def left_out_by_name(name: str) -> tuple[str, bool] | None:
    """Why a file of this name is no image to derain, and whether the summary names it; None for an image.

    What is not named as an image is in the report alone: few would expect a result.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in UNREAD_KINDS:
        return f"{UNREAD_KINDS[suffix]} cannot be read", not name.startswith(".")
    if suffix not in IMAGE_SUFFIXES:
        return "not named as an image", False
    if name.startswith("."):
        # macOS leaves `._photo.jpg` beside `photo.jpg`.
        return "hidden files", not name.startswith("._")
    return None


def _video_left_out(name: str) -> tuple[str, bool] | None:
    """As `left_out_by_name`, of a file that is named as a video."""
    is_hidden = name.startswith(".")
    if not can_read_videos():
        return "videos need PyAV: pip install 'derain[video]'", not is_hidden
    if PurePosixPath(name).suffix.lower() == AMBIGUOUS_SUFFIX:
        return "not named as an image", False
    return ("hidden files", not name.startswith("._")) if is_hidden else None


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
