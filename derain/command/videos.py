"""Videos in the command: files, and frames that go through standard input and output."""

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

from tqdm import tqdm

from derain.command.plan import Job
from derain.command.progress import Progress
from derain.command.report import Outcome, Status
from derain.command.streams import STANDARD_OUTPUT, write_output
from derain.inference.engine import Engine
from derain.video.errors import VideoError, too_large
from derain.video.frames import F, FrameDerainer, PlanarFrame, RgbFrame
from derain.video.options import MAX_FRAME_PIXELS, ClipOptions
from derain.video.streams import Y4M_MAGIC, read_frames, read_images, read_y4m
from derain.video.temporal import temporal_network

Size = tuple[int, int]  # width and height in pixels


def derain_video(engine: Engine, job: Job, options: ClipOptions, progress: Progress) -> Outcome:
    """One file. Raises DerainError or OSError."""
    from derain.video.clip import derain_clip  # PyAV takes its time, and may not be there

    assert job.source is not None and job.target is not None, "videos are files"
    started = time.monotonic()
    progress.begin(job, job.pixels)
    result = derain_clip(engine, job.source, job.target, options, progress.note_frames)
    if result.shortage:
        status = Status.CUT_SHORT
    else:
        status = Status.DERAINED if result.derained or not options.strength else Status.DRY
    return Outcome(
        job.source,
        status,
        job.target,
        reason=result.shortage or "",
        width=result.width,
        height=result.height,
        seconds=time.monotonic() - started,
        dropped=result.dropped,
        frames=result.frames,
        derained_frames=result.derained,
    )


def has_frames(raw: Size | None) -> bool:
    """Whether what comes through standard input is frames: plain ones, as the caller says, or y4m."""
    if raw is not None:
        return True
    stream = sys.stdin.buffer
    return isinstance(stream, BufferedReader) and stream.peek(len(Y4M_MAGIC)).startswith(Y4M_MAGIC)


def derain_stream(engine: Engine, options: ClipOptions, raw: Size | None, is_quiet: bool) -> Outcome:
    """Frames from standard input to standard output, in the form in which they come.

    A stream that ends within a frame is derained as far as it goes, and so is one whose result nobody reads
    to the end. Raises DerainError.
    """
    started = time.monotonic()
    stream = _Stream(engine, options)
    frames = stream.raw(raw) if raw is not None else stream.y4m()
    problem = ""
    bar: tqdm[Any] = tqdm(unit=" frames", disable=True if is_quiet else None, delay=0.1)
    with bar:
        try:
            for data in frames:
                write_output(data)
                bar.update()
        except VideoError as error:
            if not stream.frames:
                raise
            problem = str(error)
        except OSError as error:
            problem = f"{STANDARD_OUTPUT} cannot be written to: {error.strerror}"
    if not stream.frames:
        raise VideoError("standard input has no frames")
    rate = stream.frames / (time.monotonic() - started)
    width, height = stream.size
    if not is_quiet:
        counts = f"{stream.frames} frames, {stream.derained} derained, {rate:.1f} a second"
        print(f"derain: {counts}, {rate * width * height / 1e6:.1f} MP a second", file=sys.stderr)
    return Outcome(
        None,
        Status.CUT_SHORT if problem else Status.DERAINED if stream.derained else Status.DRY,
        None,
        reason=problem,
        width=width,
        height=height,
        seconds=time.monotonic() - started,
        frames=stream.frames,
        derained_frames=stream.derained,
    )


class _Stream:
    """What goes through standard input and output, and how much of it did."""

    def __init__(self, engine: Engine, options: ClipOptions) -> None:
        self._engine = engine
        self._options = options
        self.frames = 0
        self.derained = 0
        self.size: Size = (0, 0)

    def raw(self, size: Size) -> Iterator[bytes]:
        """Bytes to write, frame by frame."""
        self._begin(*size)
        frames = map(RgbFrame, read_images(sys.stdin.buffer, *size))
        for frame in self._derained(frames):
            yield frame.image.tobytes()

    def y4m(self) -> Iterator[bytes]:
        """The same; the first frame has the stream's own line before it."""
        header = read_y4m(sys.stdin.buffer)
        self._begin(header.width, header.height)
        frames = (
            _Y4mFrame(planes, header.samples, header.is_interlaced, 0, line)
            for line, planes in read_frames(sys.stdin.buffer, header)
        )
        line = header.line
        for frame in self._derained(frames):
            yield b"".join([line, frame.line, *(plane.tobytes() for plane in frame.planes)])
            line = b""

    def _begin(self, width: int, height: int) -> None:
        """Raises VideoError."""
        max_pixels = self._options.max_pixels or MAX_FRAME_PIXELS
        if width * height > max_pixels:
            raise VideoError(too_large(width, height, max_pixels))
        self.size = width, height

    def _derained(self, frames: Iterable[F]) -> Iterator[F]:
        """Counts them. What a stream is cut short by is raised when all frames before it are done."""
        temporal = temporal_network(self._engine) if self._options.temporal else None
        derainer = FrameDerainer(self._engine, self._options.strength, self._options.force, temporal)
        cut = _Cut(frames)
        for frame, is_derained in derainer.derain_all(cut):
            self.frames += 1
            self.derained += is_derained
            yield frame
        if cut.error is not None:
            raise cut.error


class _Cut(Iterator[F]):
    """Frames until the stream ends or is cut short, and then by what."""

    def __init__(self, frames: Iterable[F]) -> None:
        self._frames = iter(frames)
        self.error: VideoError | None = None

    def __next__(self) -> F:
        try:
            return next(self._frames)
        except VideoError as error:
            self.error = error
            raise StopIteration from None


@dataclass
class _Y4mFrame(PlanarFrame):
    line: bytes  # of the stream, before its planes
