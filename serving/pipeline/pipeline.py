"""One image from bytes to bytes: wait for admission, decode, infer, encode.

All the work happens in threads, off the event loop. The images in work and the images that wait are
bounded in number and size.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from itertools import count
from threading import Event

from derain.arrays import AnyImage, Derained, rain_layer, to_8_bits
from derain.images.coded import Header
from derain.images.encoding import dropped, encode_photo
from derain.images.header import read_header
from derain.images.photo import Photo, decode_photo, derain_photo
from derain.inference.engine import Engine
from derain.monitor import Reading, monitor
from serving.errors import DeadlineError
from serving.operations.metrics import (
    EXAMINED,
    PIXELS,
    QUEUE_LIMIT_IMAGES,
    QUEUE_LIMIT_PIXELS,
    REMOVED_ENERGY,
    RESIDUAL_RAIN_LINES,
    RESIDUAL_RAIN_PROBABILITY,
    STREAK_LIKENESS,
)
from serving.pipeline.admission_queue import AdmissionQueue
from serving.pipeline.job import DerainedFile, Job
from serving.pipeline.model_pool import ModelPool
from serving.settings import Settings

# A caller who asks for progress gets a report after each tile. Tiles of this size take a core about two
# seconds each, and all of them an eighth more work.
_WATCHED_TILE_PIXELS = 2 * 1024**2

_Encoded = tuple[bytes, str]  # the file, and its SHA-256


class Pipeline:
    """Derains the images of all requests of this process."""

    def __init__(self, models: ModelPool, settings: Settings) -> None:
        self._models = models
        self.settings = settings
        self._queue = AdmissionQueue(
            settings.in_work, settings.queue, settings.queue_pixels, settings.work_bytes
        )
        self._while_busy = count()  # images
        self._threads = ThreadPoolExecutor(settings.in_work, thread_name_prefix="derain-image")
        self._encoders = ThreadPoolExecutor(settings.in_work, thread_name_prefix="derain-encode")
        QUEUE_LIMIT_IMAGES.set(settings.queue)
        QUEUE_LIMIT_PIXELS.set(settings.queue_pixels)

    async def close(self) -> None:
        """Waits until the images in work are done, or cancelled at their next tile."""
        await asyncio.to_thread(self._threads.shutdown)
        self._encoders.shutdown()

    async def read_header(self, data: bytes) -> Header:
        """Decodes no pixels; raises the errors of `derain.images.header.read_header`."""
        return await asyncio.to_thread(read_header, data, self.settings.max_pixels)

    async def derain(self, job: Job) -> DerainedFile:
        """The image of a job without its rain. The job's record gets facts for the log, and times of stages.

        Raises UnknownModelError and the errors of `Job.check_target` before any waiting, BusyError when
        too many wait already, DeadlineError when it takes too long, and the errors of decoding.
        When it is cancelled, the image leaves the queue, or its work ends at the next tile.
        """
        job.check_target()
        self._models.get(job.options.model)  # raises for a model that is not served
        job.record.facts |= {
            "format": job.header.format.name,
            "width": job.header.width,
            "height": job.header.height,
            "answered": job.target.name,
        }
        # The task has an empty context. The event loop keeps the context of a timer long after the timer was
        # cancelled, and BentoML's context would keep the whole request in memory.
        return await asyncio.get_running_loop().create_task(self._in_time(job), context=Context())

    async def _in_time(self, job: Job) -> DerainedFile:
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                with job.record.stage("queue"):
                    await self._queue.wait(job.pixels, job.work_bytes)
                return await self._work(job)
        except TimeoutError as error:
            raise DeadlineError(f"not done within {self.settings.timeout_s:g} s") from error

    async def _work(self, job: Job) -> DerainedFile:
        """Runs the stages in a thread.

        The admission ends with the thread, not with the caller: a cancelled thread still takes cores and
        memory until its tiles in work are done.
        """
        started = time.monotonic()
        cancelled = Event()
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._derain, job, cancelled)

        def leave(done: asyncio.Future[DerainedFile]) -> None:
            self._queue.leave(job.pixels, time.monotonic() - started, job.work_bytes)
            if not done.cancelled():
                done.exception()  # else asyncio logs an error that no caller waits for any more

        work.add_done_callback(leave)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def _derain(self, job: Job, cancelled: Event) -> DerainedFile:
        with job.record.stage("decode"):
            photo = decode_photo(job.data, job.header)
        with self._models.use(job.options.model) as served:
            with job.record.stage("infer"):
                examine = _examine(job, served.engine, cancelled)
                derained = derain_photo(examine, photo, job.options.strength)
            (data, sha256), reading = self._encode_and_monitor(job, photo, derained.photo, served.engine)
        left_out = dropped(photo, job.target, job.options.keep_metadata)
        done = DerainedFile(data, sha256, job.target, served.name, reading, derained.rain_found, left_out)
        _note(done, job)
        return done

    def _encode_and_monitor(
        self, job: Job, photo: Photo, derained: Photo, engine: Engine
    ) -> tuple[_Encoded, Reading | None]:
        """Encodes and monitors at the same time: while one image is in work, each has a core."""
        if job.options.strength == 0 or not self._has_time_to_monitor():
            return _encode(job, photo, derained), None
        encoding = self._encoders.submit(_encode, job, photo, derained)
        reading = _monitor(job, photo, derained, engine)
        return encoding.result(), reading

    def _has_time_to_monitor(self) -> bool:
        """While no image waits; else for one image in four, enough for the monitor's statistics."""
        return self.settings.monitor and (not self._queue.is_waited_for or next(self._while_busy) % 4 == 0)


