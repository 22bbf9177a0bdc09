"""Ctrl+C and the signals that ask for an end: each unwinds what is in work, so that no half file stays."""

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread wherever it is."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self._status = 128 + number  # as a shell has it

    def end_process(self) -> NoReturn:
        """Without waiting for the threads that are within a tile: that may take a minute."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(self._status)


@contextmanager
def interruptible() -> Iterator[None]:
    """Signals raise Interrupted. A second one ends the process at once; what is ignored stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    caught = [number for number in numbers if before[number] is not signal.SIG_IGN]

    def interrupt(number: int, _: FrameType | None) -> None:
        for each in caught:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    for number in caught:
        signal.signal(number, interrupt)
    try:
        yield
    except Interrupted:
        raise  # the default stays: whoever asks twice does not want to wait
    except BaseException:
        _restore(caught, before)
        raise
    _restore(caught, before)


def _restore(numbers: Iterable[int], handlers: dict[int, Any]) -> None:
    for number in numbers:
        signal.signal(number, handlers[number])
