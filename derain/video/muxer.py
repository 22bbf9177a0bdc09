"""Puts a video together: encoded frames, and all else that the source has, copied."""

import heapq
import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.container import InputContainer, OutputContainer
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from derain.video.encoder import Encoding, kept_scheduling
from derain.video.formats import MKV, MOV, MP4, Container
from derain.video.packets import decoding_times, read_packets, read_stamps
from derain.video.source import Source, is_cover, open_input, origin_s

# What a muxer writes of its own: the source's would be untrue.
_OWN_TAGS = {
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "duration",
    "rotate",
    "vendor_id",
}
_OWN_TAG_STARTS = ("number_of_", "_statistics", "bps")

_COVER_SUFFIXES = {"mjpeg": "jpg", "png": "png", "bmp": "bmp", "gif": "gif", "webp": "webp"}

_Timed: TypeAlias = tuple[Fraction, "av.Packet[Any]"]


def unfit(source: InputContainer, container: Container) -> list[str]:
    """Sound and subtitles of the source that have no place in the container."""
    return [
        _named(stream)
        for stream in source.streams
        if stream.type in ("audio", "subtitle") and not _is_held(stream, container)
    ]


def holds_frames(container: Container, video: Source) -> bool:
    """Whether the video's own frames have a place in the container, as they are encoded."""
    return _is_held(video.stream, container)


def _is_held(stream: Stream, container: Container) -> bool:
    """Whether the container has a place for it; tried out, for no table says so."""
    try:
        with av.open(io.BytesIO(), "w", format=container.muxer) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (ValueError, av.FFmpegError):
        return False
    return True


def _named(stream: Stream) -> str:
    """In words, for people who know their file."""
    codec = f" in {stream.codec_context.name}" if stream.codec_context is not None else ""
    title = stream.metadata.get("filename") or stream.metadata.get("handler_name") or ""
    return f"{stream.type}{codec}" + (f" ({title})" if title and not codec else "")


