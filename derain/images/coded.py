"""An image as it is coded in a file: its header, what its decoder gives, and what its encoder takes.

Each format is a module of `derain.images.codecs`, with a subclass of Header that keeps what was parsed (so
that nothing is parsed twice), a function `read_header` and, where it is written, one `encode`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from derain.images.formats import ImageFormat
from derain.images.metadata.captions import Captions
from derain.images.metadata.exif import Exif
from derain.images.palette import Palette

Samples = NDArray[np.uint8] | NDArray[np.uint16]  # (height, width) or (height, width, channels)


@dataclass(frozen=True)
class Coding:
    """How a file had coded its image: an answer of the same format is coded so that it does not grow."""

    is_lossless: bool = False
    is_drawn: bool = False  # it was small without loss: full of repetitions
    palette: Palette | None = None  # all the colours that it can have
    quality: int | None = None  # of the format's own scale
    colour_step: tuple[int, int] = (1, 1)  # pixels across and down for each sample of colour


@dataclass(frozen=True)
class Decoded:
    """What a decoder gives."""

    samples: Samples  # gray, gray and alpha, RGB, or RGB and alpha
    exif: Exif | None = None
    profile: bytes | None = None
    dots_per_inch: tuple[float, float] | None = None
    is_upright: bool = False  # the decoder has turned it
    png_colour: bytes = b""
    coding: Coding = field(default_factory=Coding)
    xmp: bytes | None = None
    iptc: bytes | None = None
    left_out: frozenset[str] = frozenset()  # what was in the file and is in no answer, by name


@dataclass(frozen=True)
class Header(ABC):
    """What a file says of itself; width and height as in the file, which may be turned."""

    format: ClassVar[ImageFormat]

    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def is_deep(self) -> bool:
        """Of 16 bits a channel."""
        return False

    @property
    def code_points(self) -> tuple[int, int] | None:
        """Primaries and transfer, where nothing else tells the colours."""
        return None

    @abstractmethod
    def decode(self, data: bytes) -> Decoded:
        """The file that this is the header of; raises whatever its decoder does of a damaged one."""


@dataclass(frozen=True)
class Extras:
    """What a file is to say besides its samples."""

    profile: bytes | None
    exif: bytes | None  # cleaned, of an upright image of this size
    captions: Captions
    dots_per_inch: tuple[float, float] | None
    png_colour: bytes = b""


@dataclass(frozen=True)
class Manner:
    """How samples are to be coded."""

    quality: int | None
    sampling: str  # of colour
    is_lossless: bool
    is_drawn: bool
