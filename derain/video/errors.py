"""What can go wrong with a video; errors are for people."""

from derain.errors import DerainError


class VideoError(DerainError):
    """A video that cannot be derained, or not be written as asked for."""
