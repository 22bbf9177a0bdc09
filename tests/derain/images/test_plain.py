import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from PIL import ImageOps

from derain.arrays import Image
from derain.errors import (
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    UnsupportedFormatError,
)
from derain.files import write_atomically
from derain.images.formats import AVIF, BMP, FORMATS, JPEG, PNG, TIFF, WEBP, ImageFormat
from derain.images.header import read_header
from derain.images.plain import decode, encode, read_image
from tests.conftest import PEAK_KB, files_in, scene

HEIGHT, WIDTH = 40, 60
SCENE = scene(HEIGHT, WIDTH)
LOSSLESS = [PNG, TIFF, BMP]
LOSSY = [JPEG, WEBP, AVIF]
WRITABLE = [known for known in FORMATS if known.writable]


def by_pillow(image: PilImage.Image, pillow_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, pillow_format, **options)
    return file.getvalue()


def mean_difference(one: Image, other: Image) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(float) - other).mean())


def png_chunk(kind: bytes, data: bytes, claimed_length: int | None = None) -> bytes:
    length = len(data) if claimed_length is None else claimed_length
    return struct.pack(">I", length) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, claimed_length: int | None = None) -> bytes:
    """Small, whatever size it claims to be."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", size)
        + png_chunk(b"IDAT", pixels, claimed_length)
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("image_format", LOSSLESS, ids=lambda known: known.name)
def test_a_lossless_format_changes_nothing(image_format: ImageFormat) -> None:
    image, found = decode(encode(SCENE, image_format))
    assert found == image_format
    assert np.array_equal(image, SCENE)


@pytest.mark.parametrize("image_format", LOSSY, ids=lambda known: known.name)
def test_a_lossy_format_changes_little(image_format: ImageFormat) -> None:
    image, found = decode(encode(SCENE, image_format))
    assert found == image_format
    assert mean_difference(image, SCENE) < 2 < mean_difference(image, SCENE[..., ::-1])


@pytest.mark.parametrize("image_format", WRITABLE, ids=lambda known: known.name)
def test_what_is_written_is_read_alike_by_pillow(image_format: ImageFormat) -> None:
    with PilImage.open(io.BytesIO(encode(SCENE, image_format))) as image:
        assert image.get_format_mimetype() == image_format.media_type
        assert mean_difference(np.asarray(image), SCENE) < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pillow_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_is_turned_upright(pillow_format: str, orientation: int) -> None:
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if pillow_format == "WEBP" else {}
    data = by_pillow(PilImage.fromarray(SCENE), pillow_format, exif=exif, **lossless)
    with PilImage.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    decoded, _ = decode(data)
    assert decoded.shape == ((HEIGHT, WIDTH, 3) if orientation < 5 else (WIDTH, HEIGHT, 3))
    assert mean_difference(decoded, upright) < 0.5


@pytest.mark.parametrize(
    ("mode", "pillow_format"),
    [
        *[(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGBA", "I;16")],
        *[(mode, "TIFF") for mode in ("1", "L", "P", "RGBA", "I;16")],
        *[(mode, "BMP") for mode in ("1", "L", "P", "RGBA")],
        ("L", "JPEG"),
        ("RGBA", "WEBP"),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(mode: str, pillow_format: str) -> None:
    image = PilImage.fromarray(SCENE)
    if mode == "I;16":
        expected = image.convert("L")
        image = PilImage.fromarray(np.asarray(expected).astype(np.uint16) * 257)
    else:
        expected = image = image.convert(mode)
    decoded, _ = decode(by_pillow(image, pillow_format))
    assert decoded.dtype == np.uint8
    assert mean_difference(decoded, np.asarray(expected.convert("RGB"))) < 2


def test_sixteen_bit_colour() -> None:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in SCENE.astype(np.uint16) * 257)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )
    assert np.array_equal(decode(data)[0], SCENE)


def test_a_camera_s_jpeg_with_previews_is_a_jpeg() -> None:
    image = PilImage.fromarray(SCENE)
    data = by_pillow(image, "MPO", save_all=True, append_images=[image.resize((15, 10))])
    with PilImage.open(io.BytesIO(data)) as opened:
        assert opened.format == "MPO"
    decoded, found = decode(data)
    assert found == JPEG
    assert mean_difference(decoded, SCENE) < 2


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EmptyImageError),
        (b"rain, rain, go away", UnsupportedFormatError),
        (bytes(1000), UnsupportedFormatError),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedFormatError),
        (by_pillow(PilImage.fromarray(SCENE), "PPM"), UnsupportedFormatError),
        (by_pillow(PilImage.fromarray(SCENE), "GIF"), UnsupportedFormatError),
    ],
    ids=["empty", "text", "zeros", "svg", "ppm", "gif"],
)
def test_no_image_that_derain_reads(data: bytes, error: type[ImageError]) -> None:
    with pytest.raises(error):
        decode(data)


@pytest.mark.parametrize("kept", [0.02, 0.2, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("image_format", WRITABLE, ids=lambda known: known.name)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # it warns of what it then raises
def test_an_image_cut_short(image_format: ImageFormat, kept: float) -> None:
    data = encode(scene(200, 300), image_format)
    with pytest.raises((CorruptImageError, UnsupportedFormatError)) as raised:
        decode(data[: int(len(data) * kept)])
    # Once the header is whole, so is the message. (A TIFF has it at its end, a WebP its length in front.)
    if kept >= 0.5 and image_format in (JPEG, PNG, BMP):
        assert f"the {image_format.name} image is " in str(raised.value)
        assert "cut short" in str(raised.value)


@pytest.mark.parametrize(
    "data",
    [
        # A GIF that ends in its first frame, a TIFF whose second page has no size, a DDS of no known kind.
        b"GIF89a\x05\0\x05\0\0\0\0,\0\0\0\0\x05\0\x05\0\0\x02\x04",
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", 9)
        + b"".join(
            struct.pack("<HHII", tag, 4, 1, value)
            for tag, value in [
                (256, 4),
                (257, 4),
                (258, 8),
                (259, 1),
                (262, 1),
                (273, 8),
                (277, 1),
                (278, 4),
                (279, 16),
            ]
        )
        + struct.pack("<IHHHIII", 122, 1, 259, 4, 1, 1, 0),
        b"DDS " + struct.pack("<II", 124, 0x1007) + struct.pack("<II", 5, 5) + bytes(108),
    ],
    ids=["gif", "tiff", "dds"],
)
def test_damage_that_pillow_does_not_foresee(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode(data)


SEEDS = [
    *[encode(scene(6, 9), image_format) for image_format in WRITABLE],
    by_pillow(
        PilImage.fromarray(scene(6, 9)), "GIF", save_all=True, append_images=[PilImage.new("RGB", (9, 6))]
    ),
    by_pillow(
        PilImage.fromarray(scene(6, 9)), "TIFF", save_all=True, append_images=[PilImage.new("RGB", (9, 6))]
    ),
    by_pillow(PilImage.fromarray(scene(6, 9)), "JPEG", progressive=True),
]


def damaged(data: bytes, changes: list[tuple[int, int]], end: int | None) -> bytes:
    """With other values in some places, and cut short."""
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] = value
    return bytes(changed[:end])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@settings(deadline=None, max_examples=300)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    end=st.none() | st.integers(1, 400),
)
def test_damaged_bytes_raise_nothing_but_image_errors(
    seed: bytes, changes: list[tuple[int, int]], end: int | None
) -> None:
    data = damaged(seed, changes, end)
    try:
        image, _ = decode(data, max_pixels=100_000)
    except ImageError as error:
        assert str(error)
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3


def test_a_pixel_bomb_is_known_by_its_header() -> None:
    bomb = png(20_000, 20_000)
    assert len(bomb) < 200
    with pytest.raises(ImageTooLargeError, match=r"400,000,000 pixels.* 150,000,000 are allowed"):
        read_header(bomb)


def test_the_limit_is_the_caller_s() -> None:
    header = read_header(png(20_000, 20_000), max_pixels=400_000_000)
    assert (header.format, header.width, header.height) == (PNG, 20_000, 20_000)
    assert read_header(png(100, 10), max_pixels=1000).width == 100
    with pytest.raises(ImageTooLargeError, match="100 x 10 is 1,000 pixels: at most 999 are allowed"):
        read_header(png(100, 10), max_pixels=999)


def test_within_the_limit_there_is_no_warning() -> None:
    assert read_header(png(12_000, 12_000)).width == 12_000


def test_a_png_chunk_that_claims_gigabytes_takes_none(tmp_path: Path) -> None:
    path = tmp_path / "chunk.png"
    path.write_bytes(png(30, 20, claimed_length=0x7FFF_FFFF))
    code = (
        "import pathlib, sys\n"
        "from derain.errors import CorruptImageError\n"
        "from derain.images.plain import decode\n"
        "try: decode(pathlib.Path(sys.argv[1]).read_bytes())\n"
        f"except CorruptImageError: print({PEAK_KB})"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 1_000_000


@pytest.mark.parametrize(
    ("pillow_format", "said"),
    [("GIF", "JPEG, PNG, WebP"), *[(name, "several frames or pages") for name in ("WEBP", "PNG", "TIFF")]],
)
def test_moving_images_and_pages(pillow_format: str, said: str) -> None:
    first, second = PilImage.fromarray(SCENE), PilImage.fromarray(255 - SCENE)
    data = by_pillow(first, pillow_format, save_all=True, append_images=[second])
    with pytest.raises(UnsupportedFormatError, match=said):
        decode(data)


def test_an_image_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(SCENE, PNG))
    assert np.array_equal(read_image(path), SCENE)
    path.write_bytes(b"")
    with pytest.raises(EmptyImageError, match=r"a\.png: no image"):
        read_image(path)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for data in (b"longer, and before", b"after"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert files_in(tmp_path) == {"a"}


@pytest.mark.parametrize("name", ["taken", "missing/a", "x" * 300])
def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match=name[:3]):
        write_atomically(tmp_path / name, b"data")
    assert files_in(tmp_path) == set()
