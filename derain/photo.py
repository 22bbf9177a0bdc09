"""Files to pictures and back with nothing lost on the way but the rain.

A picture keeps its depth, its transparency, its one channel if it is gray, its colour profile
and its EXIF, as far as the format of the answer can hold them.
"""

import io
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from derain import av1, bmp, boxes, jpeg, png, tiff, webp
from derain.arrays import AnyPicture
from derain.captions import MOST_XMP_BYTES, Captions, iptc_in_photoshop, read_iptc, read_xmp
from derain.colour import gray_to_srgb
from derain.derained import Derained
from derain.errors import CorruptImageError, ImageError, UnsupportedFormatError
from derain.formats import AVIF, BMP, HEIC, JPEG, PNG, TIFF, WEBP, ImageFormat, check_size, check_writable
from derain.header import Header, check_target
from derain.heic import decode_heic
from derain.metadata import (
    MOST_PROFILE_BYTES,
    Exif,
    left_out_of_exif,
    profile_fits,
    read_exif,
    without_orientation,
)
from derain.palette import Indexed, Palette, fit, gray_levels

Info = dict[str | tuple[int, int], Any]  # what Pillow says of a file
Samples = NDArray[np.uint8] | NDArray[np.uint16]  # (height, width) or (height, width, channels)

_FULL_COLOUR_QUALITY = 90  # from here on, colour is kept at full resolution
_MOST_JPEG_EXIF_BYTES = 65_533 - len(jpeg.EXIF_PREFIX)
_MOST_JPEG_DENSITY = 65_535

# Where no quality is asked for, that of the source within these: coarser ones show where rain was, and
# finer ones only cost bytes.
_COARSEST_QUALITY, _FINEST_QUALITY = 85, 98
_COARSEST_AVIF_QUALITY = 75  # on its own scale
# By pixels across and down for each sample of colour; what Pillow cannot write, in the next finer way.
_SAMPLINGS = {(1, 1): "4:4:4", (1, 2): "4:4:4", (2, 1): "4:2:2", (4, 1): "4:2:2"}

# Of the bytes of its samples; photographs take half of them, or more.
_DRAWN_SHARE = 0.25

_WITH_IPTC = (JPEG, TIFF)  # the others say it in XMP
_WITH_PALETTES = (PNG, TIFF, BMP)

_LOSSLESS_MATRICES = (0, 16, 17)  # of H.273: the identity, and those of YCgCo that can be undone

# libavif's scale from 0, slow, to 10: beyond 8 it takes a third of the time for 2 % more bytes.
_AVIF_SPEED = 9


# While a picture is in work: as decoded, derained and encoded, with what is needed in between, but without
# the tiles of the network. Measured: 13 and 37, at pictures of 20 megapixels, the latter with alpha. HEIC is
# decoded beside us, and handed over.
_WORK_BYTES_PER_PIXEL, _DEEP_BYTES_PER_PIXEL, _HEIC_BYTES_PER_PIXEL = 14, 38, 24

_PLAIN_MODES = {
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
}


@dataclass(frozen=True)
class Coding:
    """How a file had coded its picture: an answer of the same format is coded so that it does not grow."""

    is_lossless: bool = False
    is_drawn: bool = False  # it was small without loss: full of repetitions
    palette: Palette | None = None  # all the colours that it can have
    quality: int | None = None  # of the format's own scale
    colour_step: tuple[int, int] = (1, 1)  # pixels across and down for each sample of colour


@dataclass(frozen=True)
class Photo:
    """What a file holds, upright."""

    picture: AnyPicture  # RGB (height, width, 3)
    alpha: Samples | None  # (height, width), of the picture's dtype
    is_gray: bool  # the file had one channel: the answer gets one
    profile: bytes | None  # ICC, of the picture's own values: they are never converted
    exif: bytes | None  # cleaned: see derain.metadata
    format: ImageFormat  # it came in
    dots_per_inch: tuple[float, float] | None = None
    png_colour: bytes = b""  # the chunks by which a PNG tells its colours besides a profile
    code_points: tuple[int, int] | None = None  # primaries and transfer, where nothing else tells them
    coding: Coding = field(default_factory=Coding)
    captions: Captions = field(default_factory=Captions)
    left_out: frozenset[str] = frozenset()  # what was in the file and is in no answer, by name


