"""What can be known of a video before the work: how much there is to do, and what it is written as."""

from dataclasses import dataclass
from pathlib import Path

import av

from derain.video.errors import VideoError
from derain.video.formats import CODECS, CONTAINER_OF, MKV, MP4, Container
from derain.video.muxer import unfit
from derain.video.source import main_stream, open_input


@dataclass(frozen=True)
class Preview:
    container: Container  # of the result, where no name says it
    pixels: int  # of all frames; 0: not known


def preview(path: Path, codec: str | None) -> Preview | None:
    """By the header. None for what cannot be read: it fails when it is to be derained, and says why."""
    preferred = CONTAINER_OF.get(path.suffix.lower(), MP4)
    wanted = None if codec is None else CODECS[codec]
    try:
        with open_input(path) as file:
            stream = main_stream(file, path)
            rate = stream.average_rate or stream.guessed_rate or 0
            frames = stream.frames or round((file.duration or 0) / 1_000_000 * rate)
            fitting = [
                each
                for each in (preferred, MP4, MKV)
                if (wanted is None or wanted in each.codecs) and not unfit(file, each)
            ]
            container = fitting[0] if fitting else preferred
            return Preview(container, frames * stream.width * stream.height)
    except (VideoError, OSError, av.FFmpegError):
        return None
