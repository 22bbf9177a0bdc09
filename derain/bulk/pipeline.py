"""Derains many images on this machine: reading, deraining and writing overlap, and memory stays bounded.

Each image has a thread from its first byte to its last, so the code of one reads from top to bottom. Threads
that wait for a disk or a network cost nothing; of those that decode, derain or encode there are as many as
cores.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from threading import Condition, Event, Lock

from derain.arrays import to_8_bits
from derain.bulk import storage
from derain.bulk.journal import Journal
from derain.bulk.plan import Make
from derain.bulk.rows import Item, Row, Rows
from derain.command.report import Status
from derain.command.work import (
    Result,
    ResultOptions,
    derain_bytes,
    is_of_the_disk,
    read_image_header,
    reason_of,
)
from derain.errors import CancelledError, DerainError
from derain.images.coded import Header
from derain.images.formats import FORMAT_OF, ImageFormat
from derain.images.memory import work_bytes
from derain.inference.engine import Engine
from derain.inference.resources import usable_cores, usable_memory
from derain.inference.sessions import Provider
from derain.memory import trim_memory
from derain.monitor import monitor

_WAITING_NEAR, _WAITING_FAR = 2, 24  # threads besides: for disks, and for networks

# Of the machine's memory, what images in work may take besides the tiles in work.
_SHARE_OF_MEMORY = 0.4

_MOST_PENDING_BYTES = 64 * 1024**2  # of results that wait for their rows to be written down
_TRIM_EVERY = 25  # images, or memory creeps up by a tenth over the first few hundred
_END_WITHIN_S = 10.0  # an image in work stops at its next tile


@dataclass(frozen=True)
class _Pending:
    """A result that is not yet at its place."""

    item: Item
    row: Row
    data: bytes


class Pipeline:
    """An engine and what is around it, for as many images as there are.

    The row of each is in the journal before its result is at its place; `run` returns it after that.
    `most_bytes` bounds what images in work take together; one that takes more is in work alone. `cores` are
    those that decode and encode for a GPU.
    """

    def __init__(
        self,
        engine: Engine,
        wanted: ResultOptions,
        make: Make,
        journal: Journal,
        most_bytes: int | None = None,
        cores: int | None = None,
    ) -> None:
        self.stopped_by: str | None = None  # why the rest was not tried
        self._engine = engine
        self._wanted = wanted
        self._make = make
        self._journal = journal
        self._buffer = _Buffer(journal.rows_at_once, _MOST_PENDING_BYTES)
        # A GPU is fed by all cores, and takes tiles of several images into one run.
        on_cpu = engine.provider is Provider.CPU
        self._at_work = engine.threads if on_cpu else max(cores or usable_cores(), engine.tile_batch + 1)
        self._gate = _Gate(self._at_work, most_bytes or int(usable_memory() * _SHARE_OF_MEMORY))
        self._given_up = Event()
        self._ended = 0  # images

    def run(self, items: Sequence[Item]) -> Rows:
        """A row of each, as they come to be done; of one that was done meanwhile, that it is there.

        Closed, or interrupted, it begins no further image and ends those in work at their next tile.
        """
        is_far = any(storage.is_remote(name) for item in items[:1] for name in (item.source, item.target))
        in_flight = self._at_work + (_WAITING_FAR if is_far else _WAITING_NEAR)
        waiting = iter(items)
        running: set[Future[list[Row]]] = set()
        pool = ThreadPoolExecutor(in_flight, thread_name_prefix="derain-bulk")
        try:
            while True:
                room = in_flight - len(running) if self.stopped_by is None else 0
                running |= {pool.submit(self._work, item) for item in islice(waiting, room)}
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    yield from each.result()
                    self._ended += 1
                    if self._ended % _TRIM_EVERY == 0:
                        self._engine.release_memory()
                        trim_memory()
            yield from self._commit(self._buffer.take())
        finally:
            if running:  # nobody waits for them any more
                self._given_up.set()
                for each in running:
                    each.cancel()
                wait(running, timeout=_END_WITHIN_S)
            pool.shutdown(wait=False)

    def _work(self, item: Item) -> list[Row]:
        """All of one image. The rows that are final by now, be they of it or of others."""
        try:
            if not item.replaces and storage.size(item.target) is not None:
                return [Row(item.source, Status.THERE, item.target)]
            data = storage.read(item.source)
            header = read_image_header(data, self._wanted.max_pixels)
            target = FORMAT_OF[PurePosixPath(item.target).suffix.lower()]
            with self._gate.room(work_bytes(header, target)):
                pending = self._derain(item, data, header, target)
            return self._commit(self._buffer.add(pending))
        except CancelledError:
            return []
        except Exception as error:  # also one of ours: the others go on
            return self._note_failed([self._failed(item, error)])

    def _derain(self, item: Item, data: bytes, header: Header, target: ImageFormat) -> _Pending:
        started = time.monotonic()
        result = derain_bytes(self._engine, data, header, self._wanted, target, self._given_up)
        width, height = result.size
        row = Row(
            item.source,
            result.status,
            item.target,
            width=width,
            height=height,
            bytes=len(result.data),
            rain_found=result.derained.rain_found,
            residual_rain=self._residual_rain(result),
            dropped=", ".join(result.dropped) or None,
            model=self._make.model,
            options=self._make.options,
            seconds=round(time.monotonic() - started, 3),
        )
        return _Pending(item, row.now(), result.data)

    def _residual_rain(self, result: Result) -> float | None:
        if self._wanted.strength == 0:
            return None
        before, after = result.photo.image, result.derained.photo.image
        seen = monitor(to_8_bits(before), to_8_bits(after), self._engine.derain)
        return round(seen.probability, 3)

    def _commit(self, some: Sequence[_Pending]) -> list[Row]:
        """Puts results at their places. The rows are written down before, so that none is there without one:
        but those of results that replace others after it, or a row might be believed of what it replaces."""
        try:
            self._note([each.row for each in some if not each.item.replaces])
            rows = [self._put(each) for each in some]
            done = [row for row in rows if row.is_done]
            replaced = {each.item.source for each in some if each.item.replaces}
            self._note([row for row in done if row.source in replaced])
        except (DerainError, OSError) as error:  # of the journal
            return [self._failed(each.item, error) for each in some]
        return done + self._note_failed([row for row in rows if not row.is_done])

    def _put(self, result: _Pending) -> Row:
        try:
            storage.write(result.item.target, result.data)
        except (DerainError, OSError) as error:
            return self._failed(result.item, error)
        return result.row

    def _note(self, rows: list[Row]) -> None:
        if rows:
            self._journal.add(rows)

    def _note_failed(self, rows: list[Row]) -> list[Row]:
        """Where that cannot be written down either, the report will say that they were not tried."""
        try:
            self._note(rows)
        except (DerainError, OSError) as error:
            self.stopped_by = reason_of(error)
        return rows

    def _failed(self, item: Item, error: Exception) -> Row:
        reason = reason_of(error)
        if is_of_the_disk(error):
            self.stopped_by = reason
        return Row(item.source, Status.FAILED, item.target, error=reason).now()


class _Buffer:
    """Collects results until there are so many, or so many bytes."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: list[_Pending] = []
        self._lock = Lock()

    def add(self, one: _Pending) -> list[_Pending]:
        """All that wait, if they are enough; else none."""
        with self._lock:
            self._waiting.append(one)
            waiting_bytes = sum(len(each.data) for each in self._waiting)
            is_full = len(self._waiting) >= self._most or waiting_bytes >= self._most_bytes
            return self._take() if is_full else []

    def take(self) -> list[_Pending]:
        with self._lock:
            return self._take()

    def _take(self) -> list[_Pending]:
        taken, self._waiting = self._waiting, []
        return taken


class _Gate:
    """Lets so many images in at a time, and such that they take no more than so many bytes together."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._inside = 0
        self._bytes = 0
        self._first = Lock()  # who has it is next, however large: small ones do not slip past
        self._changed = Condition()

    @contextmanager
    def room(self, needed: int) -> Iterator[None]:
        with self._first, self._changed:
            self._changed.wait_for(lambda: self._has_room(needed))
            self._inside += 1
            self._bytes += needed
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._bytes -= needed
                self._changed.notify()

    def _has_room(self, needed: int) -> bool:
        if not self._inside:
            return True
        return self._inside < self._most and self._bytes + needed <= self._most_bytes