@dataclass(frozen=True)
class _Decoded:
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
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Beside:
    """What a file is to say besides its samples."""

    profile: bytes | None
    exif: bytes | None
    captions: Captions
    dots_per_inch: tuple[float, float] | None


@dataclass(frozen=True)
class _Manner:
    """How samples are to be coded."""

    quality: int | None
    sampling: str  # of colour
    is_lossless: bool
    is_drawn: bool


def work_bytes(header: Header) -> int:
    """About the memory that deraining a photo takes at most, besides that of its tiles."""
    if header.format == HEIC:
        return header.pixels * _HEIC_BYTES_PER_PIXEL
    return header.pixels * (_DEEP_BYTES_PER_PIXEL if header.is_deep else _WORK_BYTES_PER_PIXEL)


def decode_photo(data: bytes, header: Header) -> Photo:
    """The file whose header was read before. Raises CorruptImageError or UnsupportedFormatError."""
    name = header.format.name
    try:
        decoded = _DECODERS[name](data)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnsupportedFormatError(f"a {name} of this kind is not supported, or it is damaged") from error
    except cv2.error as error:
        raise CorruptImageError(f"the {name} picture cannot be decoded: {error.err}") from error
    except Exception as error:  # a damaged file makes decoders raise whatever it happens to
        raise CorruptImageError(f"the {name} picture is damaged or cut short: {error}") from error
    samples: NDArray[Any] = decoded.samples
    exif = decoded.exif
    longest, shortest = max(header.width, header.height), min(header.width, header.height)
    if max(samples.shape[:2]) > longest or min(samples.shape[:2]) > shortest:
        raise CorruptImageError(f"the {name} picture is larger than its header says")
    coding = decoded.coding
    if coding.is_lossless:
        coding = replace(coding, is_drawn=len(data) < samples.nbytes * _DRAWN_SHARE)
    if exif and not decoded.is_upright:
        samples = _turn(samples, exif.orientation)
        if exif.orientation >= 5:
            coding = replace(coding, colour_step=coding.colour_step[::-1])
    captions, more = _captions_of(decoded)
    if samples.ndim == 2:
        samples = samples[..., None]
    height, width, channels = samples.shape
    is_gray = channels < 3
    colours: NDArray[Any] = np.repeat(samples[..., :1], 3, axis=2) if is_gray else samples[..., :3]
    has_profile = profile_fits(decoded.profile, is_gray)
    if decoded.profile and not has_profile:
        more.add("profile")
    return Photo(
        picture=np.ascontiguousarray(colours),
        alpha=np.ascontiguousarray(samples[..., -1]) if channels in (2, 4) else None,
        is_gray=is_gray,
        profile=decoded.profile if has_profile else None,
        exif=exif.to_bytes(width, height) if exif else None,
        format=header.format,
        dots_per_inch=decoded.dots_per_inch or (exif.dots_per_inch if exif else None),
        png_colour=decoded.png_colour,
        code_points=header.code_points,
        coding=coding,
        captions=captions,
        left_out=decoded.left_out | more,
    )


def _captions_of(decoded: _Decoded) -> tuple[Captions, set[str]]:
    """What is kept, and the names of what is not."""
    is_upright = decoded.exif is None or decoded.exif.orientation == 1
    xmp, has_more_xmp = read_xmp(decoded.xmp, is_upright)
    iptc, has_more_iptc = read_iptc(decoded.iptc)
    names = {"xmp": has_more_xmp, "iptc": has_more_iptc}
    return Captions(xmp, iptc), {name for name, is_left_out in names.items() if is_left_out}


