"""How much memory an image takes while it is derained."""

from derain.errors import ImageTooLargeError
from derain.images.coded import Header
from derain.images.formats import AVIF, HEIC

# While an image is in work: as decoded, derained and encoded, with what is needed in between, but without
# the tiles of the network. Measured: 13 and 37, at images of 20 megapixels, the latter with alpha. HEIC and
# AVIF are decoded beside us, and handed over.
_WORK_BYTES_PER_PIXEL, _DEEP_BYTES_PER_PIXEL, _HANDED_BYTES_PER_PIXEL = 14, 38, 24


def work_bytes(header: Header) -> int:
    """About the memory that deraining an image takes at most, besides that of its tiles."""
    if header.format in (AVIF, HEIC):
        return header.pixels * _HANDED_BYTES_PER_PIXEL
    return header.pixels * (_DEEP_BYTES_PER_PIXEL if header.is_deep else _WORK_BYTES_PER_PIXEL)


def check_fits(header: Header, memory_bytes: int) -> None:
    """Raises ImageTooLargeError for an image that takes more than so much memory."""
    if (needed := work_bytes(header)) > memory_bytes:
        raise ImageTooLargeError(
            f"{header.width} x {header.height} takes about {_in_words(needed)} of memory: "
            f"{_in_words(memory_bytes)} are there for it"
        )


def _in_words(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"