def _examine(job: Job, engine: Engine, cancelled: Event) -> Callable[[AnyImage], Derained[AnyImage]]:
    """`Engine.examine` with the options of the job."""
    examine = partial(engine.examine, force=job.options.force, cancelled=cancelled)
    if job.record.note_progress is None:
        return examine
    note_pixels = partial(job.record.note_progress, "infer")
    return partial(examine, note_progress=note_pixels, tile_pixels=_WATCHED_TILE_PIXELS)


def _encode(job: Job, photo: Photo, derained: Photo) -> _Encoded:
    """The file of the answer: the derained image, or with `explain` the removed rain."""
    if job.options.explain:
        removed = rain_layer(to_8_bits(photo.image), to_8_bits(derained.image))
        derained = Photo(removed, None, False, None, None, photo.format)
    with job.record.stage("encode"):
        data = encode_photo(
            derained,
            job.target,
            job.options.quality,
            job.options.lossless,
            keep_metadata=job.options.keep_metadata,
        )
    return data, hashlib.sha256(data).hexdigest()


def _monitor(job: Job, photo: Photo, derained: Photo, engine: Engine) -> Reading:
    """The reading of the residual-rain monitor, added to the metrics and to the log."""
    with job.record.stage("monitor"):
        reading = monitor(to_8_bits(photo.image), to_8_bits(derained.image), engine.derain)
    RESIDUAL_RAIN_PROBABILITY.labels(job.record.key).observe(reading.probability)
    REMOVED_ENERGY.observe(reading.removed_energy)
    STREAK_LIKENESS.observe(reading.streak_likeness)
    RESIDUAL_RAIN_LINES.observe(reading.residual_lines)
    job.record.facts["residual_rain"] = round(reading.probability, 3)
    return reading


def _note(done: DerainedFile, job: Job) -> None:
    """Adds the result to the metrics and to the log."""
    PIXELS.labels(done.model).inc(job.header.width * job.header.height)
    facts = job.record.facts
    facts["model"] = done.model
    if done.rain_found is not None:
        facts["rain"] = "found" if done.rain_found else "none"
        EXAMINED.labels(done.model, facts["rain"]).inc()
    if done.dropped:
        facts["dropped"] = list(done.dropped)
