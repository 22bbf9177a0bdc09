"""Which tiles go into one run: those of one shape that wait at the same moment, whoever waits for them."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Lock
from typing import Generic, TypeVar

from derain.errors import GivenUpError

logger = logging.getLogger(__name__)

Job = TypeVar("Job")  # what there is to do of one tile
Shape = tuple[int, ...]  # height, width, and what else has to be alike in one run
NoteProgress = Callable[[int, int], object]  # how many tiles are done, and of how many


@dataclass(eq=False)
class _Picture(Generic[Job]):
    """What one caller waits for."""

    shape: Shape  # of all its tiles
    waiting: deque[Job]
    given_up: Event | None
    in_work: int = 0
    error: BaseException | None = None
    is_given_up: bool = False
    ended: SimpleQueue[bool] = field(default_factory=SimpleQueue)  # of each tile: whether it was the last


_Taken = list[tuple[_Picture[Job], Job]]


class Batcher(Generic[Job]):
    """Threads that run tiles, in one run no more than `most_tiles` and, if several, than `most_pixels`.

    Nobody waits for a run to fill: a thread that is free takes what has come in the meantime, and
    leaves the other threads their share. Pictures take turns, tile by tile, so that the many tiles of
    one do not keep another waiting. A run of several that fails is made again tile by tile: what is
    wrong with one, or too much for the memory together, fails no other picture.
    """

    def __init__(
        self, run: Callable[[Sequence[Job]], None], threads: int, most_tiles: int, most_pixels: int
    ) -> None:
        self.most_tiles = most_tiles
        self._run = run
        self._threads = threads
        self._most_pixels = most_pixels
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="derain-tile")
        self._lock = Lock()
        self._pictures: list[_Picture[Job]] = []  # those with tiles that wait; it is the first one's turn

    def run_all(
        self,
        jobs: Sequence[Job],
        shape: Shape,
        given_up: Event | None,
        note_progress: NoteProgress = lambda done, tiles: None,
    ) -> None:
        """Returns when all tiles of a picture are done; raises what running one of them raised.

        Raises GivenUpError between two runs once `given_up` is set. `note_progress` is called before the
        first tile and after each, in order, by the caller's own thread: what it raises is raised here.
        """
        picture = _Picture(shape, deque(jobs), given_up)
        try:
            with self._lock:  # all of them before `close`, or none
                self._pictures.append(picture)
                for _ in jobs:  # more calls than runs: those that find nothing do nothing
                    self._pool.submit(self._run_next)
            done = 0
            note_progress(done, len(jobs))
            while not picture.ended.get():
                done += 1
                note_progress(done, len(jobs))
        finally:
            with self._lock:
                self._drop(picture)
        if picture.error is not None:
            raise picture.error
        if picture.is_given_up:
            raise GivenUpError("nobody waits for the picture any more")
        note_progress(len(jobs), len(jobs))

    def close(self) -> None:
        """Returns when all that waited is done."""
        with self._lock:
            self._pool.shutdown(wait=False)
        self._pool.shutdown()

    def _run_next(self) -> None:
        with self._lock:
            self._drop_given_up()
            taken = self._take() if self._pictures else []
        if taken:
            self._run_taken(taken)

    def _take(self) -> _Taken[Job]:
        """The tiles of the next run."""
        shape = self._pictures[0].shape
        alike = deque(picture for picture in self._pictures if picture.shape == shape)
        taken: _Taken[Job] = []
        for _ in range(self._room(shape, sum(len(picture.waiting) for picture in alike))):
            picture = alike.popleft()
            taken.append((picture, picture.waiting.popleft()))
            picture.in_work += 1
            self._pictures.remove(picture)
            if picture.waiting:
                alike.append(picture)
                self._pictures.append(picture)
        return taken

    def _room(self, shape: Shape, waiting: int) -> int:
        """How many of the tiles that wait go into a run."""
        height, width = shape[:2]
        share = -(-waiting // self._threads)
        return max(1, min(self.most_tiles, self._most_pixels // (height * width), share))

    def _run_taken(self, taken: _Taken[Job]) -> None:
        error: BaseException | None = None
        try:
            self._run([job for _, job in taken])
        except BaseException as raised:  # of whatever kind: somebody waits to be told
            error = raised
        if error is not None and len(taken) > 1:
            logger.warning("a run of %d tiles failed, they are run one by one: %s", len(taken), error)
            for one in taken:
                self._run_taken([one])
            return
        with self._lock:
            for picture, _ in taken:
                picture.in_work -= 1
                if error is not None:
                    picture.error = error
                    self._drop(picture)
                picture.ended.put(not picture.waiting and not picture.in_work)

    def _drop_given_up(self) -> None:
        for picture in list(self._pictures):
            if picture.given_up is not None and picture.given_up.is_set():
                picture.is_given_up = True
                self._drop(picture)
                if not picture.in_work:  # else the last of those ends it
                    picture.ended.put(True)

    def _drop(self, picture: _Picture[Job]) -> None:
        """What of it still waits; what is in work is let be."""
        if picture.waiting:
            picture.waiting.clear()
            self._pictures.remove(picture)
