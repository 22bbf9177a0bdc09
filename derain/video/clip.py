"""Derains a video file into another one, segment by segment, so that a run that ended early can go on.

Beside the target lies a folder, `out.mp4.unfinished`, while the work lasts. The same command goes on behind
the last segment in it. What comes before is decoded once more, for a hundredth of the time that it took, so
that each frame is the one of an unbroken run, whatever the container has for an index. The last frames that
are done are derained once more, too: the next ones take from them.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av

from derain import __version__
from derain.errors import DerainError
from derain.inference.engine import Engine
from derain.video.encoder import (
    GOP_FRAMES,
    Encoding,
    SegmentEncoder,
    choose_encoding,
    fitted,
    planes_of,
)
from derain.video.errors import VideoError
from derain.video.formats import CONTAINERS, Container, check_crf, choose_codec, container_named
from derain.video.frames import FrameDerainer, PlanarFrame
from derain.video.muxer import Muxer, holds_frames, unfit
from derain.video.options import MAX_FRAME_PIXELS, ClipOptions, DerainedVideo, NoteFrames
from derain.video.packets import (
    SegmentFacts,
    append_packets,
    begin_segment,
    finish_segment,
    finished_segments,
    segment_path,
)
from derain.video.scene import Scene
from derain.video.source import Source
from derain.video.temporal import temporal_network
from derain.video.workfolder import working

SEGMENT_FRAMES = GOP_FRAMES  # what a kill costs at most


def derain_clip(
    engine: Engine,
    source: Path,
    target: Path,
    options: ClipOptions,
    note_progress: NoteFrames = lambda done, frames: None,
) -> DerainedVideo:
    """Writes `target`, whole or not at all, in the container that its suffix names.

    A video without rain, for which nothing else is asked, keeps its frames as they were encoded.

    Raises VideoError, ImageTooLargeError or OSError. An interruption leaves a file that plays in the folder
    of the unfinished work, and has a note that names it.
    """
    container = container_named(target)
    with Source(source, options.max_pixels or MAX_FRAME_PIXELS) as video:
        encoding = _encoding(video, container, options)
        temporal = temporal_network(engine) if options.temporal else None
        derainer = FrameDerainer(engine, options.strength, options.force, temporal)
        muxer = Muxer(source, video.stream.index, container, options.keeps_metadata)
        origin = _origin(derainer, source, encoding, options)
        with working(target, origin) as folder:
            work = _Work(folder, video, encoding, derainer, note_progress)
            try:
                work.derain()
                return _finish(work, muxer, target, options)
            except KeyboardInterrupt as interrupt:
                with suppress(DerainError, OSError, ValueError, av.FFmpegError):
                    interrupt.add_note(work.save_so_far(muxer, target))
                raise
            except av.FFmpegError as error:
                if isinstance(error, OSError):  # such as of a full disk
                    raise
                raise VideoError(f"{source} could not be encoded or written: {error.strerror}") from error


def _finish(work: "_Work", muxer: Muxer, target: Path, options: ClipOptions) -> DerainedVideo:
    facts = finished_segments(work.folder)
    derained = sum(each.derained for each in facts)
    is_asked_for = options.codec is not None or options.crf is not None
    is_copied = not derained and not is_asked_for and holds_frames(muxer.container, work.video)
    encoding = None if is_copied else work.encoding
    result = work.folder / f"result{target.suffix}"
    muxer.write(result, work.segment_paths(), encoding)
    result.replace(target)
    return DerainedVideo(
        width=work.encoding.width if encoding else work.video.facts.width,
        height=work.encoding.height if encoding else work.video.facts.height,
        frames=sum(each.frames for each in facts),
        derained=derained,
        dropped=(*(encoding.lost(muxer.container) if encoding else ()), *muxer.dropped),
        shortage=work.video.shortage(float(muxer.end_s)),
    )


def _encoding(video: Source, container: Container, options: ClipOptions) -> Encoding:
    """Raises VideoError, also where the container has no place for the sound or the subtitles."""
    codec = choose_codec(options.codec, container, video.facts.depth)
    check_crf(options.crf, codec)
    if homeless := unfit(video.container, container):
        others = [each.suffixes[0] for each in CONTAINERS if not unfit(video.container, each)]
        hint = f"{' and '.join(others)} can" if others else "nor can any other that is written"
        raise VideoError(f"{container.name} cannot hold all of {video.path}: {', '.join(homeless)}; {hint}")
    return choose_encoding(video, codec, options.crf)


def _origin(
    derainer: FrameDerainer, source: Path, encoding: Encoding, options: ClipOptions
) -> dict[str, Any]:
    """All that a segment depends on."""
    status, temporal = source.stat(), derainer.temporal
    return {
        "source": str(source.resolve()),
        "bytes": status.st_size,
        "changed_ns": status.st_mtime_ns,
        "model": derainer.engine.manifest.sha256,
        "strength": options.strength,
        "force": options.force,
        "temporal": temporal.manifest.file.sha256 if temporal is not None else None,
        "codec": encoding.codec.name,
        "format": [encoding.width, encoding.height, encoding.pixel_format],
        "options": encoding.options,
        "segment_frames": SEGMENT_FRAMES,
        "derain": __version__,
        "av": av.__version__,
    }


class _Work:
    """The frames of one video, from the first segment that is not done."""

    def __init__(
        self,
        folder: Path,
        video: Source,
        encoding: Encoding,
        derainer: FrameDerainer,
        note_progress: NoteFrames,
    ) -> None:
        self.folder = folder
        self.video = video
        self.encoding = encoding
        self._derainer = derainer
        self._note_progress = note_progress
        self._done = 0  # frames
        self._part: _Part | None = None  # the segment in work

    def derain(self) -> None:
        """Returns when all segments are done."""
        finished = finished_segments(self.folder)
        if finished:
            self._derainer.scene = Scene.from_dict(finished[-1].scene)
        self._done = sum(each.frames for each in finished)
        self._note()
        seen_again = min(self._done, self._derainer.reach)  # for the frames that come
        frames = islice(self.video.frames(), self._done - seen_again, None)
        derained = self._derainer.derain_all(map(self._frame, frames))
        derained = islice(derained, seen_again, None)
        number = len(finished)
        while (first := next(derained, None)) is not None:
            self._write_segment(number, chain([first], islice(derained, SEGMENT_FRAMES - 1)))
            number += 1

    def _frame(self, frame: av.VideoFrame) -> "_ClipFrame":
        frame = fitted(frame, self.encoding)
        return _ClipFrame(
            planes_of(frame),
            self.encoding.samples,
            frame.interlaced_frame,
            self.video.facts.quarter_turns,
            encoded_as=frame,
        )

    def segment_paths(self) -> list[Path]:
        """Of those that are done."""
        return [segment_path(self.folder, number) for number in range(len(finished_segments(self.folder)))]

    def save_so_far(self, muxer: Muxer, target: Path) -> str:
        """Ends the segment in work, writes a file that plays, and says where.

        The segment counts as not done.
        """
        paths = self.segment_paths()
        if self._part is not None:
            self._part.close()
            paths.append(self._part.path)
        so_far = self.folder / f"so-far{target.suffix}"
        if not self._done:
            return "no frame was done yet"
        muxer.write(so_far, paths, self.encoding, is_part=True)
        return f"{so_far} has the {self._done} frames that are done, and plays"

    def _write_segment(self, number: int, frames: "Iterator[tuple[_ClipFrame, bool]]") -> None:
        derained, start = 0, self._done
        self._part = _Part(segment_path(self.folder, number), SegmentEncoder(self.encoding))
        for frame, is_derained in frames:
            derained += is_derained
            self._part.add(frame.encoded_as)
            self._done += 1
            self._note()
        self._part.close()
        facts = SegmentFacts(self._done - start, derained, self._derainer.scene_to_go_on.as_dict())
        finish_segment(self._part.path, facts)
        self._part = None

    def _note(self) -> None:
        self._note_progress(self._done, max(self._done, self.video.facts.frames))


@dataclass
class _ClipFrame(PlanarFrame):
    """The planes of a frame of PyAV's."""

    encoded_as: av.VideoFrame


class _Part:
    """A segment in work: its encoder, and the file that the packets go to."""

    def __init__(self, path: Path, encoder: SegmentEncoder) -> None:
        self.path = path
        self._encoder = encoder
        begin_segment(path)

    def add(self, frame: av.VideoFrame) -> None:
        append_packets(self.path, self._encoder.encode(frame))

    def close(self) -> None:
        append_packets(self.path, self._encoder.finish())
