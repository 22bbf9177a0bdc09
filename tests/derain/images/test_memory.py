"""What a machine can derain is told by the memory that an image takes, format by format."""

import pytest

from derain.errors import ImageTooLargeError
from derain.images.codecs.bmp import BmpHeader
from derain.images.codecs.heic import HeicHeader
from derain.images.codecs.png import PngHeader
from derain.images.coded import Header
from derain.images.formats import AVIF, JPEG, WEBP
from derain.images.memory import check_fits, work_bytes


@pytest.mark.parametrize(
    ("header", "bytes_per_pixel"),
    [
        (BmpHeader(4000, 3000), 14),
        (PngHeader(4000, 3000, 8, 2, None), 14),
        (PngHeader(4000, 3000, 16, 2, None), 38),
        (HeicHeader(4000, 3000), 24),
    ],
)
def test_an_image_fits_up_to_what_it_takes(header: Header, bytes_per_pixel: int) -> None:
    assert work_bytes(header) == 12_000_000 * bytes_per_pixel
    check_fits(header, work_bytes(header))
    with pytest.raises(ImageTooLargeError, match=r"4000 x 3000 takes about [\d.]+ MB of memory: "):
        check_fits(header, work_bytes(header) - 1)


def test_encoders_of_avif_and_webp_take_more() -> None:
    jpeg, heic = BmpHeader(4000, 3000), HeicHeader(4000, 3000)
    assert work_bytes(jpeg, AVIF) == work_bytes(heic, AVIF) == 12_000_000 * 62
    assert work_bytes(jpeg, WEBP) == 12_000_000 * 50
    assert work_bytes(heic, JPEG) == 12_000_000 * 24


def test_large_figures_are_in_gigabytes() -> None:
    with pytest.raises(ImageTooLargeError, match=r"takes about 2\.8 GB of memory: 2\.0 GB are there for it"):
        check_fits(BmpHeader(20_000, 10_000), 2_000_000_000)
