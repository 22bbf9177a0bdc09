"""Checkpoints: the state that a run goes on from; a kill while one is written leaves the one before."""

import io
import os
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from derain.errors import DerainError

StateDict = dict[str, Any]


class CheckpointError(DerainError):
    """A checkpoint that this run cannot go on from."""


class DiskError(DerainError):
    """What a run has to write down cannot be written."""


@dataclass(frozen=True)
class Checkpoint:
    step: int  # steps done
    recipe: dict[str, Any]  # as `recipes.describe` has it: going on with another one would be neither
    images: str  # those that the run began with, as `Samples.digest` has them
    model: StateDict
    average: StateDict  # the running mean of the weights
    optimizer: StateDict
    unlogged: list[dict[str, float]]  # losses and gradient norms of the steps since the last log entry


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Writes beside and renames: `path` is the old checkpoint or the new one, never half of it.

    The checkpoint before it stays as `checkpoint.previous.pt`, should a disk damage the last one.
    Raises DiskError, and leaves what was there.
    """
    serialised = io.BytesIO()
    torch.save(vars(checkpoint), serialised)
    unfinished = path.with_suffix(".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            file.write(serialised.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        _keep(path)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise DiskError(f"the checkpoint {path} cannot be written: {error.strerror}") from error


def load_checkpoint(path: Path, recipe: dict[str, Any], start_anew: str | None = None) -> Checkpoint:
    """The checkpoint of a run of the described recipe, or of one that is longer or shorter by its steps alone
    while the two do the same.

    Raises CheckpointError where it is another's, or damaged; `start_anew` says what to do then.
    """
    start_anew = start_anew or f"remove {path.parent} to start anew"
    checkpoint = _read(path, start_anew)
    differing = _differing(checkpoint.recipe, recipe)
    is_longer = differing == ["course.steps"] and checkpoint.step <= min(
        _shared(checkpoint.recipe), _shared(recipe)
    )
    if differing and not is_longer:
        raise CheckpointError(
            f"{path} was made by another recipe ({', '.join(differing)} differ); {start_anew}"
        )
    return checkpoint


def _differing(one: dict[str, Any], other: dict[str, Any], within: str = "") -> list[str]:
    """Names of what is not the same, as in "course.steps"."""
    names: list[str] = []
    for name in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(name), other.get(name)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            names += _differing(mine, theirs, f"{within}{name}.")
        elif mine != theirs:
            names.append(within + name)
    return names


def _shared(recipe: dict[str, Any]) -> float:
    """The steps before the rate falls and patches grow: those of a longer run are the same."""
    course, decay_share = recipe["course"], recipe["optimization"]["decay_share"]
    return float(course["steps"] * (1 - max(decay_share, course["late_share"])))


def previous(path: Path) -> Path:
    """Where the checkpoint before `path` is kept."""
    return path.with_suffix(f".previous{path.suffix}")


def _keep(path: Path) -> None:
    if path.exists():
        previous(path).unlink(missing_ok=True)
        with suppress(OSError):  # a file system without hard links keeps the last one alone
            previous(path).hardlink_to(path)


def _read(path: Path, start_anew: str) -> Checkpoint:
    try:
        data = io.BytesIO(path.read_bytes())
        damaged = zipfile.ZipFile(data).testzip()  # torch itself does not look at the checksums
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        data.seek(0)
        return Checkpoint(**torch.load(data, map_location="cpu", weights_only=True))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged file makes the parsers raise whatever it happens to
        way_out = start_anew
        if previous(path).exists():
            way_out = f"go on from the one before it: mv {previous(path)} {path}"
        raise CheckpointError(
            f"{path} is damaged, or of another version of this program; {way_out}"
        ) from error
