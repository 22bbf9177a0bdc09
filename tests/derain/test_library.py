import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, assert_type

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageCms
from PIL.ExifTags import Base as ExifTag

from derain import DerainedImage, Derainer, DerainError, derain
from derain.images.formats import PNG
from derain.images.plain import decode, encode, read_image
from derain.inference.engine import Engine
from tests.conftest import ROOT, noise, scene, write_estimating

HEIC = ROOT / "tests" / "derain" / "images" / "files" / "turned.heic"


@pytest.fixture(scope="module")
def derainer(model: Path) -> Iterator[Derainer]:
    with Derainer(model, provider="cpu", threads=2) as derainer:
        yield derainer


@pytest.fixture
def rainy(tmp_path: Path) -> Path:
    path = tmp_path / "rainy.png"
    path.write_bytes(encode(noise(20, 30), PNG))
    return path


def pillow_bytes(image: PilImage.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


@cache
def profile() -> bytes:
    """One, for it has the second in which it was made."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int) -> PilImage.Exif:
    tags = PilImage.Exif()
    tags[ExifTag.Orientation] = orientation
    tags[ExifTag.Artist] = "Ann"
    return tags


# Paths


def test_three_lines(model: Path, engine: Engine, rainy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are typed, but for the model."""
    monkeypatch.chdir(rainy.parent)
    derain("rainy.png", model=model).save("clean.png")
    assert np.array_equal(read_image(Path("clean.png")), engine.derain(noise(20, 30)))


def test_an_image_of_a_file_knows_what_it_is(derainer: Derainer, rainy: Path) -> None:
    image = derainer.derain(rainy)
    assert (image.size, image.format, repr(image)) == ((30, 20), "PNG", "<DerainedImage PNG 30x20>")
    assert np.asarray(image).shape == (20, 30, 3)
    assert np.array_equal(decode(image.to_bytes())[0], np.asarray(image))
    assert np.array_equal(decode(image._repr_png_())[0], np.asarray(image))
    assert np.array_equal(np.asarray(image.to_pil()), np.asarray(image))


def test_a_file_is_saved_as_its_suffix_says(derainer: Derainer, rainy: Path) -> None:
    image = derainer.derain(rainy)
    for name, known in [("a.JPG", "JPEG"), ("b.webp", "WEBP"), ("c.tif", "TIFF"), ("d.avif", "AVIF")]:
        image.save(rainy.with_name(name))
        with PilImage.open(rainy.with_name(name)) as saved:
            assert (saved.format, saved.size) == (known, (30, 20))
    small, large = (len(image.to_bytes("jpeg", quality=quality)) for quality in (20, 100))
    assert small < large
    assert np.array_equal(decode(image.to_bytes("webp", lossless=True))[0], np.asarray(image))


def test_a_file_keeps_profile_and_exif_and_comes_back_upright(derainer: Derainer, tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    PilImage.fromarray(scene(20, 30)).save(path, exif=exif(6), icc_profile=profile())
    image = derainer.derain(path)
    assert image.size == (20, 30)
    image.save(tmp_path / "clean.jpg")
    with PilImage.open(tmp_path / "clean.jpg") as saved:
        assert saved.size == (20, 30)
        assert saved.getexif()[ExifTag.Artist] == "Ann"
        assert saved.getexif().get(ExifTag.Orientation, 1) == 1
        assert saved.info["icc_profile"] == profile()
    assert image.to_pil().getexif()[ExifTag.Artist] == "Ann"
    assert image.to_pil().info["icc_profile"] == profile()
    image.save(tmp_path / "bare.jpg", keep_metadata=False)
    with PilImage.open(tmp_path / "bare.jpg") as saved:
        assert (dict(saved.getexif()), saved.info["icc_profile"]) == ({}, profile())


def test_a_file_keeps_16_bits_gray_and_alpha(derainer: Derainer, tmp_path: Path) -> None:
    deep = noise(20, 30).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    cv2.imwrite(str(tmp_path / "gray.png"), deep[..., 0])
    derainer.derain(tmp_path / "deep.png").save(tmp_path / "clean.png")
    saved = cv2.imread(str(tmp_path / "clean.png"), cv2.IMREAD_UNCHANGED)
    assert saved is not None
    assert np.array_equal(saved[..., ::-1], derainer.derain(np.ascontiguousarray(deep[..., ::-1])))
    gray = derainer.derain(tmp_path / "gray.png")
    assert np.asarray(gray).dtype == np.uint16
    assert np.asarray(gray).shape == (20, 30)
    assert gray.to_pil().mode == "I;16"


# Bytes


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_come_back_in_their_format(derainer: Derainer, form: str, kind: type) -> None:
    data = pillow_bytes(PilImage.fromarray(scene(20, 30)), format=form)
    answer = derainer.derain(kind(data))
    assert type(answer) is bytes
    with PilImage.open(io.BytesIO(answer)) as image:
        assert (image.format, image.size) == (form, (30, 20))


def test_heic_comes_back_as_jpeg(derainer: Derainer) -> None:
    answer = derainer.derain(HEIC.read_bytes())
    assert PilImage.open(io.BytesIO(answer)).format == "JPEG"


# Pillow images


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pillow_images_keep_their_mode(derainer: Derainer, mode: str) -> None:
    samples = noise(20, 30)
    channels: dict[str, NDArray[Any]] = {
        "L": samples[..., 0],
        "LA": samples[..., :2],
        "RGB": samples,
        "RGBA": np.dstack([samples, samples[..., 0]]),
        "I;16": samples[..., 0].astype(np.uint16) * 257,
    }
    image = PilImage.fromarray(np.ascontiguousarray(channels[mode]))
    derained = derainer.derain(image)
    assert (derained.mode, derained.size) == (mode, (30, 20)) == (image.mode, image.size)
    assert np.array_equal(np.asarray(derained), derainer.derain(np.asarray(image)))
    assert not np.array_equal(np.asarray(derained), np.asarray(image))


@pytest.mark.parametrize(
    ("mode", "returned"), [("1", "L"), ("P", "RGB"), ("RGBX", "RGB"), ("YCbCr", "RGB"), ("RGBa", "RGBA")]
)
def test_other_pillow_modes_return_the_nearest(derainer: Derainer, mode: str, returned: str) -> None:
    image = PilImage.fromarray(scene(20, 30)).convert("RGBA" if mode == "RGBa" else "RGB").convert(mode)
    derained = derainer.derain(image)
    assert derained.mode == returned
    assert np.array_equal(np.asarray(derained), derainer.derain(np.asarray(image.convert(returned))))


@pytest.mark.parametrize(("mode", "returned"), [("L", "LA"), ("RGB", "RGBA"), ("P", "RGBA")])
def test_a_transparent_colour_becomes_alpha(derainer: Derainer, mode: str, returned: str) -> None:
    """Or, of what was derained, other places would have that colour."""
    image = PilImage.new(mode, (30, 20))
    image.paste(100 if mode != "RGB" else (100, 100, 100), (5, 5, 25, 15))
    image.info["transparency"] = (0, 0, 0) if mode == "RGB" else 0
    derained = derainer.derain(image)
    assert (derained.mode, "transparency" in derained.info) == (returned, False)
    alpha = np.asarray(derained)[..., -1]
    assert (alpha[0, 0], alpha[10, 10]) == (0, 255)
    assert "transparency" in image.info


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_images_are_derained_upright_and_keep_size_and_info(
    derainer: Derainer, orientation: int
) -> None:
    data = pillow_bytes(
        PilImage.fromarray(noise(20, 30)), format="PNG", exif=exif(orientation), icc_profile=profile()
    )
    image = PilImage.open(io.BytesIO(data))
    derained = derainer.derain(image)
    assert (derained.size, derained.mode) == (image.size, image.mode)
    assert derained.getexif() == image.getexif()
    assert derained.info == image.info
    # A file of the same pixels is turned by other code than this.
    upright = derainer.derain(data)
    saved = pillow_bytes(derained, format="PNG", exif=derained.getexif())
    assert np.array_equal(decode(saved)[0], decode(upright)[0])


# Arrays


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_rgb_array(derainer: Derainer, engine: Engine, dtype: type[np.uint8 | np.uint16]) -> None:
    image: NDArray[Any] = noise(20, 30).astype(dtype) * (np.iinfo(dtype).max // 255)
    before = image.copy()
    derained = derainer.derain(image)
    assert derained.dtype == dtype
    assert np.array_equal(derained, engine.derain(image))
    assert np.array_equal(image, before)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 2)])