def dropped(photo: Photo, target: ImageFormat, keep_metadata: bool = True) -> tuple[str, ...]:
    """What the file held besides its picture and `encode_photo` leaves out, by name, in order."""
    names = set(photo.left_out)
    keeps = keep_metadata and target != BMP
    if photo.profile and (target == BMP or not _profile_lasts(photo, target)):
        names.add("profile")
    if target != PNG and not photo.profile and png.tells_gamma(photo.png_colour):
        names.add("gamma")
    for name, block in {"exif": photo.exif, "iptc": photo.captions.iptc, "xmp": photo.captions.xmp}.items():
        if block and not keeps:
            names.add(name)
    return tuple(sorted(names))


def _profile_lasts(photo: Photo, target: ImageFormat) -> bool:
    """As it is, or in values that were converted."""
    if photo.profile is None or profile_fits(photo.profile, _stays_gray(photo, target)):
        return True
    return gray_to_srgb(np.zeros((1, 1), np.uint8), photo.profile) is not None


@dataclass(frozen=True)
class DerainedPhoto:
    """What became of a photo."""

    photo: Photo
    rain_found: bool | None  # None: nobody looked, at a strength of 0


def derain_photo(
    examine: Callable[[AnyPicture], Derained[AnyPicture]], photo: Photo, strength: float = 1.0
) -> DerainedPhoto:
    """The photo without rain. Strength, 0 to 1, goes linearly from what came in to the result.

    Where it is wholly transparent, the colours stay what they were; transparency stays what it was.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength is between 0 and 1, not {strength}")
    if strength == 0:
        return DerainedPhoto(photo, None)
    examined = examine(photo.picture)
    derained: NDArray[Any] = examined.picture
    if photo.is_gray:
        gray = cv2.cvtColor(derained, cv2.COLOR_RGB2GRAY)
        derained = np.repeat(gray[..., None], 3, axis=2)
    if strength < 1:
        derained = cv2.addWeighted(derained, strength, photo.picture, 1 - strength, 0)
    if photo.alpha is not None:
        derained = np.where(photo.alpha[..., None] == 0, photo.picture, derained)
    return DerainedPhoto(replace(photo, picture=derained), examined.rain_found)


def encode_photo(
    photo: Photo,
    target: ImageFormat,
    quality: int | None = None,
    lossless: bool = False,
    keep_metadata: bool = True,
) -> bytes:
    """The photo as a file; without metadata, the colour profile stays, for it is how the picture looks.

    The quality, 1 to 100, is for JPEG, WebP and AVIF. Where neither it nor `lossless` is asked for, a file
    of the format that came is coded as it was: without loss, with its palette, with about its quality.
    What the format cannot hold is brought to what it can: 16 bits are rounded to 8, transparency is laid
    over white.
    Raises UnsupportedFormatError for what the format cannot do or say, ImageTooLargeError for a side too
    long.
    """
    check_writable(target, lossless)
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"the quality is between 1 and 100, not {quality}")
    check_size(photo.picture.shape[1], photo.picture.shape[0], target)
    check_target(photo.code_points, target)
    samples, profile = _samples_for(target, photo)
    beside = _beside(photo, target, profile, keep_metadata)
    manner = _manner(photo, target, quality, lossless)
    if target in _WITH_PALETTES:
        return _write_exactly(_indexed(samples, photo, target), photo, target, beside)
    if target == AVIF and manner.is_lossless:
        return _write_lossless_avif(to_8_bits(samples), beside)
    return _by_pillow(samples, target, beside, manner)


def _beside(photo: Photo, target: ImageFormat, profile: bytes | None, keep_metadata: bool) -> _Beside:
    if not keep_metadata:
        return _Beside(profile, None, Captions(), None)
    captions = photo.captions if target in _WITH_IPTC else Captions(photo.captions.as_xmp())
    return _Beside(profile, photo.exif, captions, photo.dots_per_inch)


def _manner(photo: Photo, target: ImageFormat, quality: int | None, lossless: bool) -> _Manner:
    """As it is asked for; else as the file had it, where that was of the same format."""
    coding = photo.coding if target == photo.format and quality is None else Coding()
    is_lossless = lossless or (coding.is_lossless and target.can_be_lossless)
    if coding.quality is not None:
        coarsest = _COARSEST_AVIF_QUALITY if target == AVIF else _COARSEST_QUALITY
        found = min(_FINEST_QUALITY, max(coarsest, coding.quality))
        sampling = _SAMPLINGS.get(coding.colour_step, "4:2:0")
        return _Manner(found, sampling, is_lossless, photo.coding.is_drawn)
    quality = quality or target.quality
    sampling = "4:4:4" if quality is not None and quality >= _FULL_COLOUR_QUALITY else "4:2:0"
    return _Manner(quality, sampling, is_lossless, photo.coding.is_drawn)


def _write_exactly(pixels: Samples | Indexed, photo: Photo, target: ImageFormat, beside: _Beside) -> bytes:
    """In a format that has palettes and no loss."""
    dots, is_drawn = beside.dots_per_inch, photo.coding.is_drawn
    if target == PNG:
        colour = b"" if beside.profile else photo.png_colour  # a profile says it all
        return png.write_png(pixels, beside.profile, beside.exif, dots, colour, beside.captions.xmp, is_drawn)
    if target == TIFF:
        tags = read_exif(beside.exif)
        directories = (tags.main, tags.camera, tags.interoperability) if tags else ({}, {}, {})
        return tiff.write_tiff(pixels, beside.profile, directories, dots, beside.captions, is_drawn)
    if isinstance(pixels, Indexed):
        return bmp.write_bmp(pixels, dots)
    return _by_pillow(pixels, target, beside, _Manner(None, "", True, is_drawn))


def to_8_bits(samples: Samples) -> NDArray[np.uint8]:
    """Rounded to the nearest level."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    scaled = cv2.convertScaleAbs(samples, alpha=1 / 257)
    return np.asarray(scaled, np.uint8).reshape(samples.shape)


