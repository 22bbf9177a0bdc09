"""How much memory an image takes while it is derained."""

from derain.errors import ImageTooLargeError
from derain.images.coded import Header
from derain.images.formats import AVIF, HEIC, WEBP, ImageFormat

# While an image is in work: as decoded, derained and encoded, with what is needed in between, but without
# the tiles of the network. Measured: 13 and 37, at images of 20 megapixels, the latter with alpha. HEIC and
# AVIF are decoded beside us, and handed over.
_WORK_BYTES_PER_PIXEL, _DEEP_BYTES_PER_PIXEL, _HANDED_BYTES_PER_PIXEL = 14, 38, 24
# And the encoders of these take more: 49 and 33 at 9 megapixels, 53 and 42 with alpha.
_ENCODED_BYTES_PER_PIXEL = {AVIF: 62, WEBP: 50}


def work_bytes(header: Header, target: ImageFormat | None = None) -> int:
    """About the memory that deraining an image takes at most, besides that of its tiles.

    `target` is the format that it is written in; None: the one that it came in.
    """
    if header.format in (AVIF, HEIC):
        read = _HANDED_BYTES_PER_PIXEL
    else:
        read = _DEEP_BYTES_PER_PIXEL if header.is_deep else _WORK_BYTES_PER_PIXEL
    written = _ENCODED_BYTES_PER_PIXEL.get(target or header.format.answer_format, 0)
    return header.pixels * max(read, written)


def check_fits(header: Header, memory_bytes: int, target: ImageFormat | None = None) -> None:
    """Raises ImageTooLargeError for an image that takes more than so much memory."""
    if (needed := work_bytes(header, target)) > memory_bytes:
        raise ImageTooLargeError(
            f"{header.width} x {header.height} takes about {_in_words(needed)} of memory: "
            f"{_in_words(memory_bytes)} are there for it"
        )


def _in_words(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"
