"""Derains files, one after the other: what fails says why, and the others go on."""

import errno
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

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
from derain.inference.engine import Engine
from derain.inference.resources import usable_memory
from derain.inference.tile_batcher import NoteProgress
from derain.video.options import ClipOptions

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
    codec: str | None = None  # of videos
    crf: int | None = None

    @property
    def clip(self) -> ClipOptions:
        """Of a video."""
        return ClipOptions(
            self.max_pixels, self.strength, self.forces, self.codec, self.crf, self.keeps_metadata
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


def derain_file(engine: Engine, job: Job, wanted: ResultOptions, progress: Progress) -> Outcome:
    """One image, in the job's format or the one it came in. Raises DerainError or OSError."""
    started = time.monotonic()
    data = read_input() if job.source is None else job.source.read_bytes()
    header = _read_header(data, wanted.max_pixels)
    progress.begin(job, header.width * header.height)
    photo = decode_photo(data, header)
    derained = _derain(engine, photo, wanted, progress.note)
    target = job.format or photo.format.answer_format
    _write(job, _encode(_shown(photo, derained.photo, wanted), target, wanted))
    height, width = photo.image.shape[:2]
    seconds = time.monotonic() - started
    status = Status.DRY if derained.rain_found is False else Status.DERAINED
    left_out = dropped(photo, target, wanted.keeps_metadata)
    return Outcome(
        job.source, status, job.target, width=width, height=height, seconds=seconds, dropped=left_out
    )


def _try(engine: Engine, job: Job, wanted: ResultOptions, progress: Progress) -> tuple[Outcome, bool]:
    """What became of it, and whether there is a disk for the next one."""
    try:
        derain = _derain_video if job.is_video else derain_file
        return derain(engine, job, wanted, progress), True
    except OSError as error:
        reason = error.strerror or str(error)
        return job.failed(reason[:1].lower() + reason[1:]), error.errno not in _DISK_ERRORS
    except DerainError as error:
        return job.failed(str(error)), True
    except MemoryError:
        return job.failed("there is not enough memory for it"), True


def _derain_video(engine: Engine, job: Job, wanted: ResultOptions, progress: Progress) -> Outcome:
    if wanted.explains:
        raise WorkError("--explain is of images, and this is a video")
    try:
        return derain_video(engine, job, wanted.clip, progress)
    except (DerainError, OSError, MemoryError):
        raise
    except Exception as error:  # whatever onnxruntime raises, such as of a GPU without memory
        raise WorkError(f"the model failed: {error}") from error


def _read_header(data: bytes, max_pixels: int | None) -> Header:
    try:
        header = read_header(data, max_pixels or _MAX_PIXELS)
        if max_pixels is None:
            check_fits(header, int(usable_memory() * _SHARE_OF_MEMORY))
        return header
    except ImageTooLargeError as error:
        raise ImageTooLargeError(f"{error}; --max-pixels may allow more, which takes more memory") from error


def _derain(
    engine: Engine, photo: Photo, wanted: ResultOptions, note_progress: NoteProgress
) -> DerainedPhoto:
    examine = partial(engine.examine, force=wanted.forces, note_progress=note_progress)
    try:
        return derain_photo(examine, photo, wanted.strength)
    except (DerainError, OSError, MemoryError):
        raise
    except Exception as error:  # whatever onnxruntime raises, such as of a GPU without memory
        raise WorkError(f"the model failed: {error}") from error


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