def _samples_for(target: ImageFormat, photo: Photo) -> tuple[Samples, bytes | None]:
    """What the format can hold, (height, width, 1 to 4 channels), and the profile of these values."""
    picture, alpha = photo.picture, photo.alpha
    if alpha is not None and not target.has_alpha:
        picture, alpha = _over_white(picture, alpha), None
    is_gray = _stays_gray(photo, target)
    if is_gray:
        picture = picture[..., :1]
    samples: NDArray[Any] = picture if alpha is None else np.concatenate([picture, alpha[..., None]], axis=2)
    if not target.is_deep:
        samples = to_8_bits(np.ascontiguousarray(samples))
    if profile_fits(photo.profile, is_gray):
        return samples, photo.profile
    return _gray_in_srgb(samples, photo), None


def _stays_gray(photo: Photo, target: ImageFormat) -> bool:
    """Pillow writes gray with alpha as RGB in AVIF."""
    return photo.is_gray and target.has_gray and not (photo.alpha is not None and target == AVIF)


def _gray_in_srgb(samples: Samples, photo: Photo) -> Samples:
    """RGB that is gray, from the values of the picture's profile to those that are taken for granted."""
    if photo.profile is None or not photo.is_gray:
        return samples
    gray = to_8_bits(samples)[..., 0].copy()
    converted = gray_to_srgb(gray, photo.profile)
    if converted is None:
        return samples
    with_alpha: NDArray[Any] = np.dstack([converted, to_8_bits(samples)[..., 3:]])
    return with_alpha


def _indexed(samples: Samples, photo: Photo, target: ImageFormat) -> Samples | Indexed:
    """The samples in the palette that the picture came with, where it fits what is to be written."""
    palette = photo.coding.palette
    if palette is None or samples.dtype != np.uint8 or palette.shape[1] != samples.shape[2]:
        return samples
    has_alpha, is_gray = palette.shape[1] in (2, 4), palette.shape[1] == 2
    if has_alpha and (target != PNG or (is_gray and photo.profile)):  # whose palettes have RGB profiles
        return samples
    return fit(samples.astype(np.uint8, copy=False), palette)


