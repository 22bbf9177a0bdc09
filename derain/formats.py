"""The file formats that Derain knows, and what each can hold."""

from dataclasses import dataclass

from derain.errors import ImageTooLargeError, UnsupportedFormatError


@dataclass(frozen=True)
class ImageFormat:
    """A file format that Derain reads, and writes where it is `writable`."""

    name: str
    media_type: str
    suffixes: tuple[str, ...]  # the first is the one written
    longest_px: int = 1_000_000  # the longest side that a file can have; OpenCV's limit where it has none
    writable: bool = True
    has_alpha: bool = True
    has_gray: bool = True
    is_deep: bool = False  # holds 16 bits a channel
    quality: int | None = None  # written with, unless another one is asked for; None: has no quality
    can_be_lossless: bool = True

    @property
    def answer_format(self) -> "ImageFormat":
        """What a picture in this format is answered in, where nothing else is asked for."""
        return self if self.writable else JPEG


# High quality: what was no rain should come back as it was.
JPEG = ImageFormat(
    "JPEG",
    "image/jpeg",
    (".jpg", ".jpeg"),
    longest_px=65_500,
    has_alpha=False,
    quality=95,
    can_be_lossless=False,
)
PNG = ImageFormat("PNG", "image/png", (".png",), is_deep=True)
WEBP = ImageFormat("WebP", "image/webp", (".webp",), longest_px=16_383, has_gray=False, quality=95)
TIFF = ImageFormat("TIFF", "image/tiff", (".tif", ".tiff"), is_deep=True)
BMP = ImageFormat("BMP", "image/bmp", (".bmp",), has_alpha=False)
# The longest side is what libavif allows.
AVIF = ImageFormat("AVIF", "image/avif", (".avif",), longest_px=32_768, quality=90)
HEIC = ImageFormat("HEIC", "image/heic", (".heic", ".heif"), writable=False)
FORMATS = (JPEG, PNG, WEBP, TIFF, BMP, AVIF, HEIC)

FORMAT_OF = {suffix: known for known in FORMATS for suffix in known.suffixes}
PICTURE_SUFFIXES = frozenset(FORMAT_OF)


def known_formats() -> str:
    return ", ".join(known.name for known in FORMATS)


def check_size(width: int, height: int, image_format: ImageFormat) -> None:
    """Raises ImageTooLargeError for a picture that the format cannot hold."""
    if max(width, height) > image_format.longest_px:
        limit = f"at most {image_format.longest_px:,} a side"
        raise ImageTooLargeError(f"{width} x {height} is too large for {image_format.name}: {limit}")


def check_writable(image_format: ImageFormat, lossless: bool) -> None:
    """Raises UnsupportedFormatError where the format cannot be written, or not without loss."""
    if not image_format.writable:
        raise UnsupportedFormatError(f"{image_format.name} can be read, but not written")
    if lossless and not image_format.can_be_lossless:
        raise UnsupportedFormatError(
            f"{image_format.name} cannot be written without loss: PNG, WebP, AVIF and TIFF can"
        )
