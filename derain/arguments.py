"""What the commands of this repository share: exit statuses, and readers and checks of arguments."""

import argparse
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from derain.errors import DerainError, FileError

DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def at_least(lowest: int) -> Callable[[str], int]:
    """For argparse: reads a whole number that is not below `lowest`, itself 0 or more."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {lowest} or more")
        return int(text)

    return read


def check_output(path: Path, suffixes: Collection[str] = ()) -> None:
    """Before the work: raises FileError where no file can be written. Without suffixes any will do."""
    if path.is_dir():
        raise FileError(f"{path} is a folder: name a file")
    if suffixes and path.suffix.lower() not in suffixes:
        raise FileError(f"{path}: it can be written as {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise FileError(f"{path}: {path.parent} is not a folder")


def run_command(work: Callable[[], int]) -> int:
    """The exit status of a command that is all or nothing: what stops it is said in one line."""
    try:
        return work()
    except (DerainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return SOME_FAILED
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