def _over_white(picture: AnyPicture, alpha: Samples) -> AnyPicture:
    white = np.iinfo(picture.dtype).max
    result = np.empty_like(picture)
    for row in range(len(picture)):  # a row at a time takes little memory
        opaque = alpha[row, :, None].astype(np.uint64)
        mixed = picture[row] * opaque + white * (white - opaque)
        result[row] = (mixed + white // 2) // white
    return result


def _by_pillow(samples: Samples, target: ImageFormat, beside: _Beside, manner: _Manner) -> bytes:
    exif, dots = beside.exif, beside.dots_per_inch
    said = {"icc_profile": beside.profile, "exif": exif, "xmp": beside.captions.xmp}
    options: dict[str, Any] = {name: block for name, block in said.items() if block}
    if beside.captions.iptc:
        options["extra"] = jpeg.iptc_segment(beside.captions.iptc)
    if dots and max(dots) <= _MOST_JPEG_DENSITY:
        options["dpi"] = dots
    if target == JPEG:
        options |= {"quality": manner.quality, "subsampling": manner.sampling}
        if exif:
            # One segment holds no more; so much of text in EXIF is lost rather than the picture.
            options["exif"] = jpeg.EXIF_PREFIX + exif if len(exif) <= _MOST_JPEG_EXIF_BYTES else b""
    elif target == AVIF:
        options |= {"subsampling": "4:0:0" if samples.shape[2] == 1 else manner.sampling}
        options |= {"quality": manner.quality, "speed": _AVIF_SPEED, "max_threads": 1}
        if exif:
            # Pillow writes EXIF anew where it has an orientation, and stumbles over what is odd in it.
            options["exif"] = without_orientation(exif)
    elif target == WEBP:
        # Colours are kept where they are transparent as well. Without loss, `quality` is the effort.
        effort = {"quality": 75, "method": 2} if manner.is_drawn else {"quality": 20, "method": 1}
        options |= {"lossless": True, **effort} if manner.is_lossless else {"quality": manner.quality}
        options["exact"] = True
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    with _file_in_memory() as file:
        image.save(file, target.name, **options)
        file.seek(0)
        return file.read()


def _write_lossless_avif(samples: Samples, beside: _Beside) -> bytes:
    """Pillow mixes the colours, and has no way to round them back."""
    channels = samples.shape[2]
    in_order = samples if channels == 1 else samples[..., [2, 1, 0, 3][:channels]]
    said = {
        cv2.IMAGE_METADATA_EXIF: without_orientation(beside.exif) if beside.exif else None,
        cv2.IMAGE_METADATA_ICCP: beside.profile,
        cv2.IMAGE_METADATA_XMP: beside.captions.xmp,
    }
    kept = {kind: np.frombuffer(content, np.uint8) for kind, content in said.items() if content}
    options = [cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_SPEED, _AVIF_SPEED]
    is_written, data = cv2.imencodeWithMetadata(".avif", in_order, list(kept), list(kept.values()), options)
    assert is_written
    return data.tobytes()


def _file_in_memory() -> BinaryIO:
    """With a descriptor, where the system has such: then Pillow lets other threads run while it encodes."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("picture"), "w+b")
    return io.BytesIO()


def _turn(samples: Samples, orientation: int) -> Samples:
    """Upright, by EXIF's number of how it was held."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _by_opencv(data: bytes) -> Samples:
    """In RGB's order whatever OpenCV's is; raises CorruptImageError."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise CorruptImageError("the picture is damaged or cut short")
    samples: NDArray[Any] = pixels
    if samples.ndim == 3:
        to_rgb = cv2.COLOR_BGRA2RGBA if samples.shape[2] == 4 else cv2.COLOR_BGR2RGB
        cv2.cvtColor(samples, to_rgb, samples)
    return samples


def _decode_jpeg(data: bytes) -> _Decoded:
    head = jpeg.read_head(data)
    samples = jpeg.read_pixels(data, head)
    coding = Coding(quality=head.quality, colour_step=head.colour_step)
    return _Decoded(
        samples,
        read_exif(head.exif),
        head.profile,
        head.dots_per_inch,
        coding=coding,
        xmp=head.xmp,
        iptc=iptc_in_photoshop(head.photoshop),
        left_out=head.left_out | left_out_of_exif(head.exif),
    )


def _decode_png(data: bytes) -> _Decoded:
    found: dict[bytes, memoryview] = {}
    for name, content in png.chunks(data):
        found.setdefault(name, content)
    depth, colour_type = data[24], data[25]
    samples = _by_opencv(png.pixels_only(data))
    if colour_type == png.GRAY_ALPHA and samples.ndim == 3:
        samples = samples[..., 2:]  # OpenCV gives gray three times
    if colour_type == png.GRAY and b"tRNS" in found and len(found[b"tRNS"]) == 2:
        samples = _with_one_gray_transparent(samples, int.from_bytes(found[b"tRNS"], "big"), depth)
    colour = [png.chunk(name, bytes(found[name])) for name in png.COLOUR_CHUNKS if name in found]
    exif = bytes(found.get(b"eXIf", b""))
    xmp, left_out = png.read_texts(data, MOST_XMP_BYTES)
    return _Decoded(
        samples,
        read_exif(exif),
        png.inflate(found[b"iCCP"], MOST_PROFILE_BYTES) if b"iCCP" in found else None,
        png.resolution(found[b"pHYs"]) if b"pHYs" in found else None,
        png_colour=b"".join(colour),
        coding=Coding(is_lossless=True, palette=png.palette_of(colour_type, depth, found)),
        xmp=xmp,
        left_out=frozenset(left_out | left_out_of_exif(exif)),
    )


def _with_one_gray_transparent(gray: Samples, level: int, depth: int) -> Samples:
    """OpenCV leaves out the alpha of gray pictures in which one level is transparent."""
    opaque = np.iinfo(gray.dtype).max
    if depth < 8:
        level = level * 255 // (2**depth - 1)
    alpha = np.where(gray == level, 0, opaque).astype(gray.dtype)
    return np.stack([gray, alpha], axis=-1)


def _read_by_pillow(data: bytes, pillow_name: str) -> tuple[Samples, Info]:
    """The samples, and what Pillow says of the file."""
    with Image.open(io.BytesIO(data), formats=[pillow_name]) as image:
        image.load()
        plain = image.convert(_PLAIN_MODES[image.mode]) if image.mode in _PLAIN_MODES else image
        return np.asarray(plain), image.info


def _decode_webp(data: bytes) -> _Decoded:
    samples, info = _read_by_pillow(data, "WEBP")
    # Its colours are never finer than this.
    coding = Coding(webp.is_lossless(data), quality=webp.quality(data), colour_step=(2, 2))
    return _decoded_by_pillow(samples, info, coding)


def _decode_avif(data: bytes) -> _Decoded:
    # Pillow does not turn it, and says by EXIF's orientation how it is to be turned.
    samples, info = _read_by_pillow(data, "AVIF")
    # Colours that are not mixed are coded so for the sake of coming back level for level.
    head = boxes.read_item(data)
    coding = Coding(is_lossless=head.matrix in _LOSSLESS_MATRICES)
    if stream := next((stream.data for stream in head.streams if stream.is_primary), None):
        coding = replace(coding, quality=av1.quality(stream), colour_step=av1.colour_step(stream))
        if samples.ndim == 2 and coding.quality == 100:  # gray has nothing to be mixed
            coding = replace(coding, is_lossless=True)
    return _decoded_by_pillow(samples, info, coding, boxes.other_pictures(data))


def _decoded_by_pillow(
    samples: Samples, info: Info, coding: Coding, left_out: Collection[str] = ()
) -> _Decoded:
    exif = info.get("exif")
    return _Decoded(
        samples,
        read_exif(exif),
        info.get("icc_profile"),
        coding=coding,
        xmp=info.get("xmp"),
        left_out=frozenset({*left_out, *left_out_of_exif(exif)}),
    )


def _decode_heic(data: bytes) -> _Decoded:
    # libheif turns and crops it, whatever the EXIF says.
    head = boxes.read_item(data)
    picture = decode_heic(data, head.width * head.height)
    samples: Samples = picture.samples
    if picture.is_multiplied and samples.ndim == 3 and samples.shape[2] in (2, 4):
        samples = _unmultiply(samples)
    return _Decoded(
        samples,
        read_exif(picture.exif),
        picture.profile,
        is_upright=True,
        xmp=picture.xmp,
        left_out=frozenset(boxes.other_pictures(data) | left_out_of_exif(picture.exif)),
    )


def _decode_bmp(data: bytes) -> _Decoded:
    palette = bmp.palette_of(data)
    if bmp.compression(data) in bmp.RUNS:  # which Pillow takes apart in Python
        return _Decoded(_by_opencv(data), coding=Coding(palette=palette))
    samples, info = _read_by_pillow(bmp.with_true_palette(data), "BMP")
    if samples.ndim == 2 and palette is not None:  # it is all the grays that there are
        palette = gray_levels(1) if len(palette) == 2 else None
    return _Decoded(samples, dots_per_inch=info.get("dpi"), coding=Coding(palette=palette))


def _decode_tiff(data: bytes) -> _Decoded:
    head = tiff.read_head(data)
    profile = head.directory.get(tiff.PROFILE)
    if head.needs_gray_views:
        views = [_gray_view(view, head.bits) for view in tiff.gray_views(data, head)]
        # As planes, one behind the other; else side by side.
        planes: NDArray[Any] = np.stack(views, axis=-1)
        if not head.is_planar:
            planes = tiff.without_differences(planes.reshape(head.height, head.width, head.samples), head)
        samples = _with_true_alpha(planes, head)
    elif head.bits == 16:
        samples = _with_true_alpha(_by_opencv(data), head)
    else:
        samples, _ = _read_by_pillow(data, "TIFF")
    # Both libraries turn it, but not the views.
    is_upright = not head.needs_gray_views
    coding = Coding(is_lossless=not head.is_lossy, palette=tiff.palette_of(head))
    left_out = left_out_of_exif(data, is_tiff=True)
    if len(head.extra) > (head.alpha is not None):
        left_out.add("extra-samples")
    return _Decoded(
        samples,
        read_exif(data),
        profile.data if profile else None,
        is_upright=is_upright,
        coding=coding,
        xmp=head.directory[tiff.XMP].data if tiff.XMP in head.directory else None,
        iptc=tiff.iptc_of(head.directory),
        left_out=frozenset(left_out),
    )


def _with_true_alpha(samples: Samples, head: tiff.TiffHead) -> Samples:
    """As Pillow does it for 8 bits: white is the highest level, colours are not multiplied by alpha."""
    channels: NDArray[Any] = samples if samples.ndim == 3 else samples[..., None]
    if head.photometric == tiff.MIN_IS_WHITE:
        np.bitwise_not(channels[..., 0], out=channels[..., 0])
    colours = channels[..., : head.samples - len(head.extra)]
    if head.alpha is None:
        return colours
    with_alpha: NDArray[Any] = np.concatenate([colours, channels[..., head.alpha, None]], axis=-1)
    return _unmultiply(with_alpha) if head.is_multiplied else with_alpha


def _gray_view(view: bytes, bits: int) -> Samples:
    return _by_opencv(view) if bits == 16 else _read_by_pillow(view, "TIFF")[0]


def _unmultiply(samples: Samples) -> Samples:
    """Colours of their own, where they were multiplied by alpha."""
    opaque = np.iinfo(samples.dtype).max
    result = samples.copy()
    for row in range(len(samples)):  # a row at a time takes little memory
        alpha = samples[row, :, -1:].astype(np.uint64)
        colours = (samples[row, :, :-1].astype(np.uint64) * opaque + alpha // 2) // np.maximum(alpha, 1)
        result[row, :, :-1] = np.minimum(colours, opaque)
    return result


_DECODERS: dict[str, Callable[[bytes], _Decoded]] = {
    JPEG.name: _decode_jpeg,
    PNG.name: _decode_png,
    WEBP.name: _decode_webp,
    TIFF.name: _decode_tiff,
    BMP.name: _decode_bmp,
    AVIF.name: _decode_avif,
    HEIC.name: _decode_heic,
}
