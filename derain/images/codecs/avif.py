"""AVIF."""

from dataclasses import dataclass

import cv2
import numpy as np

from derain.arrays import to_8_bits
from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.codecs import av1, decoders, isobmff, pillow
from derain.images.coded import Coding, Decoded, Extras, Header, Manner, Samples
from derain.images.formats import AVIF
from derain.images.metadata.exif import read_exif, without_orientation

BRANDS = {b"avif", b"avis"}

_LOSSLESS_MATRICES = (0, 16, 17)  # of H.273: the identity, and those of YCgCo that can be undone

# libavif's scale from 0, slow, to 10: beyond 8 it takes a third of the time for 2 % more bytes.
_SPEED = 9


@dataclass(frozen=True)
class AvifHeader(Header):
    format = AVIF

    item: isobmff.Item

    still: av1.Still | None  # None: its stream is not of a still image alone

    def decode(self, data: bytes) -> Decoded:
        # It is not turned; its EXIF says how it is to be.
        file = decoders.decode(data, AVIF, self.pixels)
        exif, left_out = read_exif(file.exif)
        return Decoded(
            file.samples,
            exif,
            file.profile,
            coding=self._coding(is_gray=file.samples.ndim == 2),
            xmp=file.xmp,
            left_out=frozenset(isobmff.other_images(data) | left_out),
        )

    def _coding(self, is_gray: bool) -> Coding:
        quality = self.still.quality if self.still else None
        # Colours that are not mixed are coded so for the sake of coming back level for level; gray has none.
        is_lossless = self.item.matrix in _LOSSLESS_MATRICES or (is_gray and quality == 100)
        return Coding(is_lossless, quality=quality, colour_step=self.item.colour_step)


def read_header(data: bytes) -> AvifHeader:
    """What the boxes say, which the frame does not exceed: it is decoded whole."""
    if isobmff.brands(data)[0] != b"avif" and isobmff.has_tracks(data):  # libavif would take the first track
        raise UnsupportedFormatError(pillow.SEVERAL)
    item = isobmff.read_still(data)
    still = av1.read_still(item.av1) if item.av1 is not None else None
    if still and (still.width > item.width or still.height > item.height):
        raise CorruptImageError(
            f"the AVIF image is larger than its header says: a frame of {still.width} x {still.height} "
            f"in an image of {item.width} x {item.height}"
        )
    return AvifHeader(item.width, item.height, item, still)


def encode(samples: Samples, extras: Extras, manner: Manner) -> bytes:
    # Pillow writes EXIF anew where it has an orientation, and stumbles over what is odd in it.
    exif = without_orientation(extras.exif) if extras.exif else None
    if manner.is_lossless:
        return _encode_lossless(samples, extras, exif)
    return pillow.write(
        samples,
        AVIF,
        quality=manner.quality,
        subsampling="4:0:0" if samples.shape[2] == 1 else manner.sampling,
        speed=_SPEED,
        max_threads=1,
        icc_profile=extras.profile,
        exif=exif,
        xmp=extras.captions.xmp,
    )


def _encode_lossless(samples: Samples, extras: Extras, exif: bytes | None) -> bytes:
    """Pillow mixes the colours, and has no way to round them back."""
    channels = samples.shape[2]
    in_order = to_8_bits(samples if channels == 1 else samples[..., [2, 1, 0, 3][:channels]])
    said = {
        cv2.IMAGE_METADATA_EXIF: exif,
        cv2.IMAGE_METADATA_ICCP: extras.profile,
        cv2.IMAGE_METADATA_XMP: extras.captions.xmp,
    }
    kept = {kind: np.frombuffer(content, np.uint8) for kind, content in said.items() if content}
    options = [cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_SPEED, _SPEED]
    is_written, data = cv2.imencodeWithMetadata(".avif", in_order, list(kept), list(kept.values()), options)
    assert is_written
    return data.tobytes()
