"""One picture from bytes to bytes: wait for a turn, decode, infer, encode.

All the work happens in threads, off the event loop. How many pictures are in work, and how
many may wait, is bounded.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from derain.engine import Engine
from derain.image import Header, ImageFormat, check_size, decode_pixels, encode, read_header
from serving.metrics import IN_WORK, PIXELS, STAGE_SECONDS, WAITING
from serving.problems import BusyError, DeadlineError
from serving.settings import Settings


@dataclass
class Timings:
    """Milliseconds by stage, in the order they were spent."""

    stages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        STAGE_SECONDS.labels(stage).observe(seconds)
        self.stages_ms[stage] = 1000 * seconds

    def header(self) -> str:
        """As a Server-Timing header."""
        return ", ".join(f"{stage};dur={ms:.1f}" for stage, ms in self.stages_ms.items())


@dataclass(frozen=True)
class Derained:
    data: bytes
    format: ImageFormat
    timings: Timings


class Pipeline:
    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings
        self._turns = asyncio.Semaphore(settings.parallel)
        self._threads = ThreadPoolExecutor(settings.parallel, thread_name_prefix="derain-picture")
        self._waiting = 0

    async def derain(self, data: bytes, target: Callable[[ImageFormat], ImageFormat]) -> Derained:
        """The picture without rain, in the format that `target` makes of the one it came in.

        Raises BusyError when too many wait already, DeadlineError when it takes too long,
        and whatever reading the header, decoding and `target` raise.
        """
        # Before any waiting: what cannot be derained is told so at once.
        header = await asyncio.to_thread(read_header, data, self.settings.max_pixels)
        target_format = target(header.format)
        check_size(header.width, header.height, target_format)
        if self._turns.locked() and self._waiting >= self.settings.queue:
            in_work = self.settings.parallel
            raise BusyError(f"{in_work} in work and {self._waiting} waiting already; try again in a moment")
        timings = Timings()
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                await self._wait_for_turn(timings)
                return await self._work(data, header, target_format, timings)
        except TimeoutError as error:
            raise DeadlineError(f"not done within {self.settings.timeout_s:g} s") from error

    async def _wait_for_turn(self, timings: Timings) -> None:
        self._waiting += 1
        WAITING.inc()
        try:
            with timings.measure("queue"):
                await self._turns.acquire()
        finally:
            self._waiting -= 1
            WAITING.dec()

    async def _work(self, data: bytes, header: Header, target: ImageFormat, timings: Timings) -> Derained:
        """The stages in a thread of their own. A turn ends with the thread, not with its caller:
        a thread cannot be stopped, and until it is done it takes up cores and memory."""
        IN_WORK.inc()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._derain, data, header, target, timings)
        work.add_done_callback(self._end_turn)
        return await asyncio.shield(work)

    def _end_turn(self, work: asyncio.Future[Derained]) -> None:
        IN_WORK.dec()
        self._turns.release()
        if not work.cancelled():
            work.exception()  # seen, should nobody be waiting for it any more

    def _derain(self, data: bytes, header: Header, target: ImageFormat, timings: Timings) -> Derained:
        with timings.measure("decode"):
            picture = decode_pixels(data, header)
        with timings.measure("infer"):
            derained = self.engine.derain(picture)
        with timings.measure("encode"):
            encoded = encode(derained, target)
        PIXELS.inc(picture.shape[0] * picture.shape[1])
        return Derained(encoded, target, timings)
