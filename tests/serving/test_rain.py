"""What a service says of images without rain, with a model that looks for it."""

import io
import json
import zipfile
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from derain.images.formats import PNG
from derain.images.plain import decode, encode
from tests.conftest import noise, write_estimating
from tests.serving.server import serving

pytestmark = pytest.mark.slow

DARK, BRIGHT = noise(30, 40) // 8, noise(30, 40) // 8 + 120


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("rain")
    with serving(write_estimating(folder / "estimating"), folder) as server, server.client() as client:
        yield client


def test_the_header_says_whether_rain_was_found(client: httpx.Client) -> None:
    dry = client.post("/v1/derain", content=encode(DARK, PNG)).raise_for_status()
    assert dry.headers["derain-rain"] == "none"
    np.testing.assert_array_equal(decode(dry.content)[0], DARK)
    rainy = client.post("/v1/derain", content=encode(BRIGHT, PNG)).raise_for_status()
    assert rainy.headers["derain-rain"] == "found"
    assert not np.array_equal(decode(rainy.content)[0], BRIGHT)


@pytest.mark.parametrize("value", ["1", "true"])
def test_it_can_be_overruled(client: httpx.Client, value: str) -> None:
    forced = client.post("/v1/derain", params={"force": value}, content=encode(DARK, PNG)).raise_for_status()
    assert forced.headers["derain-rain"] == "found"
    assert not np.array_equal(decode(forced.content)[0], DARK)


def test_nobody_looks_at_a_strength_of_0(client: httpx.Client) -> None:
    answer = client.post("/v1/derain?strength=0", content=encode(BRIGHT, PNG)).raise_for_status()
    assert "derain-rain" not in answer.headers
    np.testing.assert_array_equal(decode(answer.content)[0], BRIGHT)


def test_results_of_a_batch_have_it(client: httpx.Client) -> None:
    files = [("images", (name, encode(image, PNG))) for name, image in (("a.png", DARK), ("b.png", BRIGHT))]
    answer = client.post("/v1/derain/batch", files=files).raise_for_status()
    results = json.loads(zipfile.ZipFile(io.BytesIO(answer.content)).read("results.json"))
    assert [(row["file"], row["rain"]) for row in results] == [("a.png", "none"), ("b.png", "found")]


def test_progress_ends_with_it(client: httpx.Client) -> None:
    answer = client.post("/v1/derain/progress", content=encode(DARK, PNG)).raise_for_status()
    assert b"derain-rain: none" in answer.content


def test_it_is_counted(client: httpx.Client) -> None:
    client.post("/v1/derain", content=encode(DARK, PNG)).raise_for_status()
    assert 'derain_examined_total{model="estimating",rain="none"}' in client.get("/metrics").text
