import pytest

from derain.images.formats import BMP, HEIC, JPEG, PNG, TIFF, WEBP, ImageFormat
from serving.negotiation import choose_format
from serving.problems import NotAcceptableError


@pytest.mark.parametrize(
    ("accept", "source", "chosen"),
    [
        # Nothing asked for, or anything: as it came.
        (None, PNG, PNG),
        ("", PNG, PNG),
        ("*/*", TIFF, TIFF),
        ("image/*", BMP, BMP),
        ("text/html, image/*;q=0.5, */*;q=0.1", WEBP, WEBP),
        # One asked for.
        ("image/png", JPEG, PNG),
        ("IMAGE/PNG", JPEG, PNG),
        ("image/jpg", PNG, JPEG),
        ("image/x-ms-bmp", PNG, BMP),
        ("text/html,image/webp", JPEG, WEBP),
        # Several: the best one, and among equals the one that came.
        ("image/png;q=0.5, image/webp;q=0.9", PNG, WEBP),
        ("image/png ; q=0.5 , image/webp ; q=0.9", PNG, WEBP),
        ("image/png, image/webp", WEBP, WEBP),
        ("image/webp, image/jpeg, image/png", PNG, PNG),
        ("image/png;q=1.000, */*;q=0.001", JPEG, PNG),
        ("image/jpeg;q=0.8, image/png;q=0.8, */*;q=0.8", TIFF, TIFF),
        # The more specific range decides, wherever it stands.
        ("*/*, image/png;q=0", JPEG, JPEG),
        ("image/*;q=0.2, image/jpeg;q=0, */*", PNG, PNG),
        ("image/png;q=0.1, image/*;q=0.9", PNG, JPEG),
        ("image/*;q=0, image/bmp;q=0.1", PNG, BMP),
        # Parameters that are no quality, and the picture that browsers ask for.
        ("image/png;level=1;q=0.3, image/jpeg;q=0.2", JPEG, PNG),
        ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", JPEG, JPEG),
        # Bytes, in whatever format.
        ("application/octet-stream", WEBP, WEBP),
        ("application/octet-stream, application/problem+json", HEIC, JPEG),
        ("application/octet-stream;q=0.5, image/png", JPEG, PNG),
        # What can only be read.
        (None, HEIC, JPEG),
        ("image/*", HEIC, JPEG),
        ("image/heic;q=1, image/png;q=0.1", HEIC, PNG),
    ],
)
def test_what_is_chosen(accept: str | None, source: ImageFormat, chosen: ImageFormat) -> None:
    assert choose_format(accept, source) == chosen


@pytest.mark.parametrize(
    "accept",
    ["text/html", "image/jxl", "image/png;q=0", "*/*;q=0", "image/*;q=0.0", ", ,", "image/png;q=nan"],
)
def test_nothing_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match=r"there is image/png, image/jpeg, .*image/bmp"):
        choose_format(accept, PNG)


@pytest.mark.parametrize("accept", ["image/png;q=", "image/png;q=high", "*/*, image/png;q=0,5;q=x"])
def test_a_quality_that_is_no_number(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match=r"a quality that is no number: .*q="):
        choose_format(accept, PNG)
