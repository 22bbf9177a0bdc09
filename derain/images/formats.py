"""The file formats that Derain knows, and what each can hold."""

from dataclasses import dataclass

from derain.errors import ImageTooLargeError, UnsupportedFormatError


@dataclass(frozen=True)
class ImageFormat:
    """A file format that Derain reads, and writes where it is `writable`."""

    name: str
    media_type: str
    suffixes: tuple[str, ...]  # of what is written; the first where there is a choice
    other_suffixes: tuple[str, ...] = ()  # of files that hold it with something besides, which is not written
    longest_px: int = 1_000_000  # the longest side that a file can have; OpenCV's limit where it has none
    writable: bool = True
    has_alpha: bool = True
    has_gray: bool = True
    is_deep: bool = False  # holds 16 bits a channel
    quality: int | None = None  # written with, unless another one is asked for; None: has no quality
    can_be_lossless: bool = True

    @property
    def answer_format(self) -> "ImageFormat":
        """What an image in this format is answered in, where nothing else is asked for."""
        return self if self.writable else JPEG


# High quality: what was no rain should come back as it was.
JPEG = ImageFormat(
    "JPEG",
    "image/jpeg",
    (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    (".mpo", ".jps", ".insp"),  # of cameras with two lenses or a preview beside the image
    longest_px=65_500,
    has_alpha=False,
    quality=95,
    can_be_lossless=False,
)
PNG = ImageFormat("PNG", "image/png", (".png",), is_deep=True)
WEBP = ImageFormat("WebP", "image/webp", (".webp",), longest_px=16_383, has_gray=False, quality=95)
TIFF = ImageFormat("TIFF", "image/tiff", (".tif", ".tiff"), is_deep=True)
BMP = ImageFormat("BMP", "image/bmp", (".bmp", ".dib"), has_alpha=False)
# The longest side is what libavif allows.
AVIF = ImageFormat("AVIF", "image/avif", (".avif",), longest_px=32_768, quality=90)
HEIC = ImageFormat("HEIC", "image/heic", (".heic", ".heif", ".hif"), writable=False)
FORMATS = (JPEG, PNG, WEBP, TIFF, BMP, AVIF, HEIC)

FORMAT_OF = {suffix: known for known in FORMATS for suffix in known.suffixes + known.other_suffixes}
IMAGE_SUFFIXES = frozenset(FORMAT_OF)

_RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef"),
    *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw"),
    ".x3f",
)

# What people keep among their photographs and Derain cannot read: what it is, to say so.
UNREAD_KINDS = {
    **dict.fromkeys(_RAW_SUFFIXES, "camera raw"),
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx"), "JPEG 2000"),
    **dict.fromkeys((".jxl", ".jxr", ".wdp", ".hdp"), "JPEG XL or XR"),
    **dict.fromkeys((".psd", ".psb", ".xcf", ".kra", ".afphoto"), "layered images"),
    **dict.fromkeys((".pbm", ".pgm", ".pnm", ".ppm", ".tga", ".pcx", ".ico", ".icns"), "rare images"),
    **dict.fromkeys((".exr", ".hdr", ".pfm"), "HDR images"),
    **dict.fromkeys((".svg", ".svgz", ".ai", ".eps", ".pdf"), "drawings and pages"),
    **dict.fromkeys((".apng", ".avifs", ".heics", ".heifs"), "sequences of images"),
    ".gif": "GIF",
}


def named_format(text: str) -> ImageFormat:
    """By its name or a suffix, with or without the dot, in any capitals: `jpeg`, `JPG`, `.tif`.

    Raises UnsupportedFormatError, with the names that there are, for one that cannot be written.
    """
    name = text.lower().removeprefix(".")
    for known in FORMATS:
        if name == known.name.lower() or f".{name}" in known.suffixes:
            check_writable(known, lossless=False)
            return known
    names = ", ".join(known.name.lower() for known in FORMATS if known.writable)
    raise UnsupportedFormatError(f"{text!r} is no format that can be written: {names} are")


def known_formats() -> str:
    return ", ".join(known.name for known in FORMATS)


def check_size(width: int, height: int, image_format: ImageFormat) -> None:
    """Raises ImageTooLargeError for an image that the format cannot hold."""
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
