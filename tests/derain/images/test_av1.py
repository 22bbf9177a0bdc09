"""An AVIF cannot hide large frames behind a small header: they are read from the stream itself."""

import io
import struct

import numpy as np
import pytest
from PIL import Image as PilImage

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.codecs import isobmff
from derain.images.codecs.av1 import frame_sizes
from derain.images.header import read_header
from tests.conftest import noise

SMALL, LARGE = (64, 48), (1200, 900)  # width, height


def avif(size: tuple[int, int], alpha: bool = False, **options: object) -> bytes:
    width, height = size
    samples = noise(height, width)
    if alpha:
        samples = np.concatenate([samples, samples[..., :1]], axis=2)
    file = io.BytesIO()
    PilImage.fromarray(samples).save(file, "AVIF", speed=10, max_threads=1, **options)
    return file.getvalue()


def moving(size: tuple[int, int]) -> bytes:
    return avif(size, save_all=True, append_images=[PilImage.new("RGB", size)])


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def sizes(data: bytes) -> list[tuple[int, int]]:
    return [size for stream in isobmff.read_item(data).streams for size in frame_sizes(stream.data)]


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (64, 48), (257, 3)])
def test_frames_are_as_large_as_the_image(size: tuple[int, int]) -> None:
    assert sizes(avif(size)) == [size]
    assert sizes(avif(size, subsampling="4:4:4", tile_rows=1)) == [size]
    assert sizes(avif(size, alpha=True)) == [size, size]
    assert sizes(moving(size)) == [size]


def test_a_header_that_understates_the_frame_is_refused() -> None:
    """libavif would decode it, and answer with it made small."""
    data = replaced(avif(LARGE), struct.pack(">II", *LARGE), struct.pack(">II", *SMALL))
    with PilImage.open(io.BytesIO(data)) as image:
        assert np.asarray(image).shape == (*reversed(SMALL), 3)
    with pytest.raises(CorruptImageError, match="a frame of 1200 x 900 in an image of 64 x 48"):
        read_header(data)


def test_transparency_that_is_larger_than_its_image_is_refused() -> None:
    data = avif(SMALL, alpha=True)
    _, alpha = isobmff.read_item(data).streams
    (large,) = isobmff.read_item(avif(LARGE)).streams
    place = struct.pack(">II", data.find(bytes(alpha.data)), len(alpha.data))
    data = replaced(data, place, struct.pack(">II", len(data), len(large.data))) + large.data
    with pytest.raises(CorruptImageError, match="a frame of 1200 x 900 in an image of 64 x 48"):
        read_header(data)


def test_a_film_under_another_name_is_refused() -> None:
    """libavif would take the film, of which the image's header says nothing."""
    data = moving(SMALL)
    with pytest.raises(UnsupportedFormatError, match="several frames"):
        read_header(data)
    data = replaced(data, b"ftypavis", b"ftypmif1")
    with PilImage.open(io.BytesIO(data)) as image:
        assert getattr(image, "is_animated", False)
    with pytest.raises(UnsupportedFormatError, match="several frames"):
        read_header(data)


@pytest.mark.parametrize(
    ("pieces", "said"), [(9_000, "more data than there is"), (60_000, "its data is in too many pieces")]
)
def test_pieces_that_are_there_many_times_are_not_put_together(pieces: int, said: str) -> None:
    """An item's extents may overlap: a small file could stand for a very large one."""
    data = avif(SMALL)
    meta, iloc = (data.index(name) - 4 for name in (b"meta", b"iloc"))
    meta_size, iloc_size = (struct.unpack_from(">I", data, place)[0] for place in (meta, iloc))
    locations = data[iloc + 4 : iloc + iloc_size]
    assert locations[-10:-8] == b"\0\1", "one piece, of which offset and length follow"
    locations = locations[:-10] + struct.pack(">H", pieces) + pieces * locations[-8:]
    grown = [struct.pack(">I", meta_size + len(locations) + 4 - iloc_size), data[meta + 4 : iloc]]
    moved = [struct.pack(">I", len(locations) + 4), locations, data[iloc + iloc_size :]]
    with pytest.raises(CorruptImageError, match=said):
        read_header(b"".join([data[:meta], *grown, *moved]))


def obu(kind: int, bits: str) -> bytes:
    bits = bits.replace(" ", "")
    bits += "1" + "0" * (-(len(bits) + 1) % 8)  # trailing bits
    content = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes([kind << 3 | 2, len(content)]) + content


# 640 x 480, 10 bits each; times of 7 bits, frame ids of 15, an order, no choice of screen content.
TIMES = "1" + f"{1:032b}{25:032b}" + "0" + "1" + f"{9:05b}{1:032b}{4:05b}{6:05b}"
POINTS = "1 00001" + 2 * ("000000000001 01000 0 1" + "0" * 20 + "1" + "1 0011")
SIDES = f"1001 1001 {639:010b} {479:010b}"
SEQUENCE = f"000 0 0 {TIMES} {POINTS} {SIDES} 1 1000 100 000 0000 1 00 0 1 0 1 110 000"
SHOWN_KEY = f"0 00 1 {5:07b} 0 {77:015b}"


def test_a_sequence_that_says_all_it_can() -> None:
    stream = obu(1, SEQUENCE) + obu(6, SHOWN_KEY + "0")
    assert list(frame_sizes(memoryview(stream))) == [(640, 480)]


@pytest.mark.parametrize(
    "frame",
    [
        SHOWN_KEY + "1",
        f"0 00 0 1 0 0 {77:015b} 1",  # a key frame that is not shown
        f"0 01 1 {5:07b} 1 0 {77:015b} 1",  # one that refers to others
        f"0 11 1 {5:07b} 0 {77:015b} 0",  # a switch to another size
    ],
)
@pytest.mark.parametrize("kind", [3, 6, 7])
def test_a_frame_with_a_size_of_its_own_is_refused(kind: int, frame: str) -> None:
    stream = memoryview(obu(1, SEQUENCE) + obu(6, SHOWN_KEY + "0") + obu(kind, frame))
    with pytest.raises(UnsupportedFormatError, match="several sizes"):
        list(frame_sizes(stream))


@pytest.mark.parametrize(
    "stream",
    [
        obu(1, SEQUENCE)[:20],
        b"\x0a\xff",
        b"\x12\0" * 1000,
    ],
)
def test_a_damaged_stream_is_said(stream: bytes) -> None:
    with pytest.raises(CorruptImageError, match="damaged"):
        list(frame_sizes(memoryview(stream)))
