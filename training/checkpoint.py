"""Checkpoints: all a run needs to go on, written so that a kill leaves the last good one."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from derain.errors import DerainError

StateDict = dict[str, Any]


class CheckpointError(DerainError):
    """A checkpoint that this run cannot go on from."""


@dataclass(frozen=True)
class Checkpoint:
    step: int  # steps done
    recipe: str  # the recipe's repr: going on with another one would be neither
    network: StateDict
    average: StateDict  # the running mean of the weights
    optimiser: StateDict


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Writes beside and renames: `path` is the old checkpoint or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        torch.save(vars(checkpoint), file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def load_checkpoint(path: Path, recipe: str) -> Checkpoint:
    checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    if checkpoint.recipe != recipe:
        raise CheckpointError(
            f"{path} was made by another recipe; remove {path.parent} or choose another --name.\n"
            f"there: {checkpoint.recipe}\nhere:  {recipe}"
        )
    return checkpoint
