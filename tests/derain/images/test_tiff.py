"""TIFFs with more samples than colours are read; what is coded as something else inside is named."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import DTypeLike, NDArray

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.header import read_header
from derain.images.photo import Photo, decode_photo
from tests.conftest import scene

HEIGHT, WIDTH = 40, 60
NOTHING, MULTIPLIED, ALPHA = 0, 1, 2


def photo_of(data: bytes) -> Photo:
    return decode_photo(data, read_header(data))


def samples(colours: int, extra: list[int], dtype: DTypeLike) -> NDArray[Any]:
    """The scene, and samples beyond its colours of which each has levels of its own."""
    scale = np.iinfo(dtype).max // 255
    more = [np.full((HEIGHT, WIDTH, 1), 100 + 20 * number) for number in range(len(extra))]
    more[:1] = [np.broadcast_to(np.arange(WIDTH)[:, None] + 150, (HEIGHT, WIDTH, 1))]
    return (np.concatenate([scene(HEIGHT, WIDTH)[..., :colours], *more], axis=-1) * scale).astype(dtype)


def tiff_of(array: NDArray[Any], extra: list[int], is_planar: bool, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        np.moveaxis(array, -1, 0) if is_planar else array,
        photometric="rgb" if array.shape[-1] - len(extra) == 3 else "minisblack",
        planarconfig="separate" if is_planar else "contig",
        extrasamples=extra,
        **options,
    )
    return file.getvalue()


LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "zip": {"compression": "zlib"},
    "differences": {"compression": "zlib", "predictor": True},
    "tiles of differences": {"compression": "zlib", "predictor": True, "tile": (16, 32)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("is_planar", [False, True], ids=["together", "planes"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
@pytest.mark.parametrize(
    "extra", [[NOTHING], [ALPHA], [NOTHING, NOTHING], [ALPHA, NOTHING], [NOTHING, ALPHA, NOTHING]]
)
@pytest.mark.parametrize("colours", [1, 3], ids=["gray", "rgb"])
def test_samples_beyond_the_colours(
    colours: int, extra: list[int], dtype: DTypeLike, is_planar: bool, layout: str
) -> None:
    array = samples(colours, extra, dtype)
    photo = photo_of(tiff_of(array, extra, is_planar, **LAYOUTS[layout]))
    assert np.array_equal(photo.image[..., :colours], array[..., :colours])
    assert photo.is_gray == (colours == 1)
    if ALPHA in extra:
        assert photo.alpha is not None
        assert np.array_equal(photo.alpha, array[..., colours + extra.index(ALPHA)])
    else:
        assert photo.alpha is None


def test_colours_multiplied_by_an_alpha_in_a_plane_are_divided() -> None:
    array = samples(3, [MULTIPLIED], np.uint8)
    multiplied = array.copy()
    multiplied[..., :3] = np.rint(array[..., :3] * (array[..., 3:] / 255))
    photo = photo_of(tiff_of(multiplied, [MULTIPLIED], is_planar=True))
    assert np.abs(photo.image.astype(int) - array[..., :3]).max() <= 1


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        (50001, "WebP"),
        (50002, "JPEG XL"),
        (34712, "JPEG 2000"),
        (34887, "LERC"),
        (34933, "PNG"),
        (40000, "40000"),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
def test_another_format_inside_is_unsupported_not_damaged(
    compression: int, name: str, dtype: DTypeLike
) -> None:
    data = tiff_of(samples(3, [ALPHA], dtype), [ALPHA], is_planar=False)
    plain, other = (struct.pack("<HHIHH", 259, 3, 1, value, 0) for value in (1, compression))
    with pytest.raises(UnsupportedFormatError, match=f"{name} in TIFF is not supported"):
        read_header(data.replace(plain, other))


def directory_of(*tags: tuple[int, int, int, bytes]) -> bytes:
    """A TIFF of one directory: tag, kind, count, and the values, which lie behind it if they are long."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries, behind = b"", b""
    for tag, kind, count, values in tags:
        is_short = len(values) <= 4
        entries += struct.pack("<HHI", tag, kind, count)
        entries += values.ljust(4, b"\0") if is_short else struct.pack("<I", start + len(behind))
        behind += b"" if is_short else values
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + behind


def one(tag: int, value: int) -> tuple[int, int, int, bytes]:
    return tag, 4, 1, struct.pack("<I", value)


def many(tag: int, count: int) -> tuple[int, int, int, bytes]:
    return tag, 3, count, b"\1\0" * count


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ([one(256, 700), one(257, 700), one(322, 1), one(323, 1), many(324, 490_000)], "tiles of 1 x 1"),
        ([one(256, 1), one(257, 300_000), one(278, 1), many(273, 300_000)], "too many strips"),
        ([one(256, 1), one(257, 1), one(273, 8), many(34665, 3_000_000)], "too many values"),
    ],
    ids=["tiles of a pixel", "a strip a row", "values by the million"],
)
def test_what_pillow_would_make_millions_of_is_damage(
    tags: list[tuple[int, int, int, bytes]], said: str
) -> None:
    with pytest.raises(CorruptImageError, match=said):
        photo_of(directory_of(*tags, one(258, 8), one(262, 1)))
