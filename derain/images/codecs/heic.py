"""HEIC, which is read and not written."""

from dataclasses import dataclass

from derain.images.alpha import unmultiplied
from derain.images.codecs import decoders, isobmff
from derain.images.coded import Decoded, Header, Samples
from derain.images.formats import HEIC
from derain.images.metadata.exif import read_exif

BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


@dataclass(frozen=True)
class HeicHeader(Header):
    format = HEIC

    def decode(self, data: bytes) -> Decoded:
        # libheif turns and crops it, whatever the EXIF says.
        file = decoders.decode(data, HEIC, self.pixels)
        exif, left_out = read_exif(file.exif)
        samples: Samples = file.samples
        if file.is_multiplied and samples.ndim == 3 and samples.shape[2] in (2, 4):
            samples = unmultiplied(samples)
        return Decoded(
            samples,
            exif,
            file.profile,
            is_upright=True,
            xmp=file.xmp,
            left_out=frozenset(isobmff.other_images(data) | left_out),
        )


def read_header(data: bytes) -> HeicHeader:
    item = isobmff.read_still(data)
    return HeicHeader(item.width, item.height)
