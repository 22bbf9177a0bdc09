"""Who is next: a bounded queue of images, in which small ones need not wait for large ones."""

import asyncio
import heapq
import math
import time
from dataclasses import dataclass, field

from derain.errors import ImageTooLargeError
from serving.errors import BusyError
from serving.operations.metrics import QUEUE_IMAGES, QUEUE_PIXELS, WORK_IMAGES, WORK_PIXELS

# An image may be overtaken by those that come so much later for each pixel that they are smaller by.
# About what a pixel takes on one core: a large image waits for no more than its own time's worth.
_PATIENCE_S_PER_PIXEL = 1e-6

# How fast images are done, until some have been: about base on one core.
_FIRST_GUESS_PIXELS_PER_S = 1e6
_MEMORY = 0.8  # share of the former estimate that stays when an image is done


@dataclass(order=True)
class _Waiting:
    due_s: float
    number: int  # who came first, where all else is equal
    size_bytes: int = field(compare=False)
    admitted: "asyncio.Future[None]" = field(compare=False)


class AdmissionQueue:
    """At most `parallel` images of `work_bytes` together in work, `queue` images and `queue_pixels` pixels
    waiting.

    Of one event loop. An image larger than all that may wait is let in while nobody waits.
    """

    def __init__(self, parallel: int, queue: int, queue_pixels: int, work_bytes: int) -> None:
        self._free = parallel
        self._free_bytes = work_bytes
        self._work_bytes = work_bytes
        self._parallel = parallel
        self._queue = queue
        self._queue_pixels = queue_pixels
        self._waiting: list[_Waiting] = []
        self._waiting_pixels = 0
        self._in_work_pixels = 0
        self._count = 0
        self._pixels_per_s = _FIRST_GUESS_PIXELS_PER_S

    async def wait(self, pixels: int, size_bytes: int = 0) -> None:
        """Until the image is admitted to work; raises BusyError at once where too many wait already, and
        ImageTooLargeError where it alone takes more than all may have.

        Cancelled, it leaves the queue. Whoever was admitted must leave.
        """
        if size_bytes > self._work_bytes:
            raise ImageTooLargeError(
                f"{pixels / 1e6:.0f} megapixels of this kind take about {size_bytes / 1e6:,.0f} MB of "
                f"memory: at most {self._work_bytes / 1e6:,.0f} MB are there"
            )
        if self._waiting or not self._has_room(size_bytes):
            await self._queue_up(pixels, size_bytes)
        else:
            self._take(size_bytes)
        self._in_work_pixels += pixels
        WORK_IMAGES.inc()
        WORK_PIXELS.inc(pixels)

    def leave(self, pixels: int, worked_s: float, size_bytes: int = 0) -> None:
        """Of an image that was in work: the next one is admitted."""
        WORK_IMAGES.dec()
        WORK_PIXELS.dec(pixels)
        self._in_work_pixels -= pixels
        rate = self._parallel * pixels / max(worked_s, 1e-3)
        self._pixels_per_s = _MEMORY * self._pixels_per_s + (1 - _MEMORY) * rate
        self._take(-size_bytes, -1)
        self._next()

    @property
    def is_waited_for(self) -> bool:
        return bool(self._waiting)

    def wait_s(self) -> float:
        """About how long somebody who comes now would have to wait."""
        return (self._waiting_pixels + self._in_work_pixels / 2) / self._pixels_per_s

    def _has_room(self, size_bytes: int) -> bool:
        return self._free > 0 and size_bytes <= self._free_bytes

    def _take(self, size_bytes: int, images: int = 1) -> None:
        self._free -= images
        self._free_bytes -= size_bytes

    async def _queue_up(self, pixels: int, size_bytes: int) -> None:
        too_many = len(self._waiting) >= self._queue
        too_large = bool(self._waiting) and self._waiting_pixels + pixels > self._queue_pixels
        if too_many or too_large:
            raise BusyError(
                f"{self._parallel - self._free} images are in work and {len(self._waiting)} of "
                f"{self._waiting_pixels / 1e6:.0f} megapixels wait already; try again in a moment",
                retry_after_s=min(60, max(1, math.ceil(self.wait_s() / 2))),
            )
        self._count += 1
        admitted = asyncio.get_running_loop().create_future()
        due_s = time.monotonic() + pixels * _PATIENCE_S_PER_PIXEL
        heapq.heappush(self._waiting, _Waiting(due_s, self._count, size_bytes, admitted))
        self._count_waiting(1, pixels)
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():  # it was admitted in the same moment
                self._take(-size_bytes, -1)
            self._waiting = [other for other in self._waiting if other.admitted is not admitted]
            heapq.heapify(self._waiting)
            self._next()
            raise
        finally:
            self._count_waiting(-1, -pixels)

    def _count_waiting(self, images: int, pixels: int) -> None:
        self._waiting_pixels += pixels
        QUEUE_IMAGES.inc(images)
        QUEUE_PIXELS.inc(pixels)

    def _next(self) -> None:
        """The first one waits for room, and all others behind it: small ones would keep it out for ever."""
        while self._waiting and self._has_room(self._waiting[0].size_bytes):
            first = heapq.heappop(self._waiting)
            if not first.admitted.done():  # else it was cancelled a moment ago
                self._take(first.size_bytes)
                first.admitted.set_result(None)
