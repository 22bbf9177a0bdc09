"""An AVIF cannot hide large frames behind a small header: they are read from the stream itself."""

import io
import struct

import numpy as np
import pytest
from PIL import Image as PilImage

from derain.errors import CorruptImageError, ImageError, UnsupportedFormatError
from derain.images.codecs import isobmff
from derain.images.codecs.av1 import Still, read_still
from derain.images.header import read_header
from derain.images.photo import decode_photo
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


def still_of(data: bytes) -> Still:
    stream = isobmff.read_item(data).av1
    assert stream is not None
    still = read_still(stream)
    assert still is not None
    return still


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (64, 48), (257, 3)])
def test_a_frame_is_as_large_as_the_image(size: tuple[int, int]) -> None:
    for data in (avif(size), avif(size, subsampling="4:4:4", tile_rows=1), avif(size, alpha=True)):
        still = still_of(data)
        assert (still.width, still.height) == size


def test_a_header_that_understates_the_frame_is_refused() -> None:
    """libavif would decode it, and answer with it made small."""
    data = replaced(avif(LARGE), struct.pack(">II", *LARGE), struct.pack(">II", *SMALL))
    with PilImage.open(io.BytesIO(data)) as image:
        assert np.asarray(image).shape == (*reversed(SMALL), 3)
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


@pytest.mark.parametrize("quality", [1, 20, 45, 60, 75, 90, 100])
@pytest.mark.parametrize("size", [(1, 1), (64, 48), (257, 130)])
def test_the_quality_is_the_one_it_was_written_with(size: tuple[int, int], quality: int) -> None:
    still = still_of(avif(size, quality=quality))
    assert still.quality is not None
    assert abs(still.quality - quality) <= 2


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_how_often_colour_is_sampled_is_in_a_box(sampling: str) -> None:
    expected = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}[sampling]
    assert isobmff.read_item(avif(SMALL, subsampling=sampling)).colour_step == expected


@pytest.mark.parametrize("stream", [b"", b"\x0a\xff", b"\x12\0" * 1000, b"\x0a\x03\0\0\0\x32\x01\0"])
def test_a_stream_of_something_else_says_nothing(stream: bytes) -> None:
    assert read_still(memoryview(stream)) is None


def test_pieces_that_are_there_many_times_are_bounded() -> None:
    """An item's extents may overlap: a small file could stand for a very large one."""
    data = avif(SMALL)
    meta, iloc = (data.index(name) - 4 for name in (b"meta", b"iloc"))
    meta_size, iloc_size = (struct.unpack_from(">I", data, place)[0] for place in (meta, iloc))
    locations = data[iloc + 4 : iloc + iloc_size]
    assert locations[-10:-8] == b"\0\1", "one piece, of which offset and length follow"
    piece = locations[-8:-4] + struct.pack(">I", 100_000)
    locations = locations[:-10] + struct.pack(">H", 60_000) + 60_000 * piece
    grown = [struct.pack(">I", meta_size + len(locations) + 4 - iloc_size), data[meta + 4 : iloc]]
    moved = [struct.pack(">I", len(locations) + 4), locations, data[iloc + iloc_size :]]
    claiming = b"".join([data[:meta], *grown, *moved])
    with pytest.raises(ImageError, match="damaged"):
        decode_photo(claiming, read_header(claiming))
