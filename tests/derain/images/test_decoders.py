"""What decodes AVIF and HEIC runs beside us: it may crash or hang, and the next image finds another one."""

import io
import os
import re
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from derain.arrays import AnyImage
from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.codecs import decoders
from derain.images.codecs.decoders import decode
from derain.images.formats import AVIF, HEIC
from derain.images.header import read_header
from derain.images.photo import decode_photo
from tests.conftest import scene

pytestmark = pytest.mark.slow

TURNED = Path(__file__).parent / "files" / "turned.heic"
PIXELS = 40 * 60


@pytest.fixture(autouse=True)
def none_waiting() -> Iterator[None]:
    decoders._end_all()
    yield
    decoders._end_all()


@pytest.fixture(scope="module")
def avif() -> bytes:
    file = io.BytesIO()
    PilImage.fromarray(scene(40, 60)).save(file, "AVIF", speed=10)
    return file.getvalue()


def waiting() -> list[int]:
    return [decoder._process.pid for decoder in decoders._idle]


def test_one_process_decodes_image_after_image(avif: bytes) -> None:
    first = decode(avif, AVIF, PIXELS)
    (pid,) = waiting()
    heic = decode(TURNED.read_bytes(), HEIC, PIXELS)
    again = decode(avif, AVIF, PIXELS)
    assert waiting() == [pid]
    assert np.array_equal(first.samples, again.samples)
    assert np.array_equal(first.samples, np.asarray(PilImage.open(io.BytesIO(avif))))
    assert heic.exif


def test_a_decoder_has_no_thread_for_each_core(avif: bytes) -> None:
    """Each takes address space, of which it has little: on 24 cores no image could be decoded."""
    decode(avif, AVIF, PIXELS)
    (pid,) = waiting()
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^Threads:\s+1$", status, re.MULTILINE)


def test_images_at_once_have_a_process_each(avif: bytes) -> None:
    with ThreadPoolExecutor(3) as threads:
        decoded = list(threads.map(lambda _: decode(avif, AVIF, PIXELS).samples, range(6)))
    assert all(np.array_equal(each, decoded[0]) for each in decoded)
    assert 1 <= len(waiting()) <= decoders._MAX_IDLE


def test_one_that_a_file_was_too_much_for_is_not_used_again(avif: bytes) -> None:
    decode(avif, AVIF, PIXELS)
    (before,) = waiting()
    with pytest.raises(CorruptImageError, match="the AVIF image is damaged or cut short: "):
        decode(avif[:-80], AVIF, PIXELS)
    assert waiting() == []
    decode(avif, AVIF, PIXELS)
    assert waiting() != [before]


def test_what_libavif_does_not_know_is_said_without_our_buffer(avif: bytes) -> None:
    with pytest.raises(UnsupportedFormatError) as caught:
        decode(avif.replace(b"ispe", b"size"), AVIF, PIXELS)
    assert str(caught.value) == "AVIF of this kind is not supported, or it is damaged"


@pytest.mark.parametrize("program", ["while True: pass", "bytearray(4 * 2**30)", "import os; os.abort()"])
def test_what_takes_too_much_is_stopped(
    program: str, avif: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = decoders._PROGRAM.read_text()
    with monkeypatch.context() as patched:
        patched.setattr(decoders, "_PROGRAM", tmp_path / "program.py")
        decoders._PROGRAM.write_text(text.replace("        image.load()\n", f"        {program}\n"))
        patched.setattr(decoders, "_MIN_SECONDS", 1)
        with pytest.raises(CorruptImageError, match=r"damaged|takes too much to decode|was not decoded in"):
            decode(avif, AVIF, PIXELS)
    assert decode(avif, AVIF, PIXELS).samples.shape == (40, 60, 3)


def test_one_that_hangs_is_ended(avif: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without taking time of a processor."""
    monkeypatch.setattr(decoders, "_PROGRAM", tmp_path / "program.py")
    decoders._PROGRAM.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(decoders, "_MIN_SECONDS", 1)
    monkeypatch.setattr(decoders, "_WAITING", 1)
    with pytest.raises(CorruptImageError, match="the AVIF image was not decoded in 1 s"):
        decode(avif, AVIF, PIXELS)


def test_one_that_ended_for_want_of_work_costs_no_image(
    avif: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may end in the moment in which a file is sent to it."""
    program, ended = tmp_path / "program.py", tmp_path / "ended"
    text = decoders._PROGRAM.read_text()
    start = f"import pathlib, sys\nended = pathlib.Path({str(ended)!r})\n"
    start += "if not ended.exists():\n    ended.touch()\n    sys.exit(0)\n"
    program.write_text(start + text)
    monkeypatch.setattr(decoders, "_PROGRAM", program)
    assert decode(avif, AVIF, PIXELS).samples.shape == (40, 60, 3)
    assert ended.exists()


def test_one_ends_when_nothing_comes(avif: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    program.write_text(decoders._PROGRAM.read_text().replace("_IDLE_S = 60", "_IDLE_S = 0.05"))
    monkeypatch.setattr(decoders, "_PROGRAM", program)
    decode(avif, AVIF, PIXELS)
    (decoder,) = decoders._idle
    assert decoder._process.wait(60) == 0
    assert decode(avif, AVIF, PIXELS).samples.shape == (40, 60, 3)


def test_one_that_has_seen_many_is_replaced(avif: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "_MAX_IMAGES", 2)
    seen = []
    for _ in range(3):
        decode(avif, AVIF, PIXELS)
        seen.append(waiting())
    assert [len(each) for each in seen] == [1, 0, 1]
    assert seen[0] != seen[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_has_its_own(avif: bytes) -> None:
    decode(avif, AVIF, PIXELS)
    (pid,) = waiting()
    with warnings.catch_warnings(action="ignore"):  # of threads, from Python 3.12 on
        child = os.fork()
    if not child:
        is_own = waiting() == [] and decode(avif, AVIF, PIXELS).samples.shape == (40, 60, 3)
        decoders._end_all()
        os._exit(0 if is_own else 1)
    assert os.waitpid(child, 0)[1] == 0
    decode(avif, AVIF, PIXELS)
    assert waiting() == [pid]


@pytest.mark.parametrize("suffix", [".avif", ".bmp", ".jpg", ".png", ".tif", ".webp"])
def test_pillows_limit_of_pixels_is_left_to_our_caller(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for the whole process."""
    PilImage.fromarray(scene(40, 60)).save(tmp_path / f"image{suffix}")
    monkeypatch.setattr(PilImage, "MAX_IMAGE_PIXELS", 100)
    assert decode_whole(tmp_path / f"image{suffix}").shape == (40, 60, 3)
    assert PilImage.MAX_IMAGE_PIXELS == 100


def decode_whole(path: Path) -> AnyImage:
    data = path.read_bytes()
    return decode_photo(data, read_header(data)).image
