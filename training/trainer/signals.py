"""Being asked to stop: Ctrl+C, or the SIGTERM of a machine that is taken away."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from derain.errors import DerainError

GOES_ON = "the same command goes on from the last checkpoint"


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop and did; its text is for people."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        # As shells have it; not 0, lest a scheduler take the run for finished. A process that was
        # stopped by the request of another one has no signal of its own.
        self.exit_status = 128 + (number or signal.SIGTERM)


class Request:
    """Whether somebody has asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.number: int = 0

    def receive(self, number: int, _frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def requests_to_stop() -> Iterator[Request]:
    """SIGINT and SIGTERM become a request; a second SIGINT is a KeyboardInterrupt.

    Only in the main thread, where alone Python has signals; elsewhere nobody ever asks.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    handlers = {number: signal.signal(number, request.receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Outside the training loop SIGTERM ends a command as Ctrl+C does: with all that cleans up."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number, f"stopped; {GOES_ON}")

    handler = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def run_resumable(work: Callable[[], int]) -> int:
    """The exit status of a command that goes on where it was stopped: what stops it is said in one line."""
    try:
        with ends_on_sigterm():
            return work()
    except (DerainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        print(f"\n{interrupted}", file=sys.stderr)
        return interrupted.exit_status
    except KeyboardInterrupt:
        print(f"\ninterrupted; {GOES_ON}", file=sys.stderr)
        return 130
