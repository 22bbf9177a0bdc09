"""What the commands share: from options to an engine, and from how it ended to an exit status."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from derain.arguments import INTERRUPTED, USAGE
from derain.command.interruption import Interrupted, interruptible
from derain.command.work import ResultOptions
from derain.errors import DerainError
from derain.inference.engine import Engine
from derain.inference.sessions import Provider


def run_interruptible(work: Callable[[], int]) -> int:
    """The exit status of a command that goes on when it is started again; what stops it is said in a line."""
    try:
        with interruptible():
            return work()
    except (DerainError, OSError) as error:
        print(f"derain: error: {_in_words(error)}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt as interrupt:
        print("\nderain: interrupted; the same command goes on with what is left", file=sys.stderr)
        for note in getattr(interrupt, "__notes__", ()):
            print(f"derain: {note}", file=sys.stderr)
        if isinstance(interrupt, Interrupted):
            interrupt.end_process()
        return INTERRUPTED


def _in_words(error: Exception) -> str:
    """The system's own errors without their numbers."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def make_engine(options: argparse.Namespace, folder: Path) -> Engine:
    return Engine(folder, Provider(options.provider), options.threads, device=options.device)


def result_options(options: argparse.Namespace) -> ResultOptions:
    return ResultOptions(
        max_pixels=options.max_pixels,
        strength=options.strength,
        forces=options.force,
        explains=options.explain,
        quality=options.quality,
        is_lossless=options.lossless,
        keeps_metadata=not options.strip_metadata,
        codec=options.codec,
        crf=options.crf,
        is_temporal=options.temporal,
    )
