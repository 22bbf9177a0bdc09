"""What can go wrong, said to the person who caused it. Nothing here knows of HTTP."""


class DerainError(Exception):
    """Base of every error that Derain raises on purpose; its text is for people."""


class ImageError(DerainError):
    """The bytes given cannot be derained."""


class EmptyImageError(ImageError):
    """No bytes at all."""


class UnsupportedFormatError(ImageError):
    """The bytes, or the format asked for, are none that Derain reads or writes."""


class CorruptImageError(ImageError):
    """The format is known, but the image cannot be decoded."""


class ImageTooLargeError(ImageError):
    """More pixels than the limit."""


class ModelError(DerainError):
    """A model folder that must not be served."""


class ProviderError(DerainError):
    """An execution provider that was asked for and is not there."""


class CancelledError(DerainError):
    """The work on an image was cancelled: nobody waits for it any more."""


class FileError(DerainError, OSError):
    """A file that cannot be read, or not written where it was asked for."""


class MissingFileError(FileError, FileNotFoundError):
    """A file that is not there."""


class OptionError(DerainError, ValueError):
    """A value, such as a strength, that is not one of those allowed."""
