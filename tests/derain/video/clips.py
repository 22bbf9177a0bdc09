"""Small videos, made here: what a test wants to be in them, and what it finds in others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

WIDTH, HEIGHT, FRAMES = 64, 48, 12
RATE = 30
SOUND_RATE = 48_000
Draw = Callable[[int], NDArray[np.uint8]]  # a frame's number to RGB (height, width, 3)


def moving(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Smooth, so that codecs keep it, and no two frames alike."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    phase = number / 6
    channels = [
        120 + 80 * np.sin(4 * rows + phase),
        110 + 60 * np.cos(5 * columns + phase),
        90 + 50 * np.sin(3 * rows * columns),
    ]
    return np.stack(channels, axis=-1).astype(np.uint8)


def flat(*levels: int) -> Draw:
    """Frames of one level each."""
    return lambda number: np.full((HEIGHT, WIDTH, 3), levels[number], np.uint8)


@dataclass(frozen=True)
class Clip:
    """What to write; time stamps count in `time_base`."""

    draw: Draw = moving
    stamps: Sequence[int] = tuple(512 * number for number in range(FRAMES))
    time_base: Fraction = Fraction(1, 512 * RATE)
    size: tuple[int, int] = (WIDTH, HEIGHT)
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "10", "preset": "ultrafast"})
    has_sound: bool = False
    set_up: Callable[[VideoStream], Any] = lambda stream: None
    container_options: dict[str, str] = field(default_factory=dict)


def write_clip(path: Path, clip: Clip = Clip()) -> Path:
    av.logging.set_level(None)
    with av.open(str(path), "w", options=dict(clip.container_options)) as out:
        stream = out.add_stream(clip.codec, rate=RATE, options=dict(clip.options), time_base=clip.time_base)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = clip.size
        stream.pix_fmt = clip.pixel_format
        clip.set_up(stream)
        sound = out.add_stream("aac", rate=SOUND_RATE) if clip.has_sound else None
        if isinstance(sound, AudioStream):
            _write_sound(out, sound, len(clip.stamps))
        for number, stamp in enumerate(clip.stamps):
            frame = av.VideoFrame.from_ndarray(clip.draw(number)).reformat(format=clip.pixel_format)
            frame.pts, frame.time_base = stamp, clip.time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def _write_sound(out: Any, stream: AudioStream, frames: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(max(1, frames * SOUND_RATE // RATE // 1024)):
        values = rng.normal(0, 0.1, (2, 1024)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(values, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = SOUND_RATE, 1024 * number
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def stamps(path: Path) -> list[Fraction]:
    """Seconds, of the frames as they are shown."""
    with av.open(str(path)) as file:
        return [_seconds(frame.pts, frame.time_base) for frame in file.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[Fraction, Fraction, bytes]]:
    """Of the first stream of a kind, as they are shown: seconds, duration, and the bytes."""
    with av.open(str(path)) as file:
        stream = next(each for each in file.streams if each.type == kind)
        found = [each for each in file.demux(stream) if each.size]
        return sorted(
            (_seconds(each.pts, each.time_base), _seconds(each.duration, each.time_base), bytes(each))
            for each in found
        )


def _seconds(stamp: int | None, time_base: Fraction | None) -> Fraction:
    assert stamp is not None and time_base is not None
    return stamp * time_base


def frames(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(height, width, 3), as FFmpeg converts it."""
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def plane(frame: av.VideoFrame, number: int, kind: type[np.uint8 | np.uint16] = np.uint8) -> NDArray[Any]:
    return np.frombuffer(cast(bytes, frame.planes[number]), kind)
