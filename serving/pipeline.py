"""One picture from bytes to bytes: wait for a turn, decode, infer, encode.

All the work happens in threads, off the event loop. How many pictures are in work, and how
many may wait, is bounded.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from derain.engine import Engine
from derain.image import ImageFormat, decode, encode
from serving.metrics import IN_WORK, PIXELS, STAGE_SECONDS, WAITING
from serving.problems import BusyError, DeadlineError
from serving.settings import Settings

T = TypeVar("T")


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
        and whatever decoding and `target` raise.
        """
        if self._turns.locked() and self._waiting >= self.settings.queue:
            raise BusyError(f"{self._waiting} pictures are waiting already; try again in a moment")
        timings = Timings()
        try:
            async with asyncio.timeout(self.settings.timeout_s), self._turn(timings):
                return await self._work(data, target, timings)
        except TimeoutError as error:
            raise DeadlineError(f"not done within {self.settings.timeout_s:g} s") from error

    async def _work(
        self, data: bytes, target: Callable[[ImageFormat], ImageFormat], timings: Timings
    ) -> Derained:
        with timings.measure("decode"):
            picture, source_format = await self._in_thread(lambda: decode(data, self.settings.max_pixels))
        target_format = target(source_format)
        with timings.measure("infer"):
            derained = await self._in_thread(lambda: self.engine.derain(picture))
        with timings.measure("encode"):
            encoded = await self._in_thread(lambda: encode(derained, target_format))
        PIXELS.inc(picture.shape[0] * picture.shape[1])
        return Derained(encoded, target_format, timings)

    @asynccontextmanager
    async def _turn(self, timings: Timings) -> AsyncIterator[None]:
        """Waits until fewer than `parallel` pictures are in work."""
        self._waiting += 1
        WAITING.inc()
        try:
            with timings.measure("queue"):
                await self._turns.acquire()
        finally:
            self._waiting -= 1
            WAITING.dec()
        try:
            with IN_WORK.track_inprogress():
                yield
        finally:
            self._turns.release()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
