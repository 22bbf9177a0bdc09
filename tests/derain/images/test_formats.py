"""Formats by the names that people give them."""

import pytest

from derain.errors import UnsupportedFormatError
from derain.images.formats import AVIF, BMP, JPEG, PNG, TIFF, WEBP, ImageFormat, named_format


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jpeg", JPEG),
        ("JPG", JPEG),
        (".jfif", JPEG),
        (".png", PNG),
        ("WebP", WEBP),
        ("tif", TIFF),
        (".TIFF", TIFF),
        ("bmp", BMP),
        ("avif", AVIF),
    ],
)
def test_a_name_or_a_suffix_will_do(text: str, expected: ImageFormat) -> None:
    assert named_format(text) == expected


@pytest.mark.parametrize("text", ["", ".", "gif", ".mpo", "jpeg2000", "..png"])
def test_what_is_none_says_which_there_are(text: str) -> None:
    with pytest.raises(UnsupportedFormatError, match="is no format that can be written: jpeg, png, webp, "):
        named_format(text)
