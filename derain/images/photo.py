"""Files to photos: what an image holds besides its pixels, as far as it is kept.

A photo keeps its depth, its transparency, its one channel if it is gray, its colour profile
and its EXIF; `derain.images.encoding` writes as much of it as the format of the answer can hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import AnyImage, Derained
from derain.errors import CorruptImageError, ImageError
from derain.images.coded import Coding, Decoded, Header, Samples
from derain.images.colour import profile_fits
from derain.images.formats import ImageFormat
from derain.images.metadata.captions import Captions, read_iptc, read_xmp

# Of the bytes of its samples; photographs take half of them, or more.
_DRAWN_SHARE = 0.25


@dataclass(frozen=True)
class Photo:
    """What a file holds, upright."""

    image: AnyImage  # RGB (height, width, 3)
    alpha: Samples | None  # (height, width), of the image's dtype
    is_gray: bool  # the file had one channel: the answer gets one
    profile: bytes | None  # ICC, of the image's own values: they are never converted
    exif: bytes | None  # cleaned: see derain.images.metadata.exif
    format: ImageFormat  # it came in
    dots_per_inch: tuple[float, float] | None = None
    png_colour: bytes = b""  # the chunks by which a PNG tells its colours besides a profile
    code_points: tuple[int, int] | None = None  # primaries and transfer, where nothing else tells them
    coding: Coding = field(default_factory=Coding)
    captions: Captions = field(default_factory=Captions)
    left_out: frozenset[str] = frozenset()  # what was in the file and is in no answer, by name


def decode_photo(data: bytes, header: Header) -> Photo:
    """The file whose header was read before. Raises CorruptImageError or UnsupportedFormatError."""
    decoded = _decode(data, header)
    samples, coding, exif = decoded.samples, decoded.coding, decoded.exif
    if coding.is_lossless:
        coding = replace(coding, is_drawn=len(data) < samples.nbytes * _DRAWN_SHARE)
    if exif and not decoded.is_upright:
        samples = _turn(samples, exif.orientation)
        if exif.orientation >= 5:
            coding = replace(coding, colour_step=coding.colour_step[::-1])
    captions, more = _captions_of(decoded)
    stacked: NDArray[Any] = samples if samples.ndim == 3 else samples[..., None]
    height, width, channels = stacked.shape
    is_gray = channels < 3
    colours: NDArray[Any] = np.repeat(stacked[..., :1], 3, axis=2) if is_gray else stacked[..., :3]
    has_profile = profile_fits(decoded.profile, is_gray)
    if decoded.profile and not has_profile:
        more.add("profile")
    return Photo(
        image=np.ascontiguousarray(colours),
        alpha=np.ascontiguousarray(stacked[..., -1]) if channels in (2, 4) else None,
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


def _decode(data: bytes, header: Header) -> Decoded:
    """No larger than its header says; whatever the decoder raises becomes an ImageError."""
    name = header.format.name
    try:
        decoded = header.decode(data)
    except ImageError:
        raise
    except cv2.error as error:
        raise CorruptImageError(f"the {name} image cannot be decoded: {error.err}") from error
    except Exception as error:  # a damaged file makes decoders raise whatever it happens to
        raise CorruptImageError(f"the {name} image is damaged or cut short: {error}") from error
    sides = decoded.samples.shape[:2]
    longest, shortest = max(header.width, header.height), min(header.width, header.height)
    if max(sides) > longest or min(sides) > shortest:
        raise CorruptImageError(f"the {name} image is larger than its header says")
    return decoded


def _captions_of(decoded: Decoded) -> tuple[Captions, set[str]]:
    """What is kept, and the names of what is not."""
    is_upright = decoded.exif is None or decoded.exif.orientation == 1
    xmp, has_more_xmp = read_xmp(decoded.xmp, is_upright)
    iptc, has_more_iptc = read_iptc(decoded.iptc)
    names = {"xmp": has_more_xmp, "iptc": has_more_iptc}
    return Captions(xmp, iptc), {name for name, is_left_out in names.items() if is_left_out}


def _turn(samples: Samples, orientation: int) -> Samples:
    """Upright, by EXIF's number of how it was held."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


@dataclass(frozen=True)
class DerainedPhoto:
    """What became of a photo."""

    photo: Photo
    rain_found: bool | None  # None: nobody looked, at a strength of 0


def derain_photo(
    examine: Callable[[AnyImage], Derained[AnyImage]], photo: Photo, strength: float = 1.0
) -> DerainedPhoto:
    """The photo without rain. Strength, 0 to 1, goes linearly from what came in to the result.

    Where it is wholly transparent, the colours stay what they were; transparency stays what it was.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength is between 0 and 1, not {strength}")
    if strength == 0:
        return DerainedPhoto(photo, None)
    examined = examine(photo.image)
    derained: NDArray[Any] = examined.image
    if photo.is_gray:
        gray = cv2.cvtColor(derained, cv2.COLOR_RGB2GRAY)
        derained = np.repeat(gray[..., None], 3, axis=2)
    if strength < 1:
        derained = cv2.addWeighted(derained, strength, photo.image, 1 - strength, 0)
    if photo.alpha is not None:
        derained = np.where(photo.alpha[..., None] == 0, photo.image, derained)
    return DerainedPhoto(replace(photo, image=derained), examined.rain_found)
