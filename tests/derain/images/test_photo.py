"""Each file is written by one library, and what comes back is read by another one."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray
from PIL import Image as PilImage
from PIL import ImageOps, JpegImagePlugin

from derain.arrays import AnyImage
from derain.errors import CorruptImageError, ImageError, UnsupportedFormatError
from derain.images.encoding import encode_photo
from derain.images.formats import AVIF, BMP, FORMATS, HEIC, JPEG, PNG, TIFF, WEBP, ImageFormat
from derain.images.header import read_header
from derain.images.photo import Photo, decode_photo, derain_photo
from derain.inference.engine import Engine
from tests.conftest import PEAK_KB, examining, scene
from tests.derain.images.test_plain import by_pillow, damaged, png_chunk

Array = NDArray[Any]

IMAGES = Path(__file__).parent / "files"
HEIGHT, WIDTH = 40, 60
SCENE = scene(HEIGHT, WIDTH)
WRITABLE = [known for known in FORMATS if known.writable]
EXACT = [PNG, TIFF, BMP]
CHANNELS = {"gray": 1, "gray-alpha": 2, "rgb": 3, "rgb-alpha": 4}

named = pytest.mark.parametrize("target", WRITABLE, ids=lambda known: known.name)


def same(image: AnyImage) -> AnyImage:
    return image


def inverse(image: AnyImage) -> AnyImage:
    return ~image


def photo_of(data: bytes) -> Photo:
    return decode_photo(data, read_header(data))


def through(data: bytes, target: ImageFormat | None = None, **options: Any) -> bytes:
    photo = derain_photo(examining(same), photo_of(data)).photo
    return encode_photo(photo, target or photo.format.answer_format, **options)


def samples(channels: int, dtype: DTypeLike) -> Array:
    """The scene; in 16 bits with all of them in use, and alpha from nothing to everything."""
    scale = np.iinfo(dtype).max // 255
    grain = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) % scale
    colours = SCENE.astype(np.uint32) * scale + (grain if scale > 1 else 0)
    alpha = np.broadcast_to(np.linspace(0, np.iinfo(dtype).max, WIDTH), (HEIGHT, WIDTH))[..., None]
    parts = [colours[..., : 3 if channels > 2 else 1], *([alpha] if channels in (2, 4) else [])]
    return np.concatenate(parts, axis=2).clip(0, np.iinfo(dtype).max).astype(dtype)


def tiff_of(array: Array, **options: Any) -> bytes:
    file = io.BytesIO()
    channels = array.shape[2]
    options.setdefault("photometric", "rgb" if channels > 2 else "minisblack")
    if channels in (2, 4):
        options.setdefault("extrasamples", ["unassalpha"])
    tifffile.imwrite(file, array[..., 0] if channels == 1 else array, **options)
    return file.getvalue()


def png_of(array: Array) -> bytes:
    """By hand: no library at hand writes every kind."""
    height, width, channels = array.shape
    depth, kind = 8 * array.dtype.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = array.astype(f">u{array.dtype.itemsize}").reshape(height, -1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
        + png_chunk(b"IEND", b"")
    )


def with_chunks(png: bytes, **chunks: bytes) -> bytes:
    """Behind the header."""
    return (
        png[:33] + b"".join(png_chunk(name.encode(), content) for name, content in chunks.items()) + png[33:]
    )


def read(data: bytes, image_format: ImageFormat) -> Array:
    """(height, width, channels), by a library that has not written it."""
    if image_format == TIFF:
        array = tifffile.imread(io.BytesIO(data))
    elif image_format == PNG and data[24] == 8:
        with PilImage.open(io.BytesIO(data)) as image:
            array = np.asarray(image)
    else:
        array = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
        if array.ndim == 3:
            array = array[..., [2, 1, 0, 3][: array.shape[2]]]
        if image_format == PNG and data[25] == 4:
            array = array[..., 2:]
    return array if array.ndim == 3 else array[..., None]


def over_white(array: Array) -> Array:
    most = np.iinfo(array.dtype).max
    share = array[..., -1:] / most
    return np.rint(array[..., :-1] * share + most * (1 - share)).astype(array.dtype)


def expected(array: Array, target: ImageFormat) -> Array:
    """What the target should hold, in the words of its abilities."""
    if array.shape[2] in (2, 4) and not target.has_alpha:
        array = over_white(array)
    if array.dtype == np.uint16 and not target.is_deep:
        array = np.rint(array / 257).astype(np.uint8)
    is_gray = array.shape[2] < 3
    if is_gray and (not target.has_gray or (target == AVIF and array.shape[2] == 2)):
        array = np.concatenate([array[..., :1]] * 3 + [array[..., 1:]], axis=2)
    return array


@named
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("source", [PNG, TIFF], ids=lambda known: known.name)
def test_every_kind_into_every_format(
    source: ImageFormat, kind: str, dtype: DTypeLike, target: ImageFormat
) -> None:
    array = samples(CHANNELS[kind], dtype)
    answer = read(through(png_of(array) if source == PNG else tiff_of(array), target), target)
    wanted = expected(array, target)
    assert (answer.shape, answer.dtype) == (wanted.shape, wanted.dtype)
    apart = np.abs(answer.astype(int) - wanted)
    if target in EXACT:
        assert apart.max() == 0
    else:
        visible = wanted[..., -1:] > 0 if wanted.shape[2] in (2, 4) else np.True_
        assert (apart * visible).mean() < 2


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (16, 32)], ids=["strips", "tiles"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
def test_every_layout_of_tiff(
    kind: str, planar: str, byteorder: str, tile: tuple[int, int] | None, dtype: DTypeLike
) -> None:
    array = samples(CHANNELS[kind], dtype)
    options: dict[str, Any] = {"byteorder": byteorder, "tile": tile, "compression": "zlib"}
    if planar == "separate" and array.shape[2] > 1:
        file = io.BytesIO()
        extra = ["unassalpha"] if array.shape[2] in (2, 4) else None
        photometric = "rgb" if array.shape[2] > 2 else "minisblack"
        planes = np.moveaxis(array, -1, 0)
        tifffile.imwrite(
            file, planes, photometric=photometric, planarconfig="separate", extrasamples=extra, **options
        )
        data = file.getvalue()
    else:
        data = tiff_of(array, **options)
    assert np.array_equal(read(through(data, PNG), PNG), array)


def test_white_may_be_the_lowest_level() -> None:
    for dtype in (np.uint8, np.uint16):
        array = samples(1, dtype)
        answer = read(through(tiff_of(array, photometric="miniswhite"), PNG), PNG)
        assert np.array_equal(answer, ~array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
def test_colours_multiplied_by_alpha_are_divided(dtype: DTypeLike) -> None:
    array = samples(4, dtype)
    most = np.iinfo(dtype).max
    multiplied = array.copy()
    multiplied[..., :3] = np.rint(array[..., :3] * (array[..., 3:] / most))
    photo = photo_of(tiff_of(multiplied, extrasamples=["assocalpha"]))
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha, array[..., 3])
    opaque = array[..., 3] > most // 2  # below it, less of a level is left than one
    assert np.abs(photo.image[opaque].astype(int) - array[..., :3][opaque]).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", [JPEG, PNG, WEBP, TIFF, AVIF], ids=lambda known: known.name)
@pytest.mark.parametrize("is_gray", [False, True], ids=["rgb", "gray"])
def test_an_image_comes_back_upright_and_says_so(
    source: ImageFormat, orientation: int, is_gray: bool
) -> None:
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Rain"
    exif.get_ifd(0x8769).update({40962: 7, 40963: 8})
    image = PilImage.fromarray(SCENE[..., 0] if is_gray else SCENE)
    lossless = {"lossless": True} if source == WEBP else {}
    data = by_pillow(image, source.name, exif=exif, **lossless)
    with PilImage.open(io.BytesIO(data)) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
    photo = photo_of(data)
    assert photo.image.shape == upright.shape
    assert np.abs(photo.image - upright).mean() < 1
    with PilImage.open(io.BytesIO(through(data))) as answer:
        tags = answer.getexif()
        assert tags[0x010F] == "Rain"
        assert tags.get(0x0112, 1) == 1
        assert answer.size == (upright.shape[1], upright.shape[0])
        if source != TIFF:  # Pillow writes no directory of a camera into it
            assert answer.size == (tags.get_ifd(0x8769)[40962], tags.get_ifd(0x8769)[40963])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", CHANNELS)
def test_a_deep_tiff_is_turned_once(kind: str, orientation: int) -> None:
    array = samples(CHANNELS[kind], np.uint16)
    channels = [PilImage.fromarray(channel) for channel in np.moveaxis(array, -1, 0)]
    method = {
        2: PilImage.Transpose.FLIP_LEFT_RIGHT,
        3: PilImage.Transpose.ROTATE_180,
        4: PilImage.Transpose.FLIP_TOP_BOTTOM,
        5: PilImage.Transpose.TRANSPOSE,
        6: PilImage.Transpose.ROTATE_270,
        7: PilImage.Transpose.TRANSVERSE,
        8: PilImage.Transpose.ROTATE_90,
    }.get(orientation)
    upright = [
        np.asarray(channel.transpose(method) if method is not None else channel) for channel in channels
    ]
    data = tiff_of(array, extratags=[(274, "H", 1, orientation, True)])
    assert np.array_equal(read(through(data), TIFF), np.stack(upright, axis=-1))


def profile(space: bytes, size: int = 600) -> bytes:
    """Looks like one."""
    content = bytearray(np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes())
    content[16:20], content[36:40] = space, b"acsp"
    return bytes(content)


@named
@pytest.mark.parametrize("source", [JPEG, PNG, WEBP, TIFF, AVIF], ids=lambda known: known.name)
@pytest.mark.parametrize("size", [600, 200_000])  # the second one takes several segments in JPEG
def test_a_profile_is_kept_and_no_value_is_converted(
    source: ImageFormat, target: ImageFormat, size: int
) -> None:
    wide = profile(b"RGB ", size)
    data = by_pillow(PilImage.fromarray(SCENE), source.name, icc_profile=wide)
    photo = photo_of(data)
    assert photo.profile == wide
    with PilImage.open(io.BytesIO(through(data, target))) as answer:
        assert answer.info.get("icc_profile") == (None if target == BMP else wide)
        assert np.abs(np.asarray(answer).astype(int) - photo.image).mean() < 2


@named
def test_a_gray_profile_stays_with_gray(target: ImageFormat) -> None:
    gray = profile(b"GRAY")
    data = by_pillow(PilImage.fromarray(SCENE[..., 0]), "JPEG", icc_profile=gray)
    assert photo_of(data).profile == gray
    with PilImage.open(io.BytesIO(through(data, target))) as answer:
        is_gray = answer.mode == "L"
        assert is_gray == target.has_gray
        assert answer.info.get("icc_profile") == (gray if is_gray and target != BMP else None)


@pytest.mark.parametrize("space", [b"CMYK", b"GRAY", b"Lab "])
def test_a_profile_of_something_else_is_dropped(space: bytes) -> None:
    data = by_pillow(PilImage.fromarray(SCENE), "JPEG", icc_profile=profile(space))
    assert photo_of(data).profile is None


def rich_exif(byte_order: str) -> bytes:
    """A camera's: a place, its maker's secrets, a thumbnail, a size that is not true."""
    exif = PilImage.Exif()
    exif.endian = byte_order
    exif.update({0x0112: 6, 0x010F: "Rain & Co", 0x8298: "Somebody", 0x011A: 300.0, 0x011B: 300.0, 0x0128: 2})
    exif[700] = b"<x:xmpmeta/>"
    exif.get_ifd(0x8769).update(
        {33434: 0.008, 36867: "2026:11:24 10:00:00", 37500: b"SECRET", 40962: 1, 40963: 2, 41486: 1234.5}
    )
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.5)})
    block = exif.tobytes()
    order = "<" if block[6:8] == b"II" else ">"
    # Pillow writes no thumbnail: a second directory behind the first.
    start = 6 + struct.unpack_from(order + "I", block, 10)[0]
    link = start + 2 + 12 * struct.unpack_from(order + "H", block, start)[0]
    thumbnail = struct.pack(order + "HHHIIHHIII", 2, 513, 4, 1, 0, 514, 4, 1, 9, 0) + b"THUMBNAIL"
    return block[:link] + struct.pack(order + "I", len(block) - 6) + block[link + 4 :] + thumbnail


@named
@pytest.mark.parametrize("byte_order", "<>")
def test_what_is_kept_of_exif(byte_order: str, target: ImageFormat) -> None:
    data = by_pillow(PilImage.fromarray(SCENE), "JPEG", exif=rich_exif(byte_order), comment=b"a comment")
    assert all(word in data for word in (b"SECRET", b"THUMBNAIL", b"xmpmeta", b"comment"))
    once = through(data, target)
    for answer in (once, through(once)):
        assert not any(word in answer for word in (b"SECRET", b"THUMBNAIL", b"xmpmeta", b"comment"))
        with PilImage.open(io.BytesIO(answer)) as image:
            exif = image.getexif()
            if target == BMP:
                assert not exif
                return
            camera = exif.get_ifd(0x8769)
            assert (exif[0x010F], exif[0x8298], exif[0x011A]) == ("Rain & Co", "Somebody", 300)
            assert (camera[33434], camera[36867], camera[41486]) == (0.008, "2026:11:24 10:00:00", 1234.5)
            assert (camera[40962], camera[40963]) == image.size == (HEIGHT, WIDTH)
            assert not exif.get_ifd(0x8825)
            assert not exif.get_ifd(1)
            assert exif.get(0x0112, 1) == 1


@named
def test_metadata_can_be_left_out_but_not_the_profile(target: ImageFormat) -> None:
    wide = profile(b"RGB ")
    data = by_pillow(PilImage.fromarray(SCENE), "JPEG", exif=rich_exif("<"), icc_profile=wide, dpi=(300, 300))
    with PilImage.open(io.BytesIO(through(data, target, keep_metadata=False))) as answer:
        assert not {tag for tag in answer.getexif() if tag in (0x010F, 0x8298, 0x8769, 0x011A)}
        assert answer.info.get("icc_profile") == (None if target == BMP else wide)
        assert answer.info.get("dpi", (1, 1))[0] < 100


@pytest.mark.parametrize("source", [JPEG, PNG, TIFF, BMP], ids=lambda known: known.name)
@pytest.mark.parametrize("target", [JPEG, PNG, TIFF, BMP], ids=lambda known: known.name)
def test_the_resolution_is_kept(source: ImageFormat, target: ImageFormat) -> None:
    data = by_pillow(PilImage.fromarray(SCENE), source.name, dpi=(300, 200))
    with PilImage.open(io.BytesIO(through(data, target))) as answer:
        assert tuple(round(value) for value in answer.info["dpi"]) == (300, 200)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II",
        b"rubbish, and a lot of it",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\1\0\0\0\6\0\0\0",
        b"MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\0",
        b"II*\0\x08\0\0\0\2\0"
        + b"\x0f\x01\x02\0\xff\xff\xff\xff\x08\0\0\0"
        + b"\x69\x87\x04\0\1\0\0\0\0\0\0\0",
    ],
    ids=["empty", "short", "rubbish", "outside", "cut", "in itself", "huge value"],
)
@pytest.mark.parametrize("source", [JPEG, PNG, WEBP], ids=lambda known: known.name)
def test_broken_exif_harms_nothing(source: ImageFormat, exif: bytes) -> None:
    options = {"lossless": True} if source == WEBP else {}
    data = by_pillow(PilImage.fromarray(SCENE), source.name, exif=b"Exif\0\0" + exif, **options)
    photo = photo_of(data)
    assert sorted(photo.image.shape) == [3, HEIGHT, WIDTH]
    for target in WRITABLE:
        assert encode_photo(photo, target)


def test_the_colours_of_a_png_without_a_profile_stay_told() -> None:
    gamma, chromaticities = struct.pack(">I", 100_000), struct.pack(">8I", *range(31_270, 31_278))
    data = with_chunks(png_of(samples(3, np.uint8)), gAMA=gamma, cHRM=chromaticities)
    with PilImage.open(io.BytesIO(through(data))) as answer:
        assert answer.info["gamma"] == 1
        assert answer.info["chromaticity"][0] == 0.3127


def test_alpha_stays_and_hidden_colours_too() -> None:
    for dtype in (np.uint8, np.uint16):
        array = samples(4, dtype)
        photo = derain_photo(examining(inverse), photo_of(png_of(array))).photo
        answer = read(encode_photo(photo, PNG), PNG)
        hidden = array[..., 3] == 0
        assert hidden.any()
        assert np.array_equal(answer[hidden], array[hidden])
        assert np.array_equal(answer[~hidden][:, :3], ~array[~hidden][:, :3])
        assert np.array_equal(answer[..., 3], array[..., 3])


def test_hidden_colours_survive_in_lossless_webp() -> None:
    array = samples(4, np.uint8)
    assert np.array_equal(read(through(png_of(array), WEBP, lossless=True), WEBP), array)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_transparent_level_of_gray(depth: int) -> None:
    levels = 2**depth
    level = levels - 1 if depth < 8 else 100
    packed = np.array([level * 0, level, level], np.uint16)
    bits = "".join(f"{value:0{depth}b}" for value in packed).ljust(64, "0")
    row = int(bits, 2).to_bytes(8, "big")[: -(-3 * depth // 8)]
    data = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, depth, 0, 0, 0, 0))
        + png_chunk(b"tRNS", struct.pack(">H", level))
        + png_chunk(b"IDAT", zlib.compress(b"\0" + row))
        + png_chunk(b"IEND", b"")
    )
    photo = photo_of(data)
    most = np.iinfo(photo.image.dtype).max
    assert photo.is_gray
    assert photo.alpha is not None
    assert photo.alpha.tolist() == [[most, 0, 0]]
    assert photo.image[0, 0].tolist() == [0, 0, 0]


def test_a_palette_with_transparency() -> None:
    image = PilImage.fromarray(SCENE).quantize(16)
    data = by_pillow(image, "PNG", transparency=bytes([0, 100, 200]))
    with PilImage.open(io.BytesIO(data)) as opened:
        wanted = np.asarray(opened.convert("RGBA"))
    assert np.array_equal(read(through(data), PNG), wanted)


@pytest.mark.parametrize("pillow_format", ["PNG", "TIFF", "BMP"])
def test_black_and_white_stays_so(pillow_format: str) -> None:
    image = PilImage.fromarray(SCENE).convert("1")
    photo = photo_of(by_pillow(image, pillow_format))
    assert np.array_equal(photo.image[..., 0], np.asarray(image.convert("L")))
    with PilImage.open(io.BytesIO(encode_photo(photo, PNG))) as answer:
        assert answer.mode == "1"


def test_gray_stays_gray_whatever_the_network_makes_of_it() -> None:
    def reddens(image: AnyImage) -> AnyImage:
        reddened: AnyImage = np.minimum(image, np.array([255, 100, 0], image.dtype))
        return reddened

    photo = derain_photo(examining(reddens), photo_of(png_of(samples(1, np.uint8)))).photo
    assert (photo.image == photo.image[..., :1]).all()
    with PilImage.open(io.BytesIO(encode_photo(photo, JPEG))) as answer:
        assert answer.mode == "L"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
def test_strength_goes_from_what_came_in_to_the_result(dtype: DTypeLike) -> None:
    photo = photo_of(png_of(samples(3, dtype)))
    image = photo.image.astype(float)
    for strength in (0, 0.25, 0.5, 1):
        wanted = image * (1 - strength) + (np.iinfo(dtype).max - image) * strength
        got = derain_photo(examining(inverse), photo, strength).photo.image
        assert got.dtype == dtype
        assert np.abs(got - wanted).max() <= (0 if strength in (0, 1) else 0.5)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            derain_photo(examining(same), photo, wrong)


def test_the_network_keeps_more_than_8_bits(engine: Engine) -> None:
    eight = SCENE
    deep = eight.astype(np.uint16) * 257
    derained = engine.derain(deep)
    assert derained.dtype == np.uint16
    assert np.abs(derained / 257 - engine.derain(eight)).max() < 0.51
    assert len(np.unique(derained)) > 1000
    finer = engine.derain(deep + 1)
    assert (finer != derained).any()


def test_quality_says_how_colour_is_kept() -> None:
    photo = photo_of(png_of(samples(3, np.uint8)))
    sampling = {}
    for quality in (None, 90, 89):
        with PilImage.open(io.BytesIO(encode_photo(photo, JPEG, quality))) as answer:
            sampling[quality] = JpegImagePlugin.get_sampling(answer)
    assert sampling == {None: 0, 90: 0, 89: 2}  # 4:4:4 and 4:2:0
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    for target in (JPEG, WEBP, AVIF):
        sizes = [len(encode_photo(photo_of(png_of(noise)), target, quality)) for quality in (20, 60, 100)]
        assert sizes == sorted(sizes)
        for wrong in (0, 101):
            with pytest.raises(ValueError, match="between 1 and 100"):
                encode_photo(photo, target, wrong)


@named
def test_without_loss(target: ImageFormat) -> None:
    photo = photo_of(png_of(samples(3, np.uint8)))
    if target.can_be_lossless:
        assert np.array_equal(read(encode_photo(photo, target, lossless=True), target), photo.image)
    else:
        with pytest.raises(UnsupportedFormatError, match=f"{target.name} cannot be written without loss"):
            encode_photo(photo, target, lossless=True)


def test_heic_is_read_and_answered_in_jpeg() -> None:
    photo = photo_of((IMAGES / "turned.heic").read_bytes())
    assert photo.format == HEIC
    # Held with its top to the left, which the file says twice: in a box, and in the EXIF.
    assert np.abs(photo.image - np.rot90(SCENE, -1).astype(int)).mean() < 2
    with PilImage.open(io.BytesIO(encode_photo(photo, HEIC.answer_format))) as answer:
        assert answer.format == "JPEG"
        assert answer.getexif()[0x010F] == "Rain"
        assert answer.getexif()[0x0112] == 1
        assert not answer.getexif().get_ifd(0x8825)
        assert len(answer.info["icc_profile"]) == 588
    with pytest.raises(UnsupportedFormatError, match="HEIC can be read, but not written"):
        encode_photo(photo, HEIC)
    alpha = photo_of((IMAGES / "alpha.heic").read_bytes()).alpha
    assert alpha is not None
    assert np.abs(alpha - np.linspace(0, 255, WIDTH)).max() < 4


def jpeg_of(mode: str) -> bytes:
    return by_pillow(PilImage.fromarray(SCENE).convert(mode), "JPEG")


def moving(pillow_format: str) -> bytes:
    still = PilImage.fromarray(SCENE)
    return by_pillow(still, pillow_format, save_all=True, append_images=[PilImage.fromarray(~SCENE)])


def tiff_in(**options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (jpeg_of("CMYK"), "CMYK is not supported: convert it to RGB"),
        (jpeg_of("L").replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc1\0\x0b\x0c"), "a JPEG of 12 bits"),
        (
            jpeg_of("L").replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc3\0\x0b\x08"),
            "a lossless or hierarchical JPEG",
        ),
        (by_pillow(PilImage.fromarray(SCENE).convert("CMYK"), "TIFF"), "CMYK is not supported in TIFF"),
        (by_pillow(PilImage.fromarray(SCENE).convert("LAB"), "TIFF"), r"L\*a\*b\* is not supported in TIFF"),
        (by_pillow(PilImage.fromarray(SCENE).convert("F"), "TIFF"), "floating point in TIFF"),
        (by_pillow(PilImage.fromarray(SCENE).convert("I"), "TIFF"), "signed numbers in TIFF"),
        (tiff_in(data=np.zeros((9, 9), np.uint32), photometric="minisblack"), "a TIFF of 32 bits a sample"),
        (tiff_in(data=np.zeros((9, 9, 9), np.uint8), photometric="rgb"), "a TIFF of 9 samples a pixel"),
        *[(moving(name), "several frames or pages") for name in ("WEBP", "PNG", "AVIF", "TIFF")],
        (moving("GIF"), r"GIF is not supported \(JPEG, PNG, WebP, TIFF, BMP, AVIF, HEIC are\)"),
        (by_pillow(PilImage.fromarray(SCENE), "JPEG2000"), "JPEG 2000 is not supported"),
        (b"\xff\x0a rest", "JPEG XL is not supported"),
        (b"8BPS rest", "Photoshop is not supported"),
        ((IMAGES / "hdr.heic").read_bytes(), "code points 9/16: HDR or wide gamut without an ICC profile"),
    ],
)
def test_what_would_not_come_back_right_is_refused_with_words(data: bytes, said: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=said):
        photo_of(data)


def test_a_thumbnail_is_no_second_page() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(SCENE, photometric="rgb")
        writer.write(SCENE[::4, ::4], photometric="rgb", subfiletype=1)
    assert np.array_equal(read(through(file.getvalue(), PNG), PNG), SCENE)


def overlapping_tags(entries: int, size: int) -> bytes:
    """Each claims the whole block."""
    tags = b"".join(struct.pack("<HHII", 700 + number, 7, size, 0) for number in range(entries))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + tags).ljust(size, b"\0")


def scans(count: int, progressive: bool = True) -> bytes:
    """A JPEG, and its last scan again and again."""
    data = by_pillow(PilImage.new("L", (2000, 2000)), "JPEG", progressive=progressive)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def huge_tiles() -> bytes:
    data = tiff_of(samples(3, np.uint8), tile=(16, 16))
    for tag in (322, 323):
        data = data.replace(struct.pack("<HHII", tag, 4, 1, 16), struct.pack("<HHII", tag, 4, 1, 2**20))
    return data


def bomb_in_png(**chunks: bytes) -> bytes:
    return with_chunks(png_of(samples(3, np.uint8)), **chunks)


def bomb_in_exif(pillow_format: str) -> bytes:
    exif = overlapping_tags(60_000, 2**20) if pillow_format != "JPEG" else overlapping_tags(5_000, 65_000)
    return by_pillow(PilImage.fromarray(SCENE), pillow_format, exif=b"Exif\0\0" + exif)


BOMBS: dict[str, Callable[[], bytes]] = {
    "profile": lambda: bomb_in_png(iCCP=b"a\0\0" + zlib.compress(bytes(200 * 2**20))),
    "text": lambda: bomb_in_png(zTXt=b"a\0\0" + zlib.compress(bytes(200 * 2**20))),
    "exif in png": lambda: bomb_in_png(eXIf=overlapping_tags(60_000, 2**20)),
    "exif in webp": lambda: bomb_in_exif("WEBP"),
    "exif in jpeg": lambda: bomb_in_exif("JPEG"),
    "exif in avif": lambda: by_pillow(PilImage.fromarray(SCENE), "AVIF") + overlapping_tags(60_000, 2**20),
    "tags": lambda: overlapping_tags(60_000, 2**20),
    "tiles": huge_tiles,
    "scans": lambda: scans(1000),
    "segments": lambda: b"\xff\xd8" + b"\xff\xe0\0\x02" * 5_000_000 + jpeg_of("RGB")[2:],
    "stray markers": lambda: b"\xff\xd8" + b"\xff\xe0\0\x02" + b"\xff\0" * 5_000_000 + jpeg_of("RGB")[2:],
    "chunks in png": lambda: bomb_in_png(tEXt=b"")[:33] + png_chunk(b"tEXt", b"") * 2_000_000,
    "scans of all": lambda: scans(1000, progressive=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_neither_time_nor_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[name]())
    code = (
        "import pathlib, resource, sys\n"
        "from derain.errors import ImageError\n"
        "from derain.images.header import read_header\n"
        "from derain.images.encoding import encode_photo\n"
        "from derain.images.photo import decode_photo\n"
        f"usage = lambda: ({PEAK_KB}, resource.getrusage(resource.RUSAGE_SELF).ru_utime)\n"
        "peak_kb, seconds = usage()\n"
        "data = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "try:\n"
        "    photo = decode_photo(data, read_header(data))\n"
        "    encode_photo(photo, photo.format)\n"
        "except ImageError: pass\n"
        "print(usage()[0] - peak_kb, usage()[1] - seconds)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    grown_kb, seconds = map(float, run.stdout.split())
    assert grown_kb < 100_000
    assert seconds < 5  # of the processor: half a minute and more where it explodes


@pytest.mark.parametrize("name", ["tags", "tiles", "scans"])
def test_what_is_no_image_but_a_bomb_is_refused(name: str) -> None:
    with pytest.raises((CorruptImageError, UnsupportedFormatError)):
        read_header(BOMBS[name]())


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    target=st.sampled_from(WRITABLE),
    seed=st.integers(0, 99),
)
def test_any_size_of_any_kind(
    height: int, width: int, channels: int, dtype: DTypeLike, target: ImageFormat, seed: int
) -> None:
    most = np.iinfo(dtype).max
    array = np.random.default_rng(seed).integers(0, most, (height, width, channels), dtype, endpoint=True)
    if channels in (2, 4):
        array[0, 0, -1] = most // 2  # WebP keeps no alpha that is opaque everywhere
    answer = read(through(tiff_of(array, planarconfig=None), target), target)
    wanted = expected(array, target)
    assert (answer.shape, answer.dtype) == (wanted.shape, wanted.dtype)
    if target in EXACT:
        assert np.array_equal(answer, wanted)


SEEDS = [
    *[encode_photo(photo_of(png_of(samples(4, np.uint8)[:6, :9])), known) for known in WRITABLE],
    *[tiff_of(samples(number, np.uint16)[:6, :9]) for number in (2, 3)],
    by_pillow(PilImage.fromarray(SCENE[:6, :9]), "JPEG", exif=rich_exif("<")),
    (IMAGES / "turned.heic").read_bytes(),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # it warns of what it then raises
@settings(deadline=None, max_examples=300)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    end=st.none() | st.integers(1, 2000),
)
def test_damaged_bytes_raise_nothing_but_image_errors(
    seed: bytes, changes: list[tuple[int, int]], end: int | None
) -> None:
    data = damaged(seed, changes, end)
    try:
        photo = decode_photo(data, read_header(data, max_pixels=100_000))
    except ImageError as error:
        assert str(error)
        assert "0x" not in str(error)
    else:
        for target in WRITABLE:
            assert encode_photo(photo, target)


def test_a_heic_that_crashes_its_decoder_is_a_damaged_one() -> None:
    # The type of its EXIF is no text, which the library does not expect.
    data = (IMAGES / "turned.heic").read_bytes().replace(b"Exif", b"\xff\xfe\xfd\xfc", 1)
    with pytest.raises(CorruptImageError, match="the HEIC image is damaged"):
        photo_of(data)
