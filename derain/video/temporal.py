"""Frames together: what rain hides in one, its neighbours show.

Each frame is derained by itself first. The temporal network then takes a weighted mean of a frame and its
neighbours, moved to where the scene is in it. It says of each pixel how much to take from which frame, so it
invents nothing, and a lone frame stays what deraining made of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from derain.arrays import AnyImage, FloatArray, padded
from derain.errors import ModelError
from derain.files import shipped
from derain.inference.engine import Engine
from derain.inference.sessions import Provider, start_session
from derain.inference.tiling import Cutter
from derain.manifest import ModelFile, Parity, check_file, read_manifest
from derain.video.alignment import Aligner, FlowImage, aligned
from derain.video.choices import CELL_PX, CHANNELS, CHOICES, choices, features, mean

REACH = 2  # frames before and after one that it takes from
MAX_PIXELS = 16_000_000  # of a frame: five of them, rainy and derained, are in memory
MANIFEST_NAME = "temporal.json"
TEMPORAL_MODEL = shipped("models") / "temporal"

_TILE_CELLS = 512 * 1024


class TemporalManifest(BaseModel):
    """What `temporal.json` says of the ONNX file beside it.

    The network takes the features of the choices (`derain.video.choices`), (N, CHANNELS, rows, columns), and
    returns their weights, (N, CHOICES, rows, columns).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    file: ModelFile
    alignment: int = Field(ge=1)  # rows and columns are multiples of it
    overlap: int = Field(ge=0)  # the receptive radius in cells: what tiles must overlap by
    parameters: int
    kmac_per_pixel: float
    parity: Parity
    recipe: dict[str, Any]
    commit: str  # of the code that trained it
    scores: dict[str, Any]  # by kind of rain and movement, see training/video/evaluation.py


@dataclass
class FramePair:
    """A frame as it came and derained by itself, RGB (height, width, 3)."""

    rainy: AnyImage
    derained: AnyImage

    def __post_init__(self) -> None:
        self.for_flow = FlowImage(self.derained)


class TemporalNetwork:
    """Loaded and ready. Not for several threads at once.

    Raises ModelError for a folder that has no sound one, and ProviderError as engines do.
    """

    def __init__(
        self,
        folder: Path | None = None,
        provider: Provider = Provider.AUTO,
        device: int | None = None,
        threads: int = 1,
    ) -> None:
        folder = folder or TEMPORAL_MODEL
        self.manifest = load_temporal_manifest(folder)
        _, self._session = start_session(folder / self.manifest.file.name, provider, device, threads)
        given, result = self._session.get_inputs()[0], self._session.get_outputs()[0]
        if (given.shape[1], result.shape[1]) != (CHANNELS, CHOICES):
            made = f"takes {given.shape[1]} channels and returns {result.shape[1]}"
            raise ModelError(f"the temporal network at {folder} {made}, not {CHANNELS} and {CHOICES}")
        self._name = given.name
        self._aligner = Aligner()

    def fuse(self, frame: FramePair, neighbours: dict[int, FramePair]) -> AnyImage:
        """The frame with the help of others, so many places later (negative: earlier), of its size and type.

        Where one of the `REACH` to each side is missing, the frame itself stands in for it.
        """
        if not neighbours:
            return frame.derained
        movements = self._aligner.movements(
            frame.for_flow, {place: each.for_flow for place, each in neighbours.items()}
        )
        derained, rainy = [], []
        for place in range(-REACH, REACH + 1):
            shown, movement = neighbours.get(place, frame), movements.get(place)
            derained.append(aligned(shown.derained, movement))
            rainy.append(aligned(shown.rainy, movement))
        return self._fuse(derained, rainy)

    def _fuse(self, derained: Sequence[AnyImage], rainy: Sequence[AnyImage]) -> AnyImage:
        """Aligned frames, the one that is asked for in the middle."""
        height, width = derained[0].shape[:2]
        side_px = CELL_PX * self.manifest.alignment
        images, spreads = choices(
            *([padded(image, side_px) for image in images] for images in (derained, rainy))
        )
        fused = mean(images, self._weights(features(images, spreads)))
        return cast(AnyImage, np.ascontiguousarray(fused[:height, :width]))

    def _weights(self, cells: FloatArray) -> FloatArray:
        """(CHOICES, rows, columns)"""
        rows, columns = cells.shape[1:]
        weights = np.empty((CHOICES, rows, columns), np.float32)
        cutter = Cutter(self.manifest.overlap, self.manifest.alignment, _TILE_CELLS, threads=1)
        for tile in cutter.cut(rows, columns):
            (found,) = self._session.run(None, {self._name: tile.of_channels(cells)[None]})
            tile.keep(np.asarray(found)[0], weights)
        return weights


def temporal_network(engine: Engine) -> TemporalNetwork:
    """The one that comes along, on what the engine runs on."""
    return TemporalNetwork(None, engine.provider, engine.device, engine.threads)


def load_temporal_manifest(folder: Path) -> TemporalManifest:
    """Raises ModelError where it or its ONNX file is missing or not as it should be."""
    manifest = read_manifest(folder / MANIFEST_NAME, TemporalManifest)
    check_file(folder / manifest.file.name, manifest.file)
    return manifest