def test_a_gray_array(derainer: Derainer, engine: Engine, shape: tuple[int, ...]) -> None:
    image = noise(20, 30)[..., : shape[2] if len(shape) > 2 else 1].reshape(shape)
    derained = derainer.derain(image)
    assert derained.shape == shape
    as_colour = engine.derain(np.repeat(noise(20, 30)[..., :1], 3, axis=2))
    expected = cv2.cvtColor(as_colour, cv2.COLOR_RGB2GRAY)
    if len(shape) == 3 and shape[2] == 2:
        assert np.array_equal(derained[..., 1], image[..., 1])
        expected = np.where(image[..., 1] == 0, image[..., 0], expected)
    assert np.array_equal(derained.reshape(20, 30, -1)[..., 0], expected)


def test_alpha_stays_and_hidden_colours_do(derainer: Derainer, engine: Engine) -> None:
    image = np.dstack([noise(20, 30), np.full((20, 30), 128, np.uint8)])
    image[:5, :, 3] = 0
    derained = derainer.derain(image)
    assert np.array_equal(derained[..., 3], image[..., 3])
    assert np.array_equal(derained[:5], image[:5])
    assert np.array_equal(derained[5:, :, :3], engine.derain(noise(20, 30))[5:])


def test_views_and_foreign_byte_order(derainer: Derainer) -> None:
    image = noise(40, 30).astype(np.uint16)
    assert np.array_equal(derainer.derain(image[::2, ::-1]), derainer.derain(image[::2, ::-1].copy()))
    assert np.array_equal(derainer.derain(image.astype(">u2")), derainer.derain(image))


