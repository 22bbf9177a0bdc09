"""One picture from bytes to bytes: wait for a turn, decode, infer, encode.

All the work happens in threads, off the event loop. How many pictures are in work, and how
many may wait, is bounded.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from itertools import count
from threading import Event

from derain.arrays import rain_layer, to_8_bits
from derain.images.coded import Header
from derain.images.colour import check_target
from derain.images.encoding import dropped, encode_photo
from derain.images.formats import ImageFormat, check_size, check_writable
from derain.images.header import read_header
from derain.images.memory import work_bytes
from derain.images.photo import Photo, decode_photo, derain_photo
from derain.inference.engine import Engine
from derain.monitor import Reading, monitor
from serving.exchange import Exchange
from serving.metrics import (
    EXAMINED,
    PIXELS,
    QUEUE_LIMIT_PICTURES,
    QUEUE_LIMIT_PIXELS,
    REMOVED_ENERGY,
    RESIDUAL_RAIN_LINES,
    RESIDUAL_RAIN_PROBABILITY,
    STAGE_SECONDS,
    STREAK_LIKENESS,
)
from serving.models import Models
from serving.negotiation import choose_format
from serving.parameters import Parameters
from serving.problems import DeadlineError
from serving.settings import Settings
from serving.traces import stage_span
from serving.turns import Turns

# Somebody who watches hears of each tile: every two seconds of a core or so, for an eighth more work.
_WATCHED_TILE_PIXELS = 2 * 1024**2

_STAGES = ("queue", "decode", "infer", "monitor", "encode")  # the last two at the same time


@dataclass(frozen=True)
class Request:
    """What is to be done with a picture."""

    parameters: Parameters
    accept: str | None = None  # the header


@dataclass(frozen=True)
class Derained:
    data: bytes
    etag: str
    format: ImageFormat
    model: str
    look: Reading | None
    rain_found: bool | None  # None: nobody looked for any
    dropped: tuple[str, ...] = ()  # what the file held and the answer does not

    def headers(self, exchange: Exchange) -> dict[str, str]:
        """Of the answer, but for its length."""
        spent_ms = exchange.stages_ms
        stages = ", ".join(f"{stage};dur={spent_ms[stage]:.1f}" for stage in _STAGES if stage in spent_ms)
        headers = {
            "content-type": self.format.media_type,
            "server-timing": stages,
            "x-derain-model": self.model,
            "etag": self.etag,
        }
        if self.rain_found is not None:
            headers["derain-rain"] = "found" if self.rain_found else "none"
        if self.dropped:
            headers["derain-dropped"] = ", ".join(self.dropped)
        if self.look is not None:
            headers["x-derain-residual-rain"] = f"{self.look.probability:.2f}"
        return headers


class Pipeline:
    def __init__(self, models: Models, settings: Settings) -> None:
        self.models = models
        self.settings = settings
        self._turns = Turns(settings.in_work, settings.queue, settings.queue_pixels, settings.work_bytes)
        self._numbers = count()
        self._threads = ThreadPoolExecutor(settings.in_work, thread_name_prefix="derain-picture")
        self._encoders = ThreadPoolExecutor(settings.in_work, thread_name_prefix="derain-encode")
        QUEUE_LIMIT_PICTURES.set(settings.queue)
        QUEUE_LIMIT_PIXELS.set(settings.queue_pixels)

    async def derain(self, data: bytes, request: Request, exchange: Exchange) -> Derained:
        """The picture without rain, as it was asked for; the exchange learns what was spent on it.

        Raises BusyError when too many wait already, DeadlineError when it takes too long,
        UnknownModelError, NotAcceptableError, and whatever reading the header and decoding raise.
        Cancelled, it leaves the queue, or its work at the next tile.
        """
        # Before any waiting: what cannot be derained is told so at once.
        header = await asyncio.to_thread(read_header, data, self.settings.max_pixels)
        target = request.parameters.target or choose_format(request.accept, header.format)
        check_size(header.width, header.height, target)
        check_writable(target, request.parameters.lossless)
        check_target(header.code_points, target)
        self.models.get(request.parameters.model)
        exchange.facts |= {
            "format": header.format.name,
            "width": header.width,
            "height": header.height,
            "answered": target.name,
        }
        # In an empty context: the event loop keeps that of a timer long after the timer was cancelled, and
        # with BentoML's in it the whole request.
        in_time = self._in_time(data, header, target, request, exchange)
        return await asyncio.get_running_loop().create_task(in_time, context=Context())

    async def _in_time(
        self, data: bytes, header: Header, target: ImageFormat, request: Request, exchange: Exchange
    ) -> Derained:
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                with _measured("queue", exchange):
                    await self._turns.wait(header.pixels, work_bytes(header))
                return await self._work(data, header, target, request, exchange)
        except TimeoutError as error:
            raise DeadlineError(f"not done within {self.settings.timeout_s:g} s") from error

    async def _work(
        self, data: bytes, header: Header, target: ImageFormat, request: Request, exchange: Exchange
    ) -> Derained:
        """The stages in a thread of their own. A turn ends with the thread, not with its caller: a thread
        can be asked to stop, which it does after its tiles, and until then it takes up cores and memory."""
        started = time.monotonic()
        cancelled = Event()
        job = partial(self._derain, data, header, target, request.parameters, exchange, cancelled)
        work = asyncio.get_running_loop().run_in_executor(self._threads, job)

        def end_turn(done: asyncio.Future[Derained]) -> None:
            self._turns.end(header.pixels, time.monotonic() - started, work_bytes(header))
            if not done.cancelled():
                done.exception()  # seen, should nobody be waiting for it any more

        work.add_done_callback(end_turn)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def _derain(
        self,
        data: bytes,
        header: Header,
        target: ImageFormat,
        parameters: Parameters,
        exchange: Exchange,
        cancelled: Event,
    ) -> Derained:
        with _measured("decode", exchange):
            photo = decode_photo(data, header)
        with self.models.use(parameters.model) as served:
            name, engine = served.name, served.engine
            with _measured("infer", exchange):
                examine = partial(engine.examine, force=parameters.force, cancelled=cancelled)
                if exchange.note_progress is not None:
                    note_tiles = partial(exchange.note_progress, "infer")
                    examine = partial(examine, note_progress=note_tiles, tile_pixels=_WATCHED_TILE_PIXELS)
                derained = derain_photo(examine, photo, parameters.strength)
            encode = partial(self._encode, photo, derained.photo, target, parameters, exchange)
            if parameters.strength > 0 and self._has_time_to_look():
                # Beside one another: a picture alone leaves a core to each.
                encoding = self._encoders.submit(encode)
                looked = self._look(photo, derained.photo, engine, exchange)
                encoded, etag = encoding.result()
            else:
                looked, (encoded, etag) = None, encode()
        PIXELS.labels(name).inc(header.width * header.height)
        exchange.facts["model"] = name
        if derained.rain_found is not None:
            exchange.facts["rain"] = "found" if derained.rain_found else "none"
            EXAMINED.labels(name, exchange.facts["rain"]).inc()
        left_out = dropped(photo, target, parameters.metadata == "keep")
        if left_out:
            exchange.facts["dropped"] = list(left_out)
        return Derained(encoded, etag, target, name, looked, derained.rain_found, left_out)

    @staticmethod
    def _encode(
        photo: Photo, derained: Photo, target: ImageFormat, parameters: Parameters, exchange: Exchange
    ) -> tuple[bytes, str]:
        """The bytes to be sent, and their ETag."""
        if parameters.explain:
            removed = rain_layer(to_8_bits(photo.image), to_8_bits(derained.image))
            derained = Photo(removed, None, False, None, None, photo.format)
        with _measured("encode", exchange):
            encoded = encode_photo(
                derained,
                target,
                parameters.quality,
                parameters.lossless,
                keep_metadata=parameters.metadata == "keep",
            )
        return encoded, f'"{hashlib.sha256(encoded).hexdigest()[:32]}"'

    def _has_time_to_look(self) -> bool:
        """While nobody waits; else at one picture in four, for the monitor needs no more."""
        return self.settings.monitor and (not self._turns.are_waited_for or next(self._numbers) % 4 == 0)

    @staticmethod
    def _look(photo: Photo, derained: Photo, engine: Engine, exchange: Exchange) -> Reading:
        """Whether rain was left; counted, and noted."""
        with _measured("monitor", exchange):
            seen = monitor(to_8_bits(photo.image), to_8_bits(derained.image), engine.derain)
        RESIDUAL_RAIN_PROBABILITY.labels(exchange.key).observe(seen.probability)
        REMOVED_ENERGY.observe(seen.removed_energy)
        STREAK_LIKENESS.observe(seen.streak_likeness)
        RESIDUAL_RAIN_LINES.observe(seen.residual_lines)
        exchange.facts["residual_rain"] = round(seen.probability, 3)
        return seen


@contextmanager
def _measured(stage: str, exchange: Exchange) -> Iterator[None]:
    started = time.perf_counter()
    exchange.enter(stage)
    with stage_span(stage, exchange.span):
        yield
    seconds = time.perf_counter() - started
    STAGE_SECONDS.labels(stage).observe(seconds)
    exchange.stages_ms[stage] = 1000 * seconds
