"""The images that the page offers come from the script that says it makes them."""

import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from tests.conftest import ROOT

_spec = importlib.util.spec_from_file_location("examples_script", ROOT / "scripts/examples.py")
assert _spec is not None
assert _spec.loader is not None
script = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = script  # where its dataclass looks for its types
_spec.loader.exec_module(script)

GATE = script.Example("gate", ROOT / "training/photographs/train/brandenburgGate.jpg", script.SHOWER, 1)
NIGHT = script.Example("night", ROOT / "training/photographs/heldout/skimage_rocket.jpg", script.DRIZZLE, 4)


@pytest.mark.slow
@pytest.mark.parametrize("example", [GATE, NIGHT], ids=lambda example: str(example.name))
def test_an_example_is_made_again(example: Any) -> None:
    made = script.jpeg(PilImage.fromarray(script.rained_on(example)))
    shipped = (ROOT / "examples" / f"{example.name}.jpg").read_bytes()
    pixels = [np.asarray(PilImage.open(io.BytesIO(data))).astype(int) for data in (made, shipped)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 0.1  # but for another libjpeg's rounding


@pytest.mark.slow
def test_rain_is_enlarged_with_a_large_image(tmp_path: Path) -> None:
    small = script.rained_on(NIGHT)
    with PilImage.open(NIGHT.photograph) as image:
        twice = image.resize((2 * image.width, 2 * image.height))
    twice.save(tmp_path / "twice.png")
    large = script.rained_on(script.Example("large", tmp_path / "twice.png", script.DRIZZLE, 4, rain_scale=2))
    assert np.abs(large[::2, ::2].astype(int) - small).mean() < 4


@pytest.mark.slow
def test_it_is_as_good_as_its_size_allows() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    assert script.MAX_BYTES / 2 < len(script.jpeg(PilImage.fromarray(noise))) <= script.MAX_BYTES
