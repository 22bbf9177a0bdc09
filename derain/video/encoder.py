"""Frames to packets: each segment by an encoder of its own, all of them made alike."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace

from derain.video.errors import VideoError
from derain.video.formats import AV1, ENCODER_THREADS, FFV1, H264, HEVC, MOV, MP4, Codec, Container
from derain.video.packets import Packet
from derain.video.source import Facts, Source
from derain.video.yuv import Plane, Samples, usual_matrix

GOP_FRAMES = 240  # from one frame that can be jumped to, to the next; also those of a segment
_MAX_RATE = Fraction(240)  # frames a second, that SVT-AV1 takes
_LOOKAHEAD_BYTES = 400_000_000  # of frames that wait in an encoder
_LOOKAHEAD_FRAMES = 40  # where there is room

# SVT-AV1 prints what it does, unless told not to before it begins.
os.environ.setdefault("SVT_LOG", "1")


@dataclass(frozen=True)
class Encoding:
    """How the frames of one video are encoded."""

    facts: Facts
    codec: Codec
    crf: int | None
    pixel_format: str
    width: int
    height: int
    colours: tuple[int, int, int, int]  # range, matrix, transfer, primaries, as H.273 numbers them
    sample_aspect: Fraction  # width of a pixel over its height; 0: not known

    @cached_property
    def samples(self) -> Samples:
        colour_range, matrix = self.colours[:2]
        is_full = colour_range == ColorRange.JPEG
        depth = av.VideoFormat(self.pixel_format).components[0].bits
        return Samples(depth, matrix if matrix != _UNSPECIFIED else usual_matrix(self.height), is_full)

    def lost(self, container: Container) -> tuple[str, ...]:
        """What of the frames is not in the result, in words."""
        before, after = (av.VideoFormat(name) for name in (self.facts.pixel_format, self.pixel_format))
        found = []
        if self.facts.depth > self.samples.depth:
            found.append(f"more than {self.samples.depth} bits")
        if _chroma_pixels(before) > _chroma_pixels(after):
            found.append("colour at full resolution")
        # PyAV cannot give a Matroska file one; H.264 and HEVC have it in their own headers.
        if self.sample_aspect not in (0, 1) and not (container in (MP4, MOV) or self.codec in (H264, HEVC)):
            found.append("shape of pixels")
        return tuple(found)

    def open(self) -> VideoCodecContext:
        context = av.CodecContext.create(self.codec.encoder, "w")
        assert isinstance(context, VideoCodecContext)
        self.configure(context)
        context.options = self.options
        try:
            with kept_scheduling():
                context.open()
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(
                f"{self.codec.encoder} cannot encode {self.width} x {self.height} in {self.pixel_format}"
            ) from error
        return context

    def configure(self, context: VideoCodecContext) -> None:
        context.width, context.height, context.pix_fmt = self.width, self.height, self.pixel_format
        # The rate is a hint: each frame has its time. Some files name that of their clock.
        context.time_base, context.framerate = self.facts.time_base, min(self.facts.rate, _MAX_RATE)
        context.color_range, context.colorspace, context.color_trc, context.color_primaries = self.colours
        context.sample_aspect_ratio = self.sample_aspect
        context.thread_count = ENCODER_THREADS
        context.gop_size = GOP_FRAMES
        context.flags |= Flags.global_header
        if self.facts.is_interlaced:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me

    @property
    def options(self) -> dict[str, str]:
        """Of the encoder, as FFmpeg names them."""
        frame_bytes = 2 * self.width * self.height * (1 if self.samples.depth == 8 else 2)
        lookahead = max(5, min(_LOOKAHEAD_FRAMES, _LOOKAHEAD_BYTES // frame_bytes))
        options = dict(self.codec.options)
        if self.crf is not None:
            options["crf"] = str(self.crf)
        if self.codec is H264:
            options["rc-lookahead"] = str(lookahead)
        if self.codec is HEVC:
            fixed = f"log-level=none:pools={ENCODER_THREADS}:frame-threads=1:open-gop=0"
            mastering = f":{self.facts.mastering}" if self.facts.mastering else ""
            options["x265-params"] = f"{fixed}:rc-lookahead={max(lookahead, 5)}{mastering}"
        if self.codec is AV1:
            options["svtav1-params"] = "lp=2"
        return options


@contextmanager
def kept_scheduling() -> Iterator[None]:
    """Threads are scheduled afterwards as the caller was before.

    For root SVT-AV1 makes its own threads real-time, and the caller too, whose later threads and processes
    would all be so: they leave no processor to anybody else.
    """
    if not hasattr(os, "sched_getscheduler"):  # but on Linux
        yield
        return
    policy, parameters, before = os.sched_getscheduler(0), os.sched_getparam(0), _threads()
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
        for thread in _threads() - before:
            with suppress(ProcessLookupError):  # it has ended
                os.sched_setscheduler(thread, policy, parameters)


def _threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


def _chroma_pixels(shape: av.VideoFormat) -> int:
    """Of 16, how many pixels have a colour of their own."""
    return shape.chroma_width(4) * shape.chroma_height(4) if len(shape.components) > 1 else 0


_UNSPECIFIED = 2  # of matrix, transfer and primaries
_PLANAR = ("yuv4", "yuva4", "gray")


def choose_encoding(source: Source, codec: Codec, crf: int | None) -> Encoding:
    """Raises VideoError for what this codec cannot hold."""
    facts, context = source.facts, source.stream.codec_context
    if facts.has_alpha and codec is not FFV1:
        raise VideoError(
            f"{source.path} has transparency, which {codec.name} cannot hold: ffv1 can, in a .mkv"
        )
    pixel_format = _pixel_format(facts, codec)
    if facts.is_interlaced:
        _check_interlaced(source, codec, pixel_format)
    colours = context.color_range, context.colorspace, context.color_trc, context.color_primaries
    if facts.pixel_format.startswith("yuvj"):
        colours = ColorRange.JPEG, *colours[1:]
    if facts.is_rgb:
        colours = ColorRange.MPEG, Colorspace.ITU709, *colours[2:]
    odd = 0 if codec.has_odd_sizes else 1  # such a size gets a row or column more
    return Encoding(
        facts=facts,
        codec=codec,
        crf=codec.crf if crf is None else crf,
        pixel_format=pixel_format,
        width=facts.width + facts.width % 2 * odd,
        height=facts.height + facts.height % 2 * odd,
        colours=colours,
        sample_aspect=source.stream.sample_aspect_ratio or Fraction(0),
    )


def _pixel_format(facts: Facts, codec: Codec) -> str:
    """What of the codec's comes nearest to the source's."""
    name = facts.pixel_format
    if codec is FFV1:
        if name.startswith(_PLANAR) and not name.endswith("be"):
            return name
        deep = {8: "", 10: "10le", 12: "12le"}.get(facts.depth, "16le")
        return (
            f"yuva444p{'' if deep == '12le' and facts.has_alpha else deep}"
            if facts.has_alpha
            else f"yuv444p{deep}"
        )
    if min(facts.depth, codec.depths[-1]) > 8:
        return "yuv420p10le"
    return "yuvj420p" if name.startswith("yuvj") and codec is not AV1 else "yuv420p"


def _check_interlaced(source: Source, codec: Codec, pixel_format: str) -> None:
    """Raises VideoError."""
    if codec not in (H264, FFV1):
        raise VideoError(
            f"{source.path} is interlaced, which {codec.name} is not written with: h264 and ffv1 are"
        )
    if source.facts.pixel_format != pixel_format:
        raise VideoError(
            f"{source.path} is interlaced, in {source.facts.pixel_format}, of which {codec.name} would mix "
            "the fields: ffv1 keeps them, in a .mkv"
        )


def fitted(frame: av.VideoFrame, encoding: Encoding) -> av.VideoFrame:
    """The frame in the size and pixel format that it is encoded in, to be written to.

    One that fits is itself, with all that it has beside its planes, such as captions.
    """
    facts = encoding.facts
    is_sized = (frame.width, frame.height) == (facts.width, facts.height)
    if not is_sized or frame.format.name != encoding.pixel_format:
        colours: dict[str, Any] = {}
        if facts.is_rgb:
            colours = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        stamp, length = frame.pts, frame.duration
        frame = frame.reformat(facts.width, facts.height, encoding.pixel_format, **colours)
        frame.pts, frame.duration = stamp, length
    if (frame.width, frame.height) != (encoding.width, encoding.height):
        frame = _padded(frame, encoding)
    frame.make_writable()
    frame.pict_type = av.video.frame.PictureType.NONE  # the encoder's choice, not that of the one before
    return frame


def _padded(frame: av.VideoFrame, encoding: Encoding) -> av.VideoFrame:
    larger = av.VideoFrame(encoding.width, encoding.height, encoding.pixel_format)
    for given, plane in zip(planes_of(frame), planes_of(larger), strict=True):
        missing = [(0, there - here) for there, here in zip(plane.shape, given.shape, strict=True)]
        plane[:] = np.pad(given, missing, mode="edge")
    larger.pts, larger.duration, larger.time_base = frame.pts, frame.duration, frame.time_base
    return larger


def planes_of(frame: av.VideoFrame) -> list[Plane]:
    """Views of the frame's planes, each (height, width)."""
    return [
        np.frombuffer(cast(bytes, plane), np.uint8 if component.bits == 8 else np.uint16).reshape(
            plane.height, -1
        )[:, : plane.width]
        for plane, component in zip(frame.planes, frame.format.components, strict=True)
    ]


class SegmentEncoder:
    """Encodes the frames of one segment, which needs no other."""

    def __init__(self, encoding: Encoding) -> None:
        self._context = encoding.open()
        self._lengths: dict[int, int] = {}  # of the frames that wait, by their time stamps

    def encode(self, frame: av.VideoFrame) -> list[Packet]:
        assert frame.pts is not None, "sources give each frame a time stamp"
        self._lengths[frame.pts] = frame.duration
        frame.time_base = self._context.time_base
        return list(self._packets(self._context.encode(frame)))

    def finish(self) -> list[Packet]:
        return list(self._packets(self._context.encode(None)))

    def _packets(self, encoded: "Sequence[av.Packet[Any]]") -> Iterator[Packet]:
        for packet in encoded:
            assert packet.pts is not None, "encoders keep time stamps"
            yield Packet(bytes(packet), packet.pts, self._lengths.pop(packet.pts), packet.is_keyframe)
