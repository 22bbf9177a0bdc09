"""JPEGs whose data are damaged are errors; those that only look odd decode as if they did not."""

import io
import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PilImage

from derain.errors import CorruptImageError
from derain.images.codecs import jpeg
from derain.images.header import read_header
from derain.images.photo import decode_photo
from derain.images.plain import decode
from tests.conftest import noise, scene
from tests.derain.images.test_plain import by_pillow

END = b"\xff\xd9"
HEIGHT, WIDTH = 160, 240


def photograph() -> PilImage.Image:
    """With detail everywhere, so that nowhere a hole goes unnoticed."""
    grain = noise(HEIGHT, WIDTH).astype(int) // 8
    return PilImage.fromarray((scene(HEIGHT, WIDTH) // 2 + grain).astype(np.uint8))


def saved(**options: Any) -> bytes:
    return by_pillow(photograph(), "JPEG", quality=90, **options)


BASELINE, PROGRESSIVE = saved(), saved(progressive=True)
RESTARTING = saved(restart_marker_blocks=10)


def pixels(data: bytes) -> NDArray[Any]:
    read_header(data)
    return decode_photo(data, read_header(data)).image


def overwritten(data: bytes, start: float, content: bytes) -> bytes:
    at = int(start * len(data))
    return data[:at] + content + data[at + len(content) :]


def without_a_restart(data: bytes) -> bytes:
    """And without what was between it and the next one."""
    first, second = data.index(b"\xff\xd2"), data.index(b"\xff\xd3")
    return data[:first] + data[second:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a hole of zeros": lambda data: overwritten(data, 0.5, bytes(1000)),
    "a hole of ones": lambda data: overwritten(data, 0.5, b"\xff" * 1000),
    "a hole of noise": lambda data: overwritten(data, 0.5, noise(20, 20).tobytes()),
    "cut with an end marker": lambda data: data[: len(data) // 3] + END,
    "cut": lambda data: data[: len(data) // 3],
    "cut behind a scan": lambda data: data[: data.rindex(b"\xff\xda")],
    "a piece missing": lambda data: data[: len(data) // 2] + data[len(data) // 2 + 2000 :],
    "a piece twice": lambda data: data[: len(data) // 2] + data[len(data) // 2 - 2000 :],
    "line ends rewritten": lambda data: data.replace(b"\n", b"\r\n"),
    "line ends rewritten the other way": lambda data: data.replace(b"\n", b""),
    "in seven bits": lambda data: data[:-3000] + bytes(byte & 0x7F for byte in data[-3000:-2]) + END,
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize(
    "data", [BASELINE, PROGRESSIVE, RESTARTING], ids=["baseline", "progressive", "restarts"]
)
def test_missing_or_corrupt_data_are_an_error(data: bytes, kind: str) -> None:
    damaged = DAMAGES[kind](data)
    with pytest.raises(CorruptImageError, match="damaged"):
        pixels(damaged)
    with pytest.raises(CorruptImageError, match="damaged"):
        decode(damaged)


def test_a_file_that_was_copied_in_part_is_an_error_however_long() -> None:
    """Filled up with zeros, in whose run no marker follows: once looked through from each of its bytes."""
    for data in (BASELINE, RESTARTING):
        with pytest.raises(CorruptImageError):
            pixels(data[: len(data) // 2] + bytes(300_000))


def test_bytes_that_fill_up_before_a_marker_are_passed_over_at_once() -> None:
    filled = BASELINE[:2] + b"\xff" * 30_000_000 + BASELINE[2:]
    assert read_header(filled).width == WIDTH


def test_a_restart_that_is_missing_is_an_error() -> None:
    with pytest.raises(CorruptImageError, match="damaged"):
        pixels(without_a_restart(RESTARTING))


def before_the_tables(data: bytes, content: bytes) -> bytes:
    at = data.index(b"\xff\xdb")
    return data[:at] + content + data[at:]


def with_bytes(data: bytes, marker: bytes, offset: int, content: bytes) -> bytes:
    at = data.index(marker) + offset
    return data[:at] + content + data[at + len(content) :]


ADOBE = b"\xff\xee" + struct.pack(">H", 14) + b"Adobe\0\x64\0\0\0\0\x07"  # a transform there is not
VIDEO = b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\x08" * 500 + b"\xff\xd8\xff\xe0 another one"
ODDITIES: dict[str, Callable[[bytes], bytes]] = {
    "stray bytes in the header": lambda data: before_the_tables(data, b"\0\x01stray"),
    "another version": lambda data: with_bytes(data, b"JFIF\0", 5, b"\x02"),
    "another transform": lambda data: before_the_tables(data, ADOBE).replace(b"JFIF\0", b"JUNK\0"),
    "frequencies of the scan": lambda data: with_bytes(data, b"\xff\xda", 11, b"\0\0\0"),
    "no end marker": lambda data: data[:-2],
    "padding in front of the end": lambda data: data[:-2] + bytes(512) + END,
    "a few bytes in front of the end": lambda data: data[:-2] + b"\x12\x34\x56" + END,
    "filling bytes": lambda data: before_the_tables(data[:-2], b"\xff" * 9) + b"\xff" * 9 + END,
    "a video behind its end": lambda data: data + VIDEO,
    "text behind its end": lambda data: data + b"\n<!-- from a web server -->\n",
}


@pytest.mark.parametrize("kind", ODDITIES)
def test_what_loses_nothing_is_none(kind: str) -> None:
    odd = ODDITIES[kind](BASELINE)
    assert odd != BASELINE
    assert np.array_equal(pixels(odd), pixels(BASELINE))


@pytest.mark.parametrize("padding", [b"\0", bytes(30)])
@pytest.mark.parametrize("marker", [b"\xff\xd2", b"\xff\xd5"])
def test_padding_in_front_of_a_restart_loses_nothing(marker: bytes, padding: bytes) -> None:
    padded = RESTARTING.replace(marker, padding + marker, 1)
    assert padded != RESTARTING
    assert np.array_equal(pixels(padded), pixels(RESTARTING))


def test_padding_in_front_of_a_scan_loses_nothing() -> None:
    at = PROGRESSIVE.rindex(b"\xff\xc4")
    assert np.array_equal(pixels(PROGRESSIVE[:at] + bytes(30) + PROGRESSIVE[at:]), pixels(PROGRESSIVE))


def test_padding_may_look_like_the_data_it_follows() -> None:
    last = BASELINE[-3:-2]
    assert np.array_equal(pixels(BASELINE[:-2] + 100 * last + END), pixels(BASELINE))


@pytest.mark.parametrize("data", [PROGRESSIVE, BASELINE], ids=["progressive", "baseline"])
def test_the_scans_of_a_video_behind_its_end_are_not_the_images(data: bytes) -> None:
    large = by_pillow(PilImage.new("RGB", (4000, 3000)), "JPEG", progressive=data == PROGRESSIVE)
    assert jpeg.read_header(large + VIDEO).width == 4000


@pytest.mark.parametrize("factors", [0x411111, 0x221111, 0x211111, 0x121111, 0x111111])
def test_every_sampling_of_colour_decodes_as_in_opencv(factors: int) -> None:
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors]
    _, data = cv2.imencode(".jpg", np.asarray(photograph())[..., ::-1], options)
    wanted = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))
    assert np.array_equal(pixels(data.tobytes()), wanted)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_gray_one_decodes_as_in_opencv(progressive: bool) -> None:
    data = by_pillow(photograph().convert("L"), "JPEG", progressive=progressive)
    wanted = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
    assert np.array_equal(pixels(data)[..., 0], wanted)


@pytest.mark.parametrize("quality", [30, 50, 75, 85, 92, 95, 99])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_the_tables_tell_quality_and_sampling(quality: int, sampling: str) -> None:
    file = io.BytesIO()
    photograph().save(file, "JPEG", quality=quality, subsampling=sampling)
    head = jpeg.read_header(file.getvalue())
    assert head.quality == quality
    assert head.colour_step == {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}[sampling]


@pytest.mark.parametrize("data", [BASELINE, PROGRESSIVE], ids=["baseline", "progressive"])
def test_its_structure_is_parsed_once(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    header = read_header(data)
    monkeypatch.setattr(jpeg, "_segments", None)
    assert decode_photo(data, header).image.shape == (HEIGHT, WIDTH, 3)
