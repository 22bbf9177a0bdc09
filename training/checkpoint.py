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
    recipe: dict[str, Any]  # as `recipes.describe` has it: going on with another one would be neither
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


def load_checkpoint(path: Path, recipe: dict[str, Any]) -> Checkpoint:
    """The checkpoint of a run of the described recipe; raises CheckpointError where it is another's."""
    checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    if checkpoint.recipe != recipe:
        names = sorted(checkpoint.recipe.keys() | recipe.keys())
        differing = [name for name in names if checkpoint.recipe.get(name) != recipe.get(name)]
        raise CheckpointError(
            f"{path} was made by another recipe ({', '.join(differing)} differ); "
            f"remove {path.parent} or choose another --name"
        )
    return checkpoint
