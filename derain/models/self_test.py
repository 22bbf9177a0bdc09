"""Opens models that pass a self-test: what is promoted, and what is served, derains images made here."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from derain.arrays import Image
from derain.errors import DerainError, ModelError
from derain.inference.engine import Engine
from derain.inference.sessions import Provider
from derain.manifest import Manifest

# How much a model may change smooth light and shade, which have no rain in them.
_MAX_CHANGE = 40  # mean, of 255
_SIDE_PX = 96


def open_validated(folder: Path, start: Callable[[Path], Engine]) -> Engine:
    """The engine that `start` makes of the folder, tried out; to be closed.

    Raises ModelError for a model that does not run or returns rubbish, and what Engine raises.
    """
    try:
        engine = start(folder)
    except (DerainError, OSError):
        raise
    except Exception as error:  # whatever onnxruntime raises of a network that is of another contract
        raise _does_not_run(folder, error) from error
    try:
        _self_test(engine, folder)
    except BaseException:
        engine.close()
        raise
    return engine


def check_model(folder: Path) -> Manifest:
    """The manifest of a model that runs, on the CPU; raises ModelError for any other."""
    engine = open_validated(folder, partial(Engine, provider=Provider.CPU, threads=1))
    engine.close()
    return engine.manifest


def _self_test(engine: Engine, folder: Path) -> None:
    """Derains light and shade of several sizes."""
    rows, columns = np.mgrid[0:_SIDE_PX, 0:_SIDE_PX].astype(np.float32) / _SIDE_PX
    shade = 40 + 120 * rows + 60 * np.sin(3 * columns)
    image: Image = np.stack([shade, 0.8 * shade, 0.6 * shade], -1).astype(np.uint8)
    for tried in (image, image[:1, :1], image[:, : _SIDE_PX // 2 + 1]):
        try:
            derained = engine.derain(tried)
        except Exception as error:
            raise _does_not_run(folder, error) from error
        change = float(np.abs(derained.astype(np.float32) - tried).mean())
        if not change <= _MAX_CHANGE:
            raise ModelError(f"{folder} changes a smooth image without rain by {change:.0f} of 255")


def _does_not_run(folder: Path, error: Exception) -> ModelError:
    return ModelError(f"{folder} does not run as its manifest says: {error}")
