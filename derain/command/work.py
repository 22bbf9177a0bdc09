"""Derains files, one after the other: what fails says why, and the others go on."""

import errno
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event

from derain.arrays import rain_layer, to_8_bits
from derain.command.plan import Job
from derain.command.progress import Progress
from derain.command.report import Outcome, Report, Status
from derain.command.streams import read_input, write_output
from derain.command.videos import derain_video
from derain.errors import DerainError, ImageTooLargeError
from derain.files import write_atomically
from derain.images.coded import Header
from derain.images.encoding import dropped, encode_photo
from derain.images.formats import ImageFormat
from derain.images.header import read_header
from derain.images.memory import check_fits
from derain.images.photo import DerainedPhoto, Photo, decode_photo, derain_photo
from derain.inference.engine import Engine, NoteProgress
from derain.inference.resources import usable_memory
from derain.video.options import ClipOptions

logger = logging.getLogger(__name__)

_MAX_PIXELS = 2**30  # OpenCV decodes no more
_SHARE_OF_MEMORY = 0.5  # for an image; the rest is for the tiles in work

# After these, the next file would fare no better.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class WorkError(DerainError):
    """The network failed on an image that is sound."""


@dataclass(frozen=True)
class ResultOptions:
    """What a result is to be like."""

    max_pixels: int | None = None  # None: as many as fit this machine's memory
    strength: float = 1.0
    forces: bool = False  # images without rain too
    explains: bool = False  # what was taken away, in the place of what is left
    quality: int | None = None
    is_lossless: bool = False
    keeps_metadata: bool = True
    codec: str | None = None  # of videos, as the next two
    crf: int | None = None
    is_temporal: bool = True

    @property
    def clip(self) -> ClipOptions:
        """Of a video."""
        return ClipOptions(
            max_pixels=self.max_pixels,
            strength=self.strength,
            force=self.forces,
            temporal=self.is_temporal,
            codec=self.codec,
            crf=self.crf,
            keeps_metadata=self.keeps_metadata,
        )


def derain_all(
    engine: Engine, jobs: Sequence[Job], wanted: ResultOptions, report: Report, progress: Progress
) -> None:
    """Each has its outcome in the report, also when it is interrupted, or the disk is full."""
    waiting = deque(jobs)
    try:
        while waiting:
            outcome, has_disk = _try(engine, waiting[0], wanted, progress)
            report.add(outcome)
            progress.end(waiting.popleft(), outcome)
            if not has_disk:
                break
    finally:
        for job in waiting:
            report.add(Outcome(job.source, Status.NOT_TRIED, job.target))
        progress.close()


@dataclass(frozen=True)
class Result:
    """What became of the bytes of one file."""

    data: bytes
    photo: Photo  # as it came
    derained: DerainedPhoto
    dropped: tuple[str, ...]  # what the file held and the result does not

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.photo.image.shape[:2]
        return width, height

    @property
    def status(self) -> Status:
        return Status.DRY if self.derained.rain_found is False else Status.DERAINED


def derain_file(engine: Engine, job: Job, wanted: ResultOptions, progress: Progress) -> Outcome:
    """One image, in the job's format or the one it came in. Raises DerainError or OSError."""
    started = time.monotonic()
    data = read_input() if job.source is None else job.source.read_bytes()
    header = read_image_header(data, wanted.max_pixels, job.format)
    progress.begin(job, header.width * header.height)
    result = derain_bytes(engine, data, header, wanted, job.format, note_progress=progress.note)
    _write(job, result.data)
    width, height = result.size
    seconds = time.monotonic() - started
    return Outcome(
        job.source,
        result.status,
        job.target,
        width=width,
        height=height,
        seconds=seconds,
        dropped=result.dropped,
    )


def derain_bytes(
    engine: Engine,
    data: bytes,
    header: Header,
    wanted: ResultOptions,
    image_format: ImageFormat | None = None,
    cancelled: Event | None = None,
    note_progress: NoteProgress = lambda done, pixels: None,
) -> Result:
    """A file in memory, to a file in memory: in the format given, or the one it came in.

    Raises DerainError, among them CancelledError once `cancelled` is set, or MemoryError.
    """
    photo = decode_photo(data, header)
    derained = _derain(engine, photo, wanted, cancelled, note_progress)
    target = image_format or photo.format.answer_format
    encoded = _encode(_shown(photo, derained.photo, wanted), target, wanted)
    return Result(encoded, photo, derained, dropped(photo, target, wanted.keeps_metadata))


def reason_of(error: Exception) -> str:
    """Why a file failed, in words. What nobody expected is our mistake: its traceback is logged, at debug."""
    if isinstance(error, DerainError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return reason[:1].lower() + reason[1:]
    reason = f"an error in Derain: {type(error).__name__}: {error}"
    logger.debug(reason, exc_info=error)
    return reason


def is_of_the_disk(error: Exception) -> bool:
    """Whether the next file would fare no better."""
    return isinstance(error, OSError) and error.errno in _DISK_ERRORS


def _try(engine: Engine, job: Job, wanted: ResultOptions, progress: Progress) -> tuple[Outcome, bool]:
    """What became of it, and whether there is a disk for the next one."""
    try:
        derain = _derain_video if job.is_video else derain_file
        return derain(engine, job, wanted, progress), True
    except Exception as error:  # also one of ours: the others go on
        return job.failed(reason_of(error)), not is_of_the_disk(error)


def _derain_video(engine: Engine, job: Job, wanted: ResultOptions, progress: Progress) -> Outcome:
    if wanted.explains:
        raise WorkError("--explain is of images, and this is a video")
    with _model_failures_in_words():
        return derain_video(engine, job, wanted.clip, progress)


def read_image_header(data: bytes, max_pixels: int | None, target: ImageFormat | None = None) -> Header:
    """Raises ImageTooLargeError that says what allows more, and other ImageErrors."""
    try:
        header = read_header(data, max_pixels or _MAX_PIXELS)
        if max_pixels is None:
            check_fits(header, int(usable_memory() * _SHARE_OF_MEMORY), target)
        return header
    except ImageTooLargeError as error:
        raise ImageTooLargeError(f"{error}; --max-pixels may allow more, which takes more memory") from error


def _derain(
    engine: Engine,
    photo: Photo,
    wanted: ResultOptions,
    cancelled: Event | None,
    note_progress: NoteProgress,
) -> DerainedPhoto:
    examine = partial(engine.examine, force=wanted.forces, cancelled=cancelled, note_progress=note_progress)
    with _model_failures_in_words():
        return derain_photo(examine, photo, wanted.strength)


@contextmanager
def _model_failures_in_words() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise WorkError(f"the model failed: {error}") from error  # such as of a GPU without memory


def _shown(photo: Photo, derained: Photo, wanted: ResultOptions) -> Photo:
    """What is left, or what was taken away."""
    if not wanted.explains:
        return derained
    removed = rain_layer(to_8_bits(photo.image), to_8_bits(derained.image))
    return Photo(removed, None, False, None, None, photo.format)


def _encode(photo: Photo, target: ImageFormat, wanted: ResultOptions) -> bytes:
    keep_metadata = wanted.keeps_metadata
    if wanted.is_lossless and target.can_be_lossless:
        return encode_photo(photo, target, lossless=True, keep_metadata=keep_metadata)
    return encode_photo(photo, target, wanted.quality, keep_metadata=keep_metadata)


def _write(job: Job, data: bytes) -> None:
    """Whole, or not at all; what is written in place may break off."""
    if job.target is None:
        write_output(data)
    elif job.is_in_place:
        job.target.write_bytes(data)
    else:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(job.target, data)
