"""The one server that tests share which change nothing about it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from derain.arrays import Image
from derain.images.formats import PNG
from derain.images.plain import encode
from derain.inference.engine import Engine
from tests.conftest import noise
from tests.serving.server import Server, serving

PICTURE = noise(97, 130)
RAINY = encode(PICTURE, PNG)


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(model, tmp_path_factory.mktemp("server")) as server:
        yield server
        # None of these tests, the rude ones included, may have met an error of ours.
        assert "Traceback" not in server.said()
        assert '"ERROR"' not in server.said()


@pytest.fixture(scope="session")
def derained(model: Path) -> Image:
    """What the engine makes of PICTURE, without a service around it."""
    engine = Engine(model)
    try:
        return np.asarray(engine.derain(PICTURE))
    finally:
        engine.close()
