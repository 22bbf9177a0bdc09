"""Photos to files of any format, with nothing lost on the way that the format can hold."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from derain.arrays import to_8_bits
from derain.images.alpha import over_white
from derain.images.codecs import avif, bmp, jpeg, png, tiff, webp
from derain.images.coded import Coding, Extras, Manner, Samples
from derain.images.colour import check_target, gray_to_srgb, profile_fits
from derain.images.formats import AVIF, BMP, JPEG, PNG, TIFF, WEBP, ImageFormat, check_size, check_writable
from derain.images.metadata.captions import Captions
from derain.images.palette import Indexed, fit
from derain.images.photo import Photo

_FULL_COLOUR_QUALITY = 90  # from here on, colour is kept at full resolution

# Where no quality is asked for, that of the source within these: coarser ones show where rain was, and
# finer ones only cost bytes.
_COARSEST_QUALITY, _FINEST_QUALITY = 85, 98
_COARSEST_AVIF_QUALITY = 75  # on its own scale
# By pixels across and down for each sample of colour; what Pillow cannot write, in the next finer way.
_SAMPLINGS = {(1, 1): "4:4:4", (1, 2): "4:4:4", (2, 1): "4:2:2", (4, 1): "4:2:2"}

_WITH_IPTC = (JPEG, TIFF)  # the others say it in XMP

_Encoder = Callable[[Samples, Extras, Manner], bytes]
_ENCODERS: dict[str, _Encoder] = {JPEG.name: jpeg.encode, WEBP.name: webp.encode, AVIF.name: avif.encode}


def encode_photo(
    photo: Photo,
    target: ImageFormat,
    quality: int | None = None,
    lossless: bool = False,
    keep_metadata: bool = True,
) -> bytes:
    """The photo as a file; without metadata, the colour profile stays, for it is how the image looks.

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
    check_size(photo.image.shape[1], photo.image.shape[0], target)
    check_target(photo.code_points, target)
    samples, profile = _samples_for(target, photo)
    extras = _extras(photo, target, profile, keep_metadata)
    if target.name in _ENCODERS:
        return _ENCODERS[target.name](samples, extras, _manner(photo, target, quality, lossless))
    return _encode_exactly(_indexed(samples, photo, target), target, extras, photo.coding.is_drawn)


def dropped(photo: Photo, target: ImageFormat, keep_metadata: bool = True) -> tuple[str, ...]:
    """What the file held besides its image and `encode_photo` leaves out, by name, in order."""
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


def _extras(photo: Photo, target: ImageFormat, profile: bytes | None, keep_metadata: bool) -> Extras:
    if not keep_metadata:
        return Extras(profile, None, Captions(), None, photo.png_colour)
    captions = photo.captions if target in _WITH_IPTC else Captions(photo.captions.as_xmp())
    return Extras(profile, photo.exif, captions, photo.dots_per_inch, photo.png_colour)


def _manner(photo: Photo, target: ImageFormat, quality: int | None, lossless: bool) -> Manner:
    """As it is asked for; else as the file had it, where that was of the same format."""
    coding = photo.coding if target == photo.format and quality is None else Coding()
    is_lossless = lossless or (coding.is_lossless and target.can_be_lossless)
    if coding.quality is not None:
        coarsest = _COARSEST_AVIF_QUALITY if target == AVIF else _COARSEST_QUALITY
        found = min(_FINEST_QUALITY, max(coarsest, coding.quality))
        sampling = _SAMPLINGS.get(coding.colour_step, "4:2:0")
        return Manner(found, sampling, is_lossless, photo.coding.is_drawn)
    quality = quality or target.quality
    sampling = "4:4:4" if quality is not None and quality >= _FULL_COLOUR_QUALITY else "4:2:0"
    return Manner(quality, sampling, is_lossless, photo.coding.is_drawn)


def _encode_exactly(pixels: Samples | Indexed, target: ImageFormat, extras: Extras, is_drawn: bool) -> bytes:
    """In a format that has palettes and no loss."""
    if target == PNG:
        return png.encode(pixels, extras, is_drawn)
    return tiff.encode(pixels, extras, is_drawn) if target == TIFF else bmp.encode(pixels, extras)


def _samples_for(target: ImageFormat, photo: Photo) -> tuple[Samples, bytes | None]:
    """What the format can hold, (height, width, 1 to 4 channels), and the profile of these values."""
    image, alpha = photo.image, photo.alpha
    if alpha is not None and not target.has_alpha:
        image, alpha = over_white(image, alpha), None
    is_gray = _stays_gray(photo, target)
    if is_gray:
        image = image[..., :1]
    samples: NDArray[Any] = image if alpha is None else np.concatenate([image, alpha[..., None]], axis=2)
    if not target.is_deep:
        samples = to_8_bits(np.ascontiguousarray(samples))
    if profile_fits(photo.profile, is_gray):
        return samples, photo.profile
    return _gray_in_srgb(samples, photo), None


def _stays_gray(photo: Photo, target: ImageFormat) -> bool:
    """Pillow writes gray with alpha as RGB in AVIF."""
    return photo.is_gray and target.has_gray and not (photo.alpha is not None and target == AVIF)


def _gray_in_srgb(samples: Samples, photo: Photo) -> Samples:
    """RGB that is gray, from the values of the image's profile to those that are taken for granted."""
    if photo.profile is None or not photo.is_gray:
        return samples
    gray = to_8_bits(samples)[..., 0].copy()
    converted = gray_to_srgb(gray, photo.profile)
    if converted is None:
        return samples
    with_alpha: NDArray[Any] = np.dstack([converted, to_8_bits(samples)[..., 3:]])
    return with_alpha


def _indexed(samples: Samples, photo: Photo, target: ImageFormat) -> Samples | Indexed:
    """The samples in the palette that the image came with, where it fits what is to be written."""
    palette = photo.coding.palette
    if palette is None or samples.dtype != np.uint8 or palette.shape[1] != samples.shape[2]:
        return samples
    has_alpha, is_gray = palette.shape[1] in (2, 4), palette.shape[1] == 2
    if has_alpha and (target != PNG or (is_gray and photo.profile)):  # whose palettes have RGB profiles
        return samples
    return fit(samples.astype(np.uint8, copy=False), palette)
