"""A video file that is read: what it is, and its frames one after the other."""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from derain.errors import ImageTooLargeError
from derain.video.errors import VideoError, too_large
from derain.video.formats import DEMUXERS
from derain.video.options import MAX_FRAME_PIXELS

# FFmpeg reads files alone: what a file names besides, such as the parts of a playlist, is not fetched.
_READ = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
_LONGEST_LAST_S = 0.5  # a frame at the end; more is missing frames
_SLACK_S = 0.5  # by which videos are shorter than they say, for all their frames are there

_MATROSKA_DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")  # a tag of each stream

_UNKNOWN_FIELDS, _PROGRESSIVE = 0, 1  # FFmpeg's AVFieldOrder


@dataclass(frozen=True)
class Facts:
    """What a video says of itself, and its first frame."""

    width: int
    height: int
    pixel_format: str  # as FFmpeg calls it
    depth: int  # bits of a sample
    has_alpha: bool
    is_rgb: bool
    is_interlaced: bool
    time_base: Fraction  # seconds: what time stamps count
    rate: Fraction  # frames a second, roughly
    frames: int  # about as many; 0: not known
    duration_s: float | None  # until the end of the last frame
    file_s: float | None  # until the end of the longest stream
    display_matrix: tuple[int, ...] | None  # that a player turns frames by
    quarter_turns: int  # counter-clockwise, until they are upright
    mastering: str | None  # of HDR, as x265 takes it


class Source:
    """An open video. Raises VideoError or ImageTooLargeError where it cannot be derained."""

    def __init__(self, path: Path, max_pixels: int = MAX_FRAME_PIXELS) -> None:
        self.path = path
        self.container = open_input(path)
        self.damaged = 0  # packets and frames
        self.end_s: float | None = None  # of the last frame
        self._broke_off = False
        try:
            self.stream = main_stream(self.container, path)
            self._check(max_pixels)
            self.facts = self._facts()
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.container.close()

    def frames(self) -> Iterator[av.VideoFrame]:
        """Each with a time stamp above that of the frame before, as encoders want it.

        What cannot be decoded is counted as damaged; a file that breaks off ends.
        """
        self.container.close()
        self.container = open_input(self.path)
        self.stream = main_stream(self.container, self.path)
        self.stream.thread_type = "AUTO"
        self.damaged = 0
        shift = round(origin_s(self.container) / self.facts.time_base)
        step = max(1, round(1 / (self.facts.rate * self.facts.time_base)))
        waiting: av.VideoFrame | None = None  # it lasts until the next one
        for frame in self._decoded():
            last = None if waiting is None else waiting.pts
            frame.pts = _stamp(None if frame.pts is None else frame.pts - shift, last, step)
            self.damaged += frame.is_corrupt
            if waiting is not None:
                yield self._ending(waiting, frame.pts)
            waiting = frame
        if waiting is not None:
            yield self._ending(waiting, self._end(waiting, step))

    def _ending(self, frame: av.VideoFrame, end: int) -> av.VideoFrame:
        assert frame.pts is not None, "each has its time stamp"
        frame.duration = end - frame.pts
        self.end_s = float(end * self.facts.time_base)
        return frame

    def _end(self, last: av.VideoFrame, step: int) -> int:
        """Of the last frame, which lasts as long as the header says, unless the file is cut short before."""
        assert last.pts is not None, "each has its time stamp"
        length = last.duration or step
        if self.facts.duration_s is not None:
            stated = round(self.facts.duration_s / self.facts.time_base) - last.pts
            length = stated if 0 < stated * self.facts.time_base < _LONGEST_LAST_S else length
        return last.pts + length

    def shortage(self, others_end_s: float) -> str | None:
        """Once all is read: what is missing, in words; None where nothing is.

        `others_end_s` is when the other streams end, for files that say no more than how long they are.
        """
        expected, end_s = self.facts.duration_s, self.end_s or 0.0
        if expected is None:
            expected, end_s = self.facts.file_s, max(end_s, others_end_s)
        if self._broke_off or (expected is not None and end_s < expected - _SLACK_S):
            of = f" of {expected:.1f}" if expected is not None and expected > end_s else ""
            return f"the file is cut short: {end_s:.1f}{of} s could be read"
        if self.damaged:
            return f"the file is damaged: {self.damaged} of its frames could not be read, or only in part"
        return None

    def _decoded(self) -> Iterator[av.VideoFrame]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                self._broke_off = True
                packet = None
            if packet is None:
                return
            if packet.has_sidedata("encryption_info"):
                raise VideoError(f"{self.path} is encrypted: its key is not in the file")
            try:
                yield from packet.decode()
            except av.FFmpegError:
                self.damaged += 1

    def _check(self, max_pixels: int) -> None:
        width, height = self.stream.width, self.stream.height
        if width * height > max_pixels:
            raise ImageTooLargeError(too_large(width, height, max_pixels))

    def _facts(self) -> Facts:
        frame = next(self._decoded(), None)
        if frame is None:
            raise VideoError(f"{self.path} has no frame that can be decoded: empty, cut short or encrypted")
        shape = frame.format
        matrix = frame.side_data.get("DISPLAYMATRIX") if frame.rotation else None
        order = self.stream.codec_context.field_order
        rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        duration_s, file_s = self._duration_s(), self._file_s()
        length_s = duration_s or file_s or 0
        alpha = any(each.is_alpha for each in shape.components)
        return Facts(
            width=frame.width,
            height=frame.height,
            pixel_format=shape.name,
            depth=8 if shape.has_palette else max(each.bits for each in shape.components),
            has_alpha=alpha or shape.has_palette or self.stream.metadata.get("alpha_mode") == "1",
            is_rgb=shape.is_rgb or shape.has_palette,
            is_interlaced=frame.interlaced_frame or order not in (_UNKNOWN_FIELDS, _PROGRESSIVE),
            time_base=self.stream.time_base or 1 / rate,
            rate=rate,
            frames=self.stream.frames or round(length_s * rate),
            duration_s=duration_s,
            file_s=file_s,
            display_matrix=None if matrix is None else tuple(_numbers(matrix).tolist()),
            quarter_turns=round(frame.rotation / 90) % 4,
            mastering=_mastering(frame),
        )

    def _duration_s(self) -> float | None:
        """Until the end of the last frame, by the header."""
        stream, file = self.stream, self.container
        if stream.duration is not None and stream.time_base is not None:
            return float(((stream.start_time or 0) + stream.duration) * stream.time_base - origin_s(file))
        known = _MATROSKA_DURATION.fullmatch(stream.metadata.get("DURATION", ""))
        if known is not None:
            return 3600 * int(known[1]) + 60 * int(known[2]) + float(known[3])
        return self._file_s() if len(file.streams) == 1 else None

    def _file_s(self) -> float | None:
        if self.container.duration is None:
            return None
        length = (self.container.start_time or 0) + self.container.duration
        return float(Fraction(length, 1_000_000) - origin_s(self.container))