class Muxer:
    """Writes one file: frames that were encoded, and the source's other streams as they are.

    `dropped` has the names of those that the container has no place for.
    """

    def __init__(self, source: Path, main: int, container: Container, keeps_metadata: bool) -> None:
        self._source = source
        self._main = main  # the number of the stream that was derained
        self.container = container
        self._keeps_metadata = keeps_metadata
        self.dropped: list[str] = []
        self.end_s = Fraction(0)  # of what was copied

    def write(
        self, target: Path, segments: Sequence[Path], encoding: Encoding | None, is_part: bool = False
    ) -> None:
        """`encoding` is of the segments; None copies the source's own frames. Raises OSError.

        With a part of the frames all else ends where they end.
        """
        self.dropped.clear()
        options = dict(self.container.options)
        with (
            open_input(self._source) as source,
            # FFmpeg takes what comes before a colon in a relative name for a protocol.
            av.open(str(target.absolute()), "w", format=self.container.muxer, options=options) as out,
        ):
            copied: dict[int, Stream] = {}
            for stream in source.streams:
                if stream.index == self._main and encoding is not None:
                    video = self._add_video(out, stream, encoding)
                elif (added := self._add_copy(out, stream)) is not None:
                    copied[stream.index] = added
            if self._keeps_metadata:
                out.metadata.update(_tags(source.metadata))
            out.set_chapters(source.chapters())
            with kept_scheduling():  # it opens an encoder, for its headers
                out.start_encoding()
            others = self._ending(_copied(source, copied))
            if encoding is None:
                frames: Iterator[_Timed] = iter(())
            else:
                frames = _encoded(segments, video, encoding)
                if is_part:
                    end_s = max(chain.from_iterable(map(read_stamps, segments))) * encoding.facts.time_base
                    others = takewhile(lambda timed: timed[0] <= end_s, others)
            for _, packet in heapq.merge(frames, others, key=lambda timed: timed[0]):
                out.mux_one(packet)

    def _ending(self, packets: Iterator[_Timed]) -> Iterator[_Timed]:
        for time_s, packet in packets:
            length = (packet.duration or 0) * packet.time_base
            self.end_s = max(self.end_s, time_s + length)
            yield time_s, packet

    def _add_video(self, out: OutputContainer, stream: Stream, encoding: Encoding) -> VideoStream:
        video = out.add_stream(encoding.codec.encoder, rate=encoding.facts.rate, options=encoding.options)
        assert isinstance(video, VideoStream)
        encoding.configure(video.codec_context)
        video.time_base = encoding.facts.time_base
        if encoding.codec.tag and self.container in (MP4, MOV):
            video.codec_context.codec_tag = encoding.codec.tag
        if encoding.facts.display_matrix:
            video.set_display_matrix(encoding.facts.display_matrix)
        self._label(stream, video)
        return video

    def _add_copy(self, out: OutputContainer, stream: Stream) -> Stream | None:
        """None where the container has no place for it, or makes it anew."""
        if stream.type == "data" and (stream.discard == Discard.all or "timecode" in stream.metadata):
            return None  # the text of chapters, or the time code: tracks of MP4 and MOV
        if isinstance(stream, VideoStream) and is_cover(stream) and self.container is MKV:
            self._attach(out, stream)
            return None
        is_wanted = self._keeps_metadata or stream.type not in ("data", "attachment")
        if not (is_wanted and _is_held(stream, self.container)):
            self.dropped.append(_named(stream))
            return None
        added = out.add_stream_from_template(stream, opaque=True)
        self._label(stream, added)
        return added

    def _attach(self, out: OutputContainer, cover: VideoStream) -> None:
        """Matroska's covers are files; as a stream it would be a second video."""
        with open_input(self._source) as source:
            packet = next(iter(source.demux(source.streams[cover.index])), None)
        if packet is None or not packet.size:
            self.dropped.append(_named(cover))
            return
        name = (
            cover.metadata.get("filename") or f"cover.{_COVER_SUFFIXES.get(cover.codec_context.name, 'bin')}"
        )
        kind = cover.metadata.get("mimetype") or f"image/{cover.codec_context.name.replace('mjpeg', 'jpeg')}"
        out.add_attachment(name, kind, bytes(packet))

    def _label(self, stream: Stream, added: Stream) -> None:
        tags = _tags(stream.metadata)
        if not self._keeps_metadata:
            tags = {name: value for name, value in tags.items() if name.lower() == "language"}
        added.metadata.clear()
        added.metadata.update(tags)
        added.disposition = stream.disposition


def _tags(given: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in given.items()
        if name.lower() not in _OWN_TAGS and not name.lower().startswith(_OWN_TAG_STARTS)
    }


def _copied(source: InputContainer, copied: dict[int, Stream]) -> Iterator[_Timed]:
    """Packets of the streams that are copied, with the seconds at which they come; none of a file's rest
    that cannot be read.
    """
    start_s = origin_s(source)
    last = dict.fromkeys(copied, Fraction(0))
    wanted = [stream for stream in source.streams if stream.index in copied and stream.type != "attachment"]
    packets = source.demux(wanted) if wanted else iter(())
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            return
        if packet is None:
            return
        if packet.size == 0 and packet.dts is None:
            continue  # an empty packet, which tells a decoder that the stream has ended
        index = packet.stream_index
        shift = round(start_s / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        if packet.dts is not None:
            packet.dts -= shift
            last[index] = packet.dts * packet.time_base
        packet.stream = copied[index]
        yield last[index], packet


def _encoded(segments: Sequence[Path], video: VideoStream, encoding: Encoding) -> Iterator[_Timed]:
    """Packets of all segments, one after the other, with the seconds at which they are decoded."""
    times = decoding_times(list(chain.from_iterable(map(read_stamps, segments))))
    time_base = encoding.facts.time_base
    each = chain.from_iterable(map(read_packets, segments))
    for time, encoded in zip(times, each, strict=True):
        packet = av.Packet(encoded.data)
        packet.pts, packet.dts, packet.duration = encoded.pts, time, encoded.duration
        packet.time_base, packet.is_keyframe = time_base, encoded.is_keyframe
        packet.stream = video
        yield time * time_base, packet
