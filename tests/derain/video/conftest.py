from collections.abc import Iterator

import pytest

from derain.inference.engine import Engine
from tests.conftest import write_estimating


@pytest.fixture(scope="session")
def estimating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Finds rain where the mean level is above a fifth of the highest."""
    engine = Engine(write_estimating(tmp_path_factory.mktemp("models") / "estimating"), threads=1)
    yield engine
    engine.close()
