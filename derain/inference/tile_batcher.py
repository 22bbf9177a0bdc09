"""Which tiles go into one run: those of one shape that wait at the same moment, of any image."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Lock
from typing import Generic, TypeVar

from derain.errors import CancelledError

logger = logging.getLogger(__name__)

Job = TypeVar("Job")  # what there is to do of one tile
Shape = tuple[int, ...]  # height, width, and what else has to be alike in one run
NoteProgress = Callable[[int, int], object]  # how many tiles are done, and of how many


@dataclass(eq=False)
class _Request(Generic[Job]):
    """What one caller waits for."""

    shape: Shape  # of all its tiles
    waiting: deque[Job]
    cancelled: Event | None
    in_work: int = 0
    error: BaseException | None = None
    is_cancelled: bool = False
    ended: SimpleQueue[bool] = field(default_factory=SimpleQueue)  # of each tile: whether it was the last


_Taken = list[tuple[_Request[Job], Job]]


class TileBatcher(Generic[Job]):
    """Threads that run tiles, in one run no more than `max_tiles` and, if several, than `max_pixels`.

    Nobody waits for a run to fill: a thread that is free takes what has come in the meantime, and
    leaves the other threads their share. Images take turns, tile by tile, so that the many tiles of
    one do not keep another waiting. A run of several that fails is made again tile by tile: what is
    wrong with one, or too much for the memory together, fails no other image.
    """

    def __init__(
        self, run: Callable[[Sequence[Job]], None], threads: int, max_tiles: int, max_pixels: int
    ) -> None:
        self.max_tiles = max_tiles
        self._run = run
        self._threads = threads
        self._max_pixels = max_pixels
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="derain-tile")
        self._lock = Lock()
        self._images: list[_Request[Job]] = []  # those with tiles that wait; it is the first one's turn

    def run_all(
        self,
        jobs: Sequence[Job],
        shape: Shape,
        cancelled: Event | None,
        note_progress: NoteProgress = lambda done, tiles: None,
    ) -> None:
        """Returns when all tiles of an image are done; raises what running one of them raised.

        Raises CancelledError between two runs once `cancelled` is set. `note_progress` is called before the
        first tile and after each, in order, by the caller's own thread: what it raises is raised here.
        """
        image = _Request(shape, deque(jobs), cancelled)
        try:
            with self._lock:  # all of them before `close`, or none
                self._images.append(image)
                for _ in jobs:  # more calls than runs: those that find nothing do nothing
                    self._pool.submit(self._run_next)
            done = 0
            note_progress(done, len(jobs))
            while not image.ended.get():
                done += 1
                note_progress(done, len(jobs))
        finally:
            with self._lock:
                self._drop(image)
        if image.error is not None:
            raise image.error
        if image.is_cancelled:
            raise CancelledError("nobody waits for the image any more")
        note_progress(len(jobs), len(jobs))

    def close(self) -> None:
        """Returns when all that waited is done."""
        with self._lock:
            self._pool.shutdown(wait=False)
        self._pool.shutdown()

    def _run_next(self) -> None:
        with self._lock:
            self._drop_cancelled()
            taken = self._take() if self._images else []
        if taken:
            self._run_taken(taken)

    def _take(self) -> _Taken[Job]:
        """The tiles of the next run."""
        shape = self._images[0].shape
        alike = deque(image for image in self._images if image.shape == shape)
        taken: _Taken[Job] = []
        for _ in range(self._room(shape, sum(len(image.waiting) for image in alike))):
            image = alike.popleft()
            taken.append((image, image.waiting.popleft()))
            image.in_work += 1
            self._images.remove(image)
            if image.waiting:
                alike.append(image)
                self._images.append(image)
        return taken

    def _room(self, shape: Shape, waiting: int) -> int:
        """How many of the tiles that wait go into a run."""
        height, width = shape[:2]
        share = -(-waiting // self._threads)
        return max(1, min(self.max_tiles, self._max_pixels // (height * width), share))

    def _run_taken(self, taken: _Taken[Job]) -> None:
        error: BaseException | None = None
        try:
            self._run([job for _, job in taken])
        except BaseException as raised:  # of any kind: the caller waits for it
            error = raised
        if error is not None and len(taken) > 1:
            logger.warning("a run of %d tiles failed, they are run one by one: %s", len(taken), error)
            for one in taken:
                self._run_taken([one])
            return
        with self._lock:
            for image, _ in taken:
                image.in_work -= 1
                if error is not None:
                    image.error = error
                    self._drop(image)
                image.ended.put(not image.waiting and not image.in_work)

    def _drop_cancelled(self) -> None:
        for image in list(self._images):
            if image.cancelled is not None and image.cancelled.is_set():
                image.is_cancelled = True
                self._drop(image)
                if not image.in_work:  # else the last of those ends it
                    image.ended.put(True)

    def _drop(self, image: _Request[Job]) -> None:
        """What of it still waits; what is in work is let be."""
        if image.waiting:
            image.waiting.clear()
            self._images.remove(image)
