"""Frames through pipes, without a container: y4m, which says its size and rate, and plain RGB. Needs no PyAV.

y4m is the format of the MJPEG tools, as `ffmpeg -f yuv4mpegpipe` writes it: a line for the stream, and for
each frame a line and its planes. These lines are passed on as they came.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import numpy as np

from derain.arrays import Image
from derain.video.errors import VideoError
from derain.video.yuv import Plane, Samples, usual_matrix

Y4M_MAGIC = b"YUV4MPEG2 "
_FRAME = b"FRAME"
_LONGEST_LINE = 1024
_MAX_SIDE_PX = 32_768

# By the name of a colour space: columns and rows of pixels that share a colour; 0: gray.
_SHAPES = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "mono": (0, 0)}
_COLOURS = re.compile(r"(420|422|444|mono)(jpeg|mpeg2|paldv)?(?:p?(9|10|12|14|16))?")


@dataclass(frozen=True)
class Y4m:
    """What the first line of a y4m stream says."""

    line: bytes  # with its end
    width: int
    height: int
    depth: int  # bits of a sample; 2 bytes each above 8
    column_step: int
    row_step: int
    is_interlaced: bool
    is_full_range: bool

    @property
    def samples(self) -> Samples:
        return Samples(self.depth, usual_matrix(self.height), self.is_full_range)

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """Of the planes: (height, width)."""
        if not self.column_step:
            return [(self.height, self.width)]
        colour = -(-self.height // self.row_step), -(-self.width // self.column_step)
        return [(self.height, self.width), colour, colour]

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        return np.dtype(np.uint8) if self.depth == 8 else np.dtype("<u2")

    @property
    def frame_bytes(self) -> int:
        return sum(height * width for height, width in self.shapes) * self.dtype.itemsize


def read_y4m(stream: BinaryIO) -> Y4m:
    """The first line. Raises VideoError for what is no y4m, or a kind that is not read."""
    line = stream.readline(_LONGEST_LINE)
    if not (line.startswith(Y4M_MAGIC) and line.endswith(b"\n")):
        raise VideoError("no y4m: its first line begins with YUV4MPEG2")
    words = line.decode("ascii", "replace").split()[1:]
    tags = {word[0]: word[1:] for word in words if word[0] != "X"}
    width, height = (_side(tags.get(name, ""), name) for name in "WH")
    known = _COLOURS.fullmatch(tags.get("C", "420"))
    if known is None:
        raise VideoError(
            f"y4m in {tags['C']}: there are 420, 422, 444 and mono, of 8 to 16 bits, as in 420p10"
        )
    scan = tags.get("I", "p")
    if scan not in ("p", "?", "t", "b", ""):
        raise VideoError(f"y4m with the scan {scan!r}: it is p, t or b")
    column_step, row_step = _SHAPES[known[1]]
    return Y4m(
        line=line,
        width=width,
        height=height,
        depth=int(known[3] or 8),
        column_step=column_step,
        row_step=row_step,
        is_interlaced=scan in ("t", "b"),
        is_full_range="XCOLORRANGE=FULL" in words,
    )


def read_frames(stream: BinaryIO, header: Y4m) -> Iterator[tuple[bytes, list[Plane]]]:
    """Of each frame its line and its planes, which may be written to.

    Raises VideoError for one that is cut short or does not begin as one.
    """
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        if not line.startswith(_FRAME) or not line.endswith(b"\n"):
            raise VideoError(f"frame {number} of the y4m does not begin with FRAME: the stream is damaged")
        data = _read_whole(stream, header.frame_bytes, number)
        planes: list[Plane] = []
        start = 0
        for height, width in header.shapes:
            plane = np.frombuffer(data, header.dtype, height * width, start).reshape(height, width)
            planes.append(plane)
            start += plane.nbytes
        yield line, planes


def read_images(stream: BinaryIO, width: int, height: int) -> Iterator[Image]:
    """Plain RGB, one frame after the other: uint8 (height, width, 3). Raises VideoError for one cut short."""
    number = 0
    while first := stream.read(1):
        number += 1
        data = first + _read_whole(stream, 3 * width * height - 1, number)
        yield np.frombuffer(data, np.uint8).reshape(height, width, 3)


def _read_whole(stream: BinaryIO, size: int, number: int) -> bytearray:
    data = bytearray(size)
    view, have = memoryview(data), 0
    while have < size:
        got = stream.readinto(view[have:])  # type: ignore[attr-defined]  # of BufferedReader, not of BinaryIO
        if not got:
            raise VideoError(f"the stream ends within frame {number}: {number - 1} before it were whole")
        have += got
    return data


def _side(text: str, name: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_SIDE_PX:
        raise VideoError(f"y4m with {name}{text}: a side is from 1 to {_MAX_SIDE_PX:,} pixels")
    return int(text)