# Options


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_strength_blends(derainer: Derainer, dtype: type[np.uint8 | np.uint16]) -> None:
    image: NDArray[Any] = noise(20, 30).astype(dtype)
    whole = derainer.derain(image).astype(float)
    quarter = derainer.derain(image, strength=0.25)
    assert np.abs(quarter - (0.25 * whole + 0.75 * image)).max() <= 0.5
    unchanged = derainer.derain(image, strength=0)
    assert np.array_equal(unchanged, image)
    assert not np.shares_memory(unchanged, image)


def test_a_model_by_its_name(rainy: Path) -> None:
    image = noise(20, 30)
    with Derainer("fast", threads=1) as fast:
        engine = Engine(ROOT / "models" / "fast", threads=1)
        assert np.array_equal(fast(image), engine.derain(image))
        engine.close()


def test_a_model_is_loaded_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    derain(noise(4, 4), model=model, provider="cpu")
    monkeypatch.setattr(Engine, "__init__", None)  # would raise
    derain(noise(4, 4), model=model, provider="cpu")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_forked_process_derains_too(model: Path) -> None:
    program = f"""
import os, numpy
from pathlib import Path
from derain import derain
image = numpy.zeros((200, 200, 3), numpy.uint8)
derain(image, model=Path({str(model)!r}))
child = os.fork()
if child == 0:
    derain(image, model=Path({str(model)!r}))
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, check=True, timeout=60)


# What cannot be done


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ([1, 2], "list is no image: give a path, bytes, a Pillow image or a NumPy array"),
        (None, "NoneType is no image"),
        (np.zeros((8, 8, 3)), "uint8 or uint16, .* not float64 "),
        (np.zeros((8, 8, 3), np.int16), "not int16 "),
        (np.zeros((8, 8, 3), bool), "not bool "),
        (np.zeros((3, 8, 8), np.uint8), r"not uint8 \(3, 8, 8\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"not uint8 \(1, 8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), r"not uint8 \(0, 8, 3\)"),
        (np.zeros(8, np.uint8), r"not uint8 \(8,\)"),
        (PilImage.new("CMYK", (8, 8)), "mode CMYK cannot be derained: convert it to RGB"),
        (PilImage.new("F", (8, 8)), "mode F cannot be derained"),
        (b"", "the data is empty"),
        (b"GIF89a", "GIF is not supported"),
        ("none.jpg", "none.jpg does not exist"),
        (".", "is a folder: name a file"),
        ("a\0b", "cannot be read"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_image(derainer: Derainer, tmp_path: Path, image: Any, said: str) -> None:
    with pytest.raises(DerainError, match=said):
        derainer.derain(image)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strength": 1.5}, "the strength is a number from 0 to 1, not 1.5"),
        ({"strength": -0.1}, "not -0.1"),
        ({"strength": float("nan")}, "not nan"),
        ({"strength": "1"}, "not '1'"),
        ({"provider": "gpu"}, "the provider is auto, cpu, cuda, tensorrt, not 'gpu'"),
        ({"model": "huge"}, "no model 'huge' in .*: there are base, fast"),
        ({"model": ""}, "no model ''"),
        ({"model": Path("nowhere")}, "no model at nowhere"),
        ({"model": 7}, "a model is a name or a folder, not 7"),
    ],
    ids=str,
)
def test_what_is_no_option(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DerainError, match=said):
        derain(noise(8, 8), **options)


def test_threads_are_a_number() -> None:
    for threads in (0, -1, 1.5):
        with pytest.raises(DerainError, match=f"threads are a whole number from 1 up, not {threads}"):
            Derainer(threads=threads)  # type: ignore[arg-type]


def test_a_bad_file_is_named(derainer: Derainer, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(DerainError, match=r"bad\.png: "):
        derainer.derain(tmp_path / "bad.png")


def test_a_pillow_image_that_cannot_be_read(derainer: Derainer) -> None:
    data = pillow_bytes(PilImage.fromarray(noise(64, 64)), format="PNG")
    with pytest.raises(DerainError, match="the Pillow image cannot be read: "):
        derainer.derain(PilImage.open(io.BytesIO(data[: len(data) // 2])))
    closed = PilImage.open(io.BytesIO(data))
    closed.close()
    with pytest.raises(DerainError, match="the Pillow image cannot be read: "):
        derainer.derain(closed)


def test_a_pillow_image_with_damaged_exif_is_taken_as_it_is(derainer: Derainer) -> None:
    image = PilImage.fromarray(noise(20, 30))
    image.info["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"
    assert derainer.derain(image).size == (30, 20)


def test_missing_files_are_what_python_calls_them(derainer: Derainer, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        derainer.derain(tmp_path / "none.jpg")
    with pytest.raises(OSError):
        derainer.derain(tmp_path)


def test_what_cannot_be_saved(derainer: Derainer, rainy: Path) -> None:
    image = derainer.derain(rainy)
    saves: list[tuple[Callable[[], object], str]] = [
        (lambda: image.save(rainy.with_name("a.gif")), r"'\.gif' is no format that can be written: jpeg, "),
        (lambda: image.save(rainy.with_name("a")), "'' is no format that can be written"),
        (lambda: image.save(rainy.with_name("a.heic")), "HEIC can be read, but not written"),
        (lambda: image.save(rainy / "none" / "a.png"), "cannot be written: Not a directory"),
        (lambda: image.save(rainy.with_name("a.jpg"), quality=0), "from 1 to 100, not 0"),
        (lambda: image.save(rainy.with_name("a.jpg"), lossless=True), "JPEG cannot be written without loss"),
    ]
    for save, said in saves:
        with pytest.raises(DerainError, match=said):
            save()
    assert [path.name for path in rainy.parent.iterdir()] == ["rainy.png"]


# Types


def test_a_checker_knows_what_comes_back(derainer: Derainer, model: Path, rainy: Path) -> None:
    """Of each kind the same; mypy fails where this is not so."""
    deep = np.zeros((4, 4, 3), np.uint16)
    assert_type(derain(rainy, model=model), DerainedImage)
    assert_type(derain(str(rainy), model=model), DerainedImage)
    assert_type(derain(rainy.read_bytes(), model=model), bytes)
    assert_type(derain(PilImage.new("L", (4, 4)), model=model), PilImage.Image)
    assert_type(derain(noise(4, 4), model=model), NDArray[np.uint8])
    assert_type(derainer.derain(deep), NDArray[np.uint16])
    assert_type(derainer(rainy, strength=0.5), DerainedImage)


def test_an_image_without_rain_is_left_as_it_was_unless_forced(tmp_path: Path) -> None:
    dark = noise(30, 40) // 8
    (tmp_path / "dark.png").write_bytes(encode(dark, PNG))
    model = write_estimating(tmp_path / "estimating")
    assert not np.array_equal(derain(dark, model=model, force=True), dark)
    with Derainer(model) as derainer:
        left = derainer.derain(tmp_path / "dark.png")
        assert left.rain_found is False
        np.testing.assert_array_equal(np.asarray(left), dark)
        np.testing.assert_array_equal(derainer.derain(dark), dark)
        assert derainer.derain(tmp_path / "dark.png", force=True).rain_found is True
        assert not np.array_equal(derainer.derain(dark, force=True), dark)
        assert derainer.derain(tmp_path / "dark.png", strength=0).rain_found is None
