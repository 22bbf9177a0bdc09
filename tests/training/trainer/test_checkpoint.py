"""Checkpoints: whole, or known not to be."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from training.trainer.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    previous,
    save_checkpoint,
)

UNLOGGED = [{"loss": 0.5, "gradient_norm": 1.5}]


def numbered(step: int) -> Checkpoint:
    weights = {"weight": torch.arange(5000, dtype=torch.float32) * step}
    return Checkpoint(step, {"name": "tiny"}, "", weights, weights, {"step": step}, UNLOGGED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    for step in (1, 2):
        save_checkpoint(numbered(step), path)
    return path


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def with_a_bit_flipped(data: bytes) -> bytes:
    """In the middle of the weights, where any value is a number."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def noise(data: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(data))


def emptied(data: bytes) -> bytes:
    return b""


def test_comes_back_as_it_was(path: Path) -> None:
    checkpoint = load_checkpoint(path, {"name": "tiny"})
    assert torch.equal(checkpoint.model["weight"], numbered(2).model["weight"])
    assert (checkpoint.step, checkpoint.optimizer, checkpoint.unlogged) == (2, {"step": 2}, UNLOGGED)


@pytest.mark.parametrize("damage", [cut_short, with_a_bit_flipped, noise, emptied])
def test_damaged_checkpoint_is_refused_and_the_one_before_it_is_there(
    path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, {"name": "tiny"})
    said, command = str(caught.value).split(": mv ")
    assert said.startswith(f"{path} is damaged")
    assert command.split() == [str(previous(path)), str(path)]
    previous(path).rename(path)
    assert load_checkpoint(path, {"name": "tiny"}).step == 1


def test_where_there_is_none_before_it_a_damaged_one_is_to_be_removed(path: Path) -> None:
    previous(path).unlink()
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"remove {path.parent} to start anew"):
        load_checkpoint(path, {"name": "tiny"})


def test_what_a_killed_writer_left_is_replaced(path: Path) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(b"half of a")
    assert load_checkpoint(path, {"name": "tiny"}).step == 2
    save_checkpoint(numbered(3), path)
    assert load_checkpoint(path, {"name": "tiny"}).step == 3
    assert not unfinished.exists()
