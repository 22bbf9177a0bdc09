"""What callers are told of pictures that cannot be derained, and of what an answer leaves out."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image as PilImage

from derain.images.codecs import jpeg
from derain.images.formats import PNG
from tests.derain.images.test_camera_raw import RAWS
from tests.derain.images.test_captions import GAIN_MAP, IMAGE, XMP, png_with, with_xmp, xmp_of
from tests.derain.images.test_coding import drawing, photograph
from tests.derain.images.test_jpeg import BASELINE, END
from tests.derain.images.test_plain import by_pillow
from tests.serving.server import assert_problem, serving

pytestmark = pytest.mark.slow

PQ = png_with(cICP=bytes([9, 16, 0, 1]))
ULTRA_HDR = by_pillow(IMAGE, "JPEG", xmp=GAIN_MAP) + by_pillow(IMAGE, "JPEG")


@pytest.fixture(scope="module")
def client(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(model, tmp_path_factory.mktemp("pictures")) as server, server.client() as client:
        yield client


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        *[(RAWS[kind], 415, f"camera raw ({kind})") for kind in ("DNG", "Nikon's NEF", "Canon's CR3")],
        (BASELINE[: len(BASELINE) // 2] + END, 400, "the JPEG image is damaged or cut short"),
        (BASELINE.replace(b"\n", b"\r\n"), 400, "the JPEG image is damaged or cut short"),
    ],
)
def test_what_is_no_picture_is_refused(client: httpx.Client, data: bytes, status: int, said: str) -> None:
    assert said in assert_problem(client.post("/v1/derain", content=data), status)
    answer = client.post(
        "/v1/derain/batch", files=[("images", ("IMG_1", data)), ("images", ("b.jpg", BASELINE))]
    )
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        refused, done = json.loads(archive.read("results.json"))
    assert (refused["status"], done["status"]) == (status, 200)
    assert said in refused["detail"]


def test_colours_that_the_answer_could_not_tell_are_refused_before_the_work(client: httpx.Client) -> None:
    assert "code points 9/16" in assert_problem(client.post("/v1/derain?format=jpeg", content=PQ), 415)
    accepting = client.post("/v1/derain", content=PQ, headers={"accept": "image/webp"})
    assert "code points 9/16" in assert_problem(accepting, 415)
    assert b"cICP\x09\x10\0\x01" in client.post("/v1/derain", content=PQ).content


def test_what_is_dropped_is_said(client: httpx.Client) -> None:
    answer = client.post("/v1/derain", content=ULTRA_HDR)
    assert answer.headers["derain-dropped"] == "gain-map, xmp"
    assert "derain-dropped" not in client.post("/v1/derain", content=BASELINE).headers
    files = [("images", ("a.jpg", ULTRA_HDR)), ("images", ("b.jpg", BASELINE))]
    with zipfile.ZipFile(io.BytesIO(client.post("/v1/derain/batch", files=files).content)) as archive:
        hdr, plain = json.loads(archive.read("results.json"))
    assert hdr["dropped"] == "gain-map, xmp"
    assert "dropped" not in plain


def test_captions_stay(client: httpx.Client) -> None:
    answer = client.post("/v1/derain?format=webp", content=with_xmp(PNG, XMP))
    assert "equirectangular" in xmp_of(answer.content)


def test_a_picture_that_is_not_changed_does_not_grow(client: httpx.Client) -> None:
    def unchanged(data: bytes) -> bytes:
        return client.post("/v1/derain?strength=0", content=data).content

    screenshot = by_pillow(drawing(64), "PNG", optimize=True)
    answer = unchanged(screenshot)
    with PilImage.open(io.BytesIO(answer)) as image:
        assert image.mode == "P"
    assert len(answer) < 1.4 * len(screenshot)

    lossless = by_pillow(drawing(64).convert("RGB"), "WEBP", lossless=True)
    with PilImage.open(io.BytesIO(unchanged(lossless))) as image:
        assert np.array_equal(np.asarray(image), np.asarray(drawing(64).convert("RGB")))

    photo = by_pillow(photograph(), "JPEG", quality=88)
    answer = unchanged(photo)
    assert jpeg.read_header(answer).quality == 88
    assert len(answer) < 1.1 * len(photo)
