"""The folder beside a result that is not whole yet: what is done of it, and what it is made from and how."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from derain.files import write_atomically
from derain.video.errors import VideoError
from derain.video.formats import UNFINISHED_SUFFIX

_ORIGIN = "made-from.json"


def work_folder(target: Path) -> Path:
    return target.with_name(target.name + UNFINISHED_SUFFIX)


@contextmanager
def working(target: Path, origin: dict[str, Any]) -> Iterator[Path]:
    """The folder, locked; emptied where it was made from something else, or in another way.

    It is gone afterwards, unless an error or an interruption leaves the work undone. Raises VideoError
    where another process works in it.
    """
    folder = work_folder(target)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise VideoError(f"another run is at work on {target}") from error
        _settle(folder, origin)
        yield folder
        shutil.rmtree(folder)


def _settle(folder: Path, origin: dict[str, Any]) -> None:
    note = folder / _ORIGIN
    wanted = json.dumps(origin, indent=2, sort_keys=True).encode()
    if not note.exists() or note.read_bytes() != wanted:
        for path in folder.iterdir():
            if path.name != "lock":
                path.unlink()
        write_atomically(note, wanted)
