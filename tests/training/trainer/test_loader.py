"""Batches: the same samples at a step, whoever makes them."""

import os
import signal
from multiprocessing import active_children

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from derain.errors import CorruptImageError
from training.model.derain_model import Batch
from training.recipes import Recipe
from training.trainer.distributed import ProcessError, Processes
from training.trainer.loader import BatchError, batches
from training.trainer.samples import Samples


def steps_of(recipe: Recipe, steps: range, processes: Processes, workers: int) -> list[Batch]:
    return list(batches(Samples(recipe), recipe.course.batch, steps, processes, workers))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_samples_of_a_step_are_the_same_on_any_number_of_processes(
    mixed_recipe: Recipe, count: int, workers: int
) -> None:
    """Those of the recipe, in order; also when a run goes on from step 2. Scenes and facts as well."""
    samples = Samples(mixed_recipe)
    shares = [steps_of(mixed_recipe, range(2, 5), Processes(rank, count), workers) for rank in range(count)]
    for step, parts in zip(range(2, 5), zip(*shares, strict=True), strict=True):
        expected = [
            samples[step * mixed_recipe.course.batch + place] for place in range(mixed_recipe.course.batch)
        ]
        for which in range(4):
            together = torch.cat([part[which] for part in parts])
            assert torch.equal(together, torch.stack([sample[which] for sample in expected]))


def test_batch_that_cannot_be_divided_is_an_error(tiny_recipe: Recipe) -> None:
    with pytest.raises(ProcessError, match="a batch of 4 patches cannot be divided among 3 processes"):
        steps_of(tiny_recipe, range(1), Processes(0, 3), 0)


class Unreadable(Dataset[tuple[Tensor, Tensor]]):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == 5:
            raise CorruptImageError("rain/5.png: the PNG image is damaged or cut short")
        return torch.zeros(1), torch.zeros(1)


@pytest.mark.parametrize("workers", [0, 2])
def test_error_in_a_worker_is_the_one_line_it_was(workers: int) -> None:
    coming = batches(Unreadable(), 2, range(4), Processes(), workers)
    next(coming), next(coming)
    with pytest.raises(CorruptImageError) as caught:
        next(coming)
    assert str(caught.value) == "rain/5.png: the PNG image is damaged or cut short"


class Deadly(Dataset[tuple[Tensor, Tensor]]):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
        raise AssertionError


class Mistaken(Dataset[tuple[Tensor, Tensor]]):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        raise RuntimeError("size mismatch")


@pytest.mark.parametrize("workers", [0, 1])
def test_mistake_in_the_code_is_not_called_a_death(workers: int) -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        next(batches(Mistaken(), 2, range(4), Processes(), workers))
    assert not active_children()


def test_killed_worker_is_an_error() -> None:
    with pytest.raises(BatchError, match=r"has died.*fewer --workers"):
        next(batches(Deadly(), 2, range(4), Processes(), 1))


def test_worker_outlives_a_request_to_stop() -> None:
    """SIGTERM and Ctrl+C go to all processes of a group; the parent needs its workers to end its step."""

    class Signalled(Dataset[tuple[Tensor, Tensor]]):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            return torch.full((1,), index), torch.zeros(1)

    (first, second) = batches(Signalled(), 2, range(2), Processes(), 1)
    assert first[0].flatten().tolist() == [0, 1]
    assert second[0].flatten().tolist() == [2, 3]
