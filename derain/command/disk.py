"""Whether results can be written where they are to go: asked before the work, for it takes hours."""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from derain.errors import FileError

_USUAL_NAME_BYTES = 255  # where the system does not say


def check_folder(folder: Path) -> None:
    """Raises FileError where no file can be made in it, or no folder of that name; leaves nothing there."""
    there = _nearest(folder)
    if not there.is_dir():
        where = "" if there == folder else f"{folder} cannot be made: "
        raise FileError(f"{where}{there} is not a folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise FileError(f"{folder} cannot be written to: {error.strerror or error}") from error


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raises FileError where the disk has less."""
    free = shutil.disk_usage(_nearest(folder)).free
    if free < needed_bytes:
        raise FileError(
            f"{folder} has no room: the results take about {_megabytes(needed_bytes)}, "
            f"{_megabytes(free)} are free"
        )


def problem_of(target: Path) -> str | None:
    """Why this file cannot be written, in words; None where it can."""
    longest = max(len(os.fsencode(name)) for name in target.parts)
    try:
        there = _nearest(target.parent)
        limit = _name_bytes(there)
        if longest > limit:
            return f"the name of the result is too long: {longest} bytes, at most {limit}"
        if not there.is_dir():
            return f"{there} is not a folder"
        if not os.access(there, os.W_OK | os.X_OK):
            return f"{there} cannot be written to"
        if target.exists() and not target.is_file():
            return f"{target} is a folder" if target.is_dir() else f"{target} is a device or a pipe"
        return None
    except OSError as error:
        return f"{target} cannot be written: {error.strerror or error}"


def _nearest(path: Path) -> Path:
    """Itself, or the first folder above it that there is."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


@cache
def _name_bytes(folder: Path) -> int:
    if not hasattr(os, "pathconf"):
        return _USUAL_NAME_BYTES
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return _USUAL_NAME_BYTES


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
