"""The rain estimator of a model: how much rain is in an image, and what it is like."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from derain.arrays import AnyImage, FloatArray, channels_first, padded
from derain.errors import ModelError
from derain.inference.context import context_windows
from derain.inference.sessions import Provider, open_session, run_options
from derain.manifest import Estimator


@dataclass(frozen=True)
class Rain:
    """What the estimator finds in an image."""

    descriptor: FloatArray  # (numbers,)
    evidence: float  # log-odds above those of a dry image

    @property
    def is_none(self) -> bool:
        return self.evidence < 0


class RainEstimator:
    """Loaded and ready. Safe to call from several threads at once."""

    def __init__(self, folder: Path, contract: Estimator, provider: Provider, device: int | None) -> None:
        self._contract = contract
        path = folder / contract.file.name
        self._session = open_session(path, provider, device)
        self._name = self._session.get_inputs()[0].name
        shapes = [each.shape for each in self._session.get_outputs()]
        if len(shapes) != 2 or shapes[0][1:] != [contract.numbers] or len(shapes[1]) != 1:
            raise ModelError(
                f"{path} returns {shapes}: not (N, {contract.numbers}) and (N,), as its manifest says"
            )
        # It runs once where the network runs many times: its memory is better given back.
        self._options = run_options(provider, gives_memory_back=True)

    def estimate(self, image: AnyImage) -> Rain:
        alignment_px = self._contract.alignment_px
        windows = context_windows(image, self._contract.context_px)
        fed = np.stack([channels_first(padded(window, alignment_px)) for window in windows])
        got = self._session.run(None, {self._name: fed}, self._options)
        descriptors, log_odds = (np.asarray(each) for each in got)
        return Rain(descriptors.mean(axis=0), float(log_odds.mean()) - self._contract.dry_below)
