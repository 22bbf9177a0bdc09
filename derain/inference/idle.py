"""What is done once nobody has been at work for a while."""

from collections.abc import Callable
from threading import Timer, current_thread
from weakref import finalize


class WhenIdle:
    """Calls `act` in a thread of its own, `after_s` seconds after `start`, unless `stop` comes before.

    The program ends after the call, never in it: where the interpreter goes while one of its threads is in
    onnxruntime, that thread's return to Python is an abort (std::terminate).
    """

    def __init__(self, act: Callable[[], object], after_s: float) -> None:
        self._act = act
        self._after_s = after_s
        self._timers: list[Timer] = []  # more than one only where the one before has just begun to act
        finalize(self, _end, self._timers)  # when nobody has this any more, and when the program ends

    def start(self) -> None:
        timer = Timer(self._after_s, self._act)
        timer.daemon = True  # a program does not wait for what has not begun
        timer.start()
        self._timers[:] = [*(before for before in self._timers if before.is_alive()), timer]

    def stop(self) -> None:
        """What has begun goes on."""
        for timer in self._timers:
            timer.cancel()

    def close(self) -> None:
        """Returns when what has begun is done."""
        _end(self._timers)


def _end(timers: list[Timer]) -> None:
    for timer in timers:
        timer.cancel()
    for timer in timers:
        if timer is not current_thread():  # which may be the one that collects garbage
            timer.join()