def _stamp(given: int | None, last: int | None, step: int) -> int:
    """The time stamp of a frame after one at `last`; `step` is how long frames last, mostly."""
    if given is None:
        return 0 if last is None else last + step
    return given if last is None or given > last else last + 1


def open_input(path: Path) -> InputContainer:
    """Raises VideoError for what is no video, and OSError for what cannot be read."""
    av.logging.set_level(None)
    if not stat.S_ISREG(path.stat().st_mode):
        raise VideoError(f"{path} is no file: a video is read from a file, for parts of it are read twice")
    if not path.stat().st_size:
        raise VideoError(f"{path} is empty")
    try:
        # The whole path: else a name with a colon would be taken for an address.
        return av.open(str(path.resolve()), "r", options=dict(_READ), metadata_errors="replace")
    except av.FFmpegError as error:
        raise VideoError(
            f"{path} cannot be read as a video: no kind that is known, damaged, or cut short before its index"
        ) from error


def origin_s(container: InputContainer) -> Fraction:
    """Of a file whose clock runs on from whenever it was, such as MPEG-TS: when it begins, by that clock."""
    if not set(container.format.name.split(",")) & {"mpegts", "mpeg"}:
        return Fraction(0)
    return Fraction(container.start_time or 0, 1_000_000)


def main_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first that is no cover picture. Raises VideoError."""
    for stream in container.streams.video:
        if not is_cover(stream):
            if stream.codec_context is None:
                raise VideoError(f"{path}: the codec of its video is not known, or the file is cut short")
            return stream
    kinds = sorted({str(stream.type) for stream in container.streams}) or ["nothing"]
    raise VideoError(f"{path} has no video, only: {', '.join(kinds)}")


def is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _numbers(side_data: object) -> NDArray[np.int32]:
    return np.frombuffer(cast(bytes, side_data), np.int32)


def _mastering(frame: av.VideoFrame) -> str | None:
    """Mastering display and light levels, which encoders take from the start or not at all."""
    parts = []
    if (display := frame.side_data.get("MASTERING_DISPLAY_METADATA")) is not None:
        numbers = _numbers(display)
        pairs = numbers[:20].reshape(10, 2)  # red x y, green x y, blue x y, white x y, lowest, highest
        if numbers[20] and numbers[21] and pairs[:, 1].all():
            values = pairs[:, 0] / pairs[:, 1]
            red, green, blue, white = np.rint(values[:8] * 50_000).astype(int).reshape(4, 2)
            low, high = (round(each * 10_000) for each in values[8:])
            places = [f"{name}({x},{y})" for name, (x, y) in zip("GBR", (green, blue, red), strict=True)]
            parts.append(f"master-display={''.join(places)}WP({white[0]},{white[1]})L({high},{low})")
    if (light := frame.side_data.get("CONTENT_LIGHT_LEVEL")) is not None:
        most, mean = _numbers(light)[:2]
        parts.append(f"max-cll={most},{mean}")
    return ":".join(parts) or None
