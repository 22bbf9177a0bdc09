"""What a video is to become, and what became of it. Knows nothing of PyAV."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

NoteFrames: TypeAlias = Callable[[int, int], object]  # how many frames are done, and of about how many


MAX_FRAME_PIXELS = 150_000_000  # as of images


@dataclass(frozen=True)
class ClipOptions:
    """What a result is to be like."""

    max_pixels: int | None = None  # of a frame; None: MAX_FRAME_PIXELS
    strength: float = 1.0
    force: bool = False  # derain dry scenes too
    temporal: bool = True  # let neighbouring frames help
    codec: str | None = None  # None: what plays everywhere
    crf: int | None = None  # None: the codec's
    keeps_metadata: bool = True


@dataclass(frozen=True)
class DerainedVideo:
    """What became of a video.

    `width` and `height` are pixels; `derained` is how many of the `frames` were changed: the others are of
    scenes without rain. `dropped` names what the source has and the result does not. `shortage` says what
    could not be read of a source that is damaged or cut short; it is None for a sound one.
    """

    width: int
    height: int
    frames: int
    derained: int
    dropped: tuple[str, ...]
    shortage: str | None
