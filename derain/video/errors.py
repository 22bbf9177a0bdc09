"""What can go wrong with a video; errors are for people."""

from derain.errors import DerainError


class VideoError(DerainError):
    """A video that cannot be derained, or not be written as asked for."""


def too_large(width: int, height: int, max_pixels: int) -> str:
    """Of frames, in words."""
    return (
        f"{width} x {height} pixels are {width * height:,}, {max_pixels:,} are allowed; "
        "--max-pixels may allow more, which takes more memory"
    )
