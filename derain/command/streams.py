"""Standard input and output, as images go through them."""

import os
import sys

from derain.errors import DerainError

STREAM = "-"  # what both are called in the place of a file
STANDARD_INPUT, STANDARD_OUTPUT = "standard input", "standard output"


class StreamError(DerainError):
    """A stream that no image can go through."""


def check_input() -> None:
    """Raises StreamError where somebody would have to type the image."""
    if sys.stdin is None or sys.stdin.isatty():
        raise StreamError("standard input is a terminal: pipe an image into it")


def check_output() -> None:
    """Raises StreamError where the bytes would be shown as text."""
    if sys.stdout is None or sys.stdout.isatty():
        raise StreamError("standard output is a terminal: send the image to a file or another program")


def read_input() -> bytes:
    return sys.stdin.buffer.read()


def write_output(data: bytes) -> None:
    """All of it, at once. Raises OSError, such as where nobody reads any more."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        # What is left would be tried again at the end of the program, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
