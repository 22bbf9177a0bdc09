"""An answer in the format that came is coded as the file was, so that it does not grow."""

import io
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw, JpegImagePlugin

from derain.arrays import AnyImage
from derain.images.codecs import jpeg, webp
from derain.images.encoding import encode_photo
from derain.images.formats import AVIF, BMP, JPEG, PNG, TIFF, WEBP
from derain.images.header import read_header
from derain.images.palette import fit
from derain.images.photo import Photo, decode_photo, derain_photo
from tests.conftest import examining, noise, scene
from tests.derain.images.test_plain import by_pillow

HEIGHT, WIDTH = 300, 400


def drawing(colours: int) -> PilImage.Image:
    """Lines of text and shapes, of so many colours."""
    image = PilImage.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    for line in range(20):
        draw.text((10, 14 * line), f"{line}: the rain in Spain stays mainly in the plain", fill=(20, 20, 60))
    for number in range(colours):
        at = (number % 16 * 24, 100 + number // 16 * 12)
        fill = (number * 37 % 256, number * 101 % 256, number)
        draw.rectangle((*at, at[0] + 20, at[1] + 9), fill=fill)
    return image.quantize(colours, dither=PilImage.Dither.NONE)


def photo_of(data: bytes) -> Photo:
    return decode_photo(data, read_header(data))


def same(image: AnyImage) -> AnyImage:
    return image


def dry(data: bytes, **options: Any) -> bytes:
    photo = derain_photo(examining(same), photo_of(data)).photo
    return encode_photo(photo, photo.format, **options)


def opened(data: bytes) -> PilImage.Image:
    image = PilImage.open(io.BytesIO(data))
    image.load()
    return image


def values(data: bytes) -> NDArray[Any]:
    return np.asarray(opened(data).convert("RGBA"))


@pytest.mark.parametrize("colours", [2, 4, 16, 64, 256])
def test_a_palette_stays_one(colours: int) -> None:
    data = by_pillow(drawing(colours), "PNG", optimize=True)
    answer = dry(data)
    assert opened(answer).mode == "P"
    assert answer[24:26] == data[24:26]  # as many bits, and a palette
    assert np.array_equal(values(answer), values(data))
    assert len(answer) <= 1.4 * len(data)


def test_a_palette_with_transparency_stays_one() -> None:
    alpha = bytes([0, 40, 200]) + bytes([255]) * 61
    data = by_pillow(drawing(64), "PNG", transparency=alpha, optimize=True)
    answer = dry(data)
    assert opened(answer).mode == "P"
    assert np.array_equal(values(answer), values(data))
    assert len(answer) <= 1.4 * len(data)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_levels_of_gray_stay_few(bits: int) -> None:
    levels = np.asarray(drawing(64).convert("L"), np.uint8) >> np.uint8(8 - bits)
    packed = np.packbits(np.unpackbits(levels[..., None], axis=2)[..., -bits:].reshape(HEIGHT, -1), axis=1)
    image = PilImage.frombytes("L", packed.shape[::-1], packed.tobytes())
    data = bytearray(by_pillow(image, "PNG", optimize=True))
    data[16:26] = WIDTH.to_bytes(4, "big") + HEIGHT.to_bytes(4, "big") + bytes([bits, 0])
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    photo = photo_of(bytes(data))
    answer = encode_photo(photo, PNG)
    assert answer[24:26] == bytes([bits, 0])
    assert np.array_equal(photo_of(answer).image, photo.image)
    assert len(np.unique(photo.image)) == 2**bits
    assert len(answer) <= 1.4 * len(data)


def slightly(image: AnyImage) -> AnyImage:
    """Two colours that were not there."""
    changed = image.copy()
    changed[20:40, 20:40] = (1, 2, 3)
    changed[60:80, 20:40] = (3, 2, 1)
    return changed


def thoroughly(image: AnyImage) -> AnyImage:
    """More colours than a palette has, in a part of it."""
    changed = image.copy()
    changed[100:200] = noise(100, WIDTH)
    return changed


def test_what_still_fits_a_palette_is_exact() -> None:
    photo = derain_photo(examining(slightly), photo_of(by_pillow(drawing(64), "PNG"))).photo
    answer = encode_photo(photo, PNG)
    assert opened(answer).mode == "P"
    assert np.array_equal(values(answer)[..., :3], photo.image)


def test_what_does_not_fit_takes_the_palettes_nearest_colours() -> None:
    data = by_pillow(drawing(64), "PNG", optimize=True)
    photo = derain_photo(examining(thoroughly), photo_of(data)).photo
    answer = encode_photo(photo, PNG)
    got = values(answer)[..., :3].astype(int)
    assert opened(answer).mode == "P"
    assert np.array_equal(got[:100], photo.image[:100])
    assert np.array_equal(got[200:], photo.image[200:])
    known = np.unique(values(data)[..., :3].reshape(-1, 3), axis=0).astype(int)
    part = photo.image[100:200].reshape(-1, 1, 3).astype(int)
    best = np.sqrt(((part - known) ** 2).sum(axis=2).min(axis=1))
    apart = np.sqrt(((part[:, 0] - got[100:200].reshape(-1, 3)) ** 2).sum(axis=1))
    assert (apart - best).max() < 16  # it is looked for in steps of eight levels
    assert len(answer) < WIDTH * HEIGHT  # a byte a pixel


def test_transparency_never_changes_for_a_colour() -> None:
    alpha = bytes([0, 40, 200]) + bytes([255]) * 61
    photo = photo_of(by_pillow(drawing(64), "PNG", transparency=alpha))
    answer = encode_photo(derain_photo(examining(thoroughly), photo).photo, PNG)
    assert photo.alpha is not None
    assert np.array_equal(values(answer)[..., 3], photo.alpha)


def test_a_palette_in_another_format_is_written_in_full() -> None:
    photo = photo_of(by_pillow(drawing(64), "PNG"))
    for target in (JPEG, WEBP, AVIF):
        assert opened(encode_photo(photo, target)).mode == "RGB"


@pytest.mark.parametrize(("mode", "bits"), [("1", 1), ("P", 4), ("P", 8)])
@pytest.mark.parametrize("kind", [TIFF, BMP], ids=["TIFF", "BMP"])
def test_tiff_and_bmp_keep_their_palettes(kind: Any, mode: str, bits: int) -> None:
    image = drawing(16 if bits == 4 else 256)
    if mode == "1":
        image = image.convert("1", dither=PilImage.Dither.NONE)
    options = {"compression": "tiff_lzw"} if kind == TIFF else {}
    data = by_pillow(image, kind.name, **options)
    answer = dry(data)
    assert opened(answer).mode == mode
    assert np.array_equal(values(answer), values(data))
    assert len(answer) <= 1.5 * len(data)
    if kind == BMP:
        assert int.from_bytes(answer[28:30], "little") == bits


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
@pytest.mark.parametrize("kind", [PNG, TIFF], ids=["PNG", "TIFF"])
def test_what_is_drawn_in_full_colours_stays_so_and_small(mode: str, kind: Any) -> None:
    options = {"compression": "tiff_adobe_deflate"} if kind == TIFF else {"optimize": True}
    data = by_pillow(drawing(64).convert("RGB").convert(mode), kind.name, **options)
    answer = dry(data)
    assert opened(answer).mode == mode
    assert np.array_equal(values(answer), values(data))
    assert len(answer) <= 1.7 * len(data)


def test_a_palette_of_any_colours_and_any_image() -> None:
    """Whatever is known beforehand, an exact one fits exactly."""
    rng = np.random.default_rng(0)
    for channels in (1, 2, 3, 4):
        palette = rng.integers(0, 256, (200, channels), np.uint8)
        samples = palette[rng.integers(0, 200, (50, 70))]
        indexed = fit(samples, palette)
        assert np.array_equal(indexed.palette[indexed.indices], samples)


@pytest.mark.parametrize("kind", [WEBP, AVIF], ids=["WebP", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_without_loss_in_without_loss_out(kind: Any, mode: str) -> None:
    pixels = np.concatenate([scene(64, 96), noise(64, 96)[..., :1]], axis=2)[..., : len(mode)]
    photo = photo_of(by_pillow(PilImage.fromarray(pixels), "PNG"))
    data = encode_photo(photo, kind, lossless=True)
    assert np.array_equal(np.asarray(opened(data)), pixels)
    assert np.array_equal(np.asarray(opened(dry(data))), pixels)
    assert not np.array_equal(np.asarray(opened(dry(data, quality=80))), pixels)
    assert not np.array_equal(np.asarray(opened(encode_photo(photo, kind))), pixels)
    lossy = encode_photo(photo, kind, quality=70)
    assert not np.array_equal(np.asarray(opened(dry(lossy))), np.asarray(opened(lossy)))


def test_gray_avif_without_loss_stays_so() -> None:
    gray = noise(64, 96)[..., 0]
    data = encode_photo(photo_of(by_pillow(PilImage.fromarray(gray), "PNG")), AVIF, lossless=True)
    with_gray = opened(dry(data))
    assert with_gray.mode == "L"
    assert np.array_equal(np.asarray(with_gray), gray)


def test_a_lossless_screenshot_does_not_grow() -> None:
    data = by_pillow(drawing(64).convert("RGB"), "WEBP", lossless=True, quality=100)
    assert len(dry(data)) <= 1.5 * len(data)


def test_avif_without_loss_keeps_profile_and_exif() -> None:
    exif = PilImage.Exif()
    exif[0x010F], exif[0x0112] = "Rain", 6
    data = by_pillow(PilImage.fromarray(scene(64, 96)), "PNG", exif=exif)
    answer = opened(encode_photo(photo_of(data), AVIF, lossless=True))
    assert answer.getexif()[0x010F] == "Rain"
    assert answer.getexif().get(0x0112, 1) == 1
    assert answer.size == (64, 96)


def photograph() -> PilImage.Image:
    grain = cv2.GaussianBlur(noise(320, 480), (0, 0), 1.2).astype(int) // 2
    return PilImage.fromarray((scene(320, 480) // 2 + grain).astype(np.uint8))


@pytest.mark.parametrize(
    ("quality", "answered"), [(40, 85), (75, 85), (85, 85), (90, 90), (95, 95), (98, 98), (100, 98)]
)
def test_a_jpeg_has_about_the_quality_it_came_with(quality: int, answered: int) -> None:
    data = by_pillow(photograph(), "JPEG", quality=quality)
    answer = dry(data)
    assert jpeg.read_header(answer).quality == answered
    if quality >= 85:
        assert len(answer) <= 1.1 * len(data)


@pytest.mark.parametrize("quality", [60, 85, 90, 95])
@pytest.mark.parametrize(
    "make", [photograph, lambda: drawing(64).convert("RGB")], ids=["photograph", "drawing"]
)
def test_a_webp_has_about_the_quality_it_came_with(make: Callable[[], PilImage.Image], quality: int) -> None:
    data = by_pillow(make(), "WEBP", quality=quality)
    found = webp.quality(data)
    assert found is not None
    assert abs(found - quality) <= (12 if quality < 80 else 3)
    answer = dry(data)
    if quality >= 85:
        assert len(answer) <= 1.25 * len(data)
    else:
        assert len(answer) < len(encode_photo(photo_of(data), WEBP, WEBP.quality))


@pytest.mark.parametrize("quality", [50, 60, 75, 80, 90, 95])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0", "4:0:0"])
def test_an_avif_has_about_the_quality_it_came_with(quality: int, sampling: str) -> None:
    image = photograph().convert("L") if sampling == "4:0:0" else photograph()
    data = by_pillow(image, "AVIF", quality=quality, subsampling=sampling, speed=9)
    coding = photo_of(data).coding
    assert coding.quality is not None
    assert abs(coding.quality - quality) <= 1
    answer = dry(data)
    found = photo_of(answer).coding
    assert found.quality is not None
    assert abs(found.quality - max(75, quality)) <= 1
    assert found.colour_step == coding.colour_step
    if quality >= 75:
        assert len(answer) <= 1.1 * len(data)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 130), (1000, 3), (1500, 1100)])
@pytest.mark.parametrize("rows", [0, 2])
def test_the_quality_of_an_avif_of_any_size_and_tiles(size: tuple[int, int], rows: int) -> None:
    image = PilImage.new("RGB", size, (90, 120, 30))
    data = by_pillow(image, "AVIF", quality=70, speed=10, tile_rows=rows, tile_cols=rows)
    found = photo_of(data).coding.quality
    assert found is not None
    assert abs(found - 70) <= 1


def test_a_webp_without_segments_tells_its_quality() -> None:
    assert webp.quality(by_pillow(photograph(), "WEBP", quality=100)) == 100
    assert webp.quality(by_pillow(PilImage.new("RGB", (1, 1)), "WEBP", quality=90)) is not None
    assert webp.quality(by_pillow(photograph(), "WEBP", lossless=True)) is None


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [75, 95])
def test_colours_are_as_fine_as_they_were(sampling: str, quality: int) -> None:
    data = by_pillow(photograph(), "JPEG", quality=quality, subsampling=sampling)
    names = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
    assert names[JpegImagePlugin.get_sampling(opened(dry(data)))] == sampling


def test_colours_of_a_turned_image_are_no_coarser() -> None:
    exif = PilImage.Exif()
    exif[0x0112] = 6
    data = by_pillow(photograph(), "JPEG", subsampling="4:2:2", exif=exif)
    assert JpegImagePlugin.get_sampling(opened(dry(data))) == 0  # there is no 4:4:0 to be written


@pytest.mark.parametrize(("factors", "written"), [(0x411111, 1), (0x121111, 0)], ids=["4:1:1", "4:4:0"])
def test_what_cannot_be_written_is_kept_finer(factors: int, written: int) -> None:
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors]
    data = cv2.imencode(".jpg", np.asarray(photograph()), options)[1].tobytes()
    assert JpegImagePlugin.get_sampling(opened(dry(data))) == written


def test_a_quality_that_is_asked_for_is_given() -> None:
    data = by_pillow(photograph(), "JPEG", quality=75, subsampling="4:2:0")
    answer = dry(data, quality=92)
    assert jpeg.read_header(answer).quality == 92
    assert JpegImagePlugin.get_sampling(opened(answer)) == 0


def test_another_format_has_its_own_quality() -> None:
    photo = photo_of(by_pillow(photograph(), "PNG"))
    assert jpeg.read_header(encode_photo(photo, JPEG)).quality == 95
