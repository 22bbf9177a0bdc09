"""Runs that are killed, by real signals, and go on: they end as if nothing had happened."""

import os
import signal
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from tests.training.conftest import changed
from tests.training.trainee import Task, Trainee, first_weight, grey
from tests.training.trainer.test_loop import read_stats, same
from training.model.derain_model import DerainModel, ModelShape
from training.model.unet import NetworkShape
from training.recipes import Recipe, describe
from training.trainer.checkpoint import Checkpoint, load_checkpoint
from training.trainer.loop import Execution, train

pytestmark = pytest.mark.slow

DAWDLE_S = 0.2  # a validation, of a run that is to be killed, so that it has not ended before


@pytest.fixture(scope="module")
def recipe(conditioned_recipe: Recipe) -> Recipe:
    """Long enough to be killed in the middle; what it writes it writes at steps of their own."""
    return changed(conditioned_recipe, steps=100, log_every=3, validate_every=25, checkpoint_every=20)


@pytest.fixture(scope="module")
def unbroken(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    train(recipe, folder, first_weight, grey)
    return folder


@pytest.fixture(scope="module")
def unbroken_pair(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, by two processes."""
    folder = tmp_path_factory.mktemp("pair")
    trainee = Trainee(Task(recipe, folder, Execution()), processes=2)
    assert trainee.finish() == 0, trainee.errors
    return folder


def end_of(folder: Path, recipe: Recipe) -> Checkpoint:
    checkpoint = load_checkpoint(folder / "checkpoint.pt", describe(recipe))
    assert checkpoint.step == recipe.course.steps
    return checkpoint


def record_of(folder: Path) -> list[dict[str, float]]:
    """`stats.jsonl` without what the clock decides."""
    timed = {"time", "steps_per_second", "samples_per_second", "waiting_share"}
    return [{k: v for k, v in entry.items() if k not in timed} for entry in read_stats(folder)]


def assert_same_run(folder: Path, other: Path, recipe: Recipe) -> None:
    """The same weights, optimizer and statistics to the last bit, the same points in TensorBoard."""
    assert same(vars(end_of(folder, recipe)), vars(end_of(other, recipe)))
    assert record_of(folder) == record_of(other)
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    for tag, name in (("training/loss", "loss"), ("validation/psnr", "psnr")):
        points = [(event.step, event.value) for event in board.Scalars(tag)]
        entries = [(entry["step"], entry[name]) for entry in record_of(other) if name in entry]
        assert [step for step, _ in points] == [step for step, _ in entries]
        assert [value for _, value in points] == pytest.approx([value for _, value in entries], rel=1e-6)
    images = [path.name for path in sorted((folder / "samples").iterdir())]
    assert images == [f"step-{step:07d}.jpg" for step in (25, 50, 75, 100)]


def flat(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([weight.flatten() for weight in weights.values()])


def assert_agrees(folder: Path, other: Path, recipe: Recipe) -> None:
    """The same losses to half a percent all the way, the same first gradients to a thousandth.

    Other shares add the same numbers in another order, after each has rounded its part of the
    gradient to bfloat16 (8 bits). Adam turns that, where a gradient is near zero, into steps the
    other way, so the weights of 100 steps agree only to two fifths of what training moved them;
    those of another seed do not agree at all.
    """
    ours, theirs = ([e for e in record_of(run) if "loss" in e] for run in (folder, other))
    assert [e["loss"] for e in ours] == pytest.approx([e["loss"] for e in theirs], rel=5e-3)
    assert ours[0]["gradient_norm"] == pytest.approx(theirs[0]["gradient_norm"], rel=1e-3)
    torch.manual_seed(recipe.seed)
    start = flat(DerainModel(recipe.model).state_dict())
    our_end, their_end = (flat(end_of(run, recipe).model) for run in (folder, other))
    assert (our_end - their_end).norm() < 0.4 * (their_end - start).norm()


def test_a_run_killed_twice_ends_as_an_unbroken_one(unbroken: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Other workers and another checkpoint each time; killed between two log entries, too."""
    task = Task(recipe, tmp_path, Execution(workers=2), DAWDLE_S)
    for step in (33, 63):
        trainee = Trainee(task)
        trainee.wait_for_step(step)
        trainee.process.send_signal(signal.SIGKILL)
        assert trainee.finish() == -signal.SIGKILL
        done = load_checkpoint(tmp_path / "checkpoint.pt", describe(recipe)).step
        assert step - 20 < done < recipe.course.steps
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write('{"step": 12')  # the line that it was writing when it died
    train(recipe, tmp_path, first_weight, grey)
    assert_same_run(tmp_path, unbroken, recipe)


def test_a_run_that_is_asked_to_stop_stops_where_it_is(
    unbroken: Path, recipe: Recipe, tmp_path: Path
) -> None:
    """By Ctrl+C; the whole command is asked by SIGTERM in `test_run.py`."""
    trainee = Trainee(Task(recipe, tmp_path, Execution(), DAWDLE_S))
    trainee.wait_for_step(39)
    trainee.process.send_signal(signal.SIGINT)
    assert trainee.finish() == 128 + signal.SIGINT
    done = load_checkpoint(tmp_path / "checkpoint.pt", describe(recipe)).step
    assert f"stopped after step {done} and saved a checkpoint" in trainee.errors
    assert 39 <= done < recipe.course.steps
    train(recipe, tmp_path, first_weight, grey)
    assert_same_run(tmp_path, unbroken, recipe)


def test_killed_while_a_checkpoint_is_written(recipe: Recipe, tmp_path: Path) -> None:
    """A large one at every step; killed as soon as part of the next one can be seen.

    On a busy machine it may be whole by then: that changes nothing in how the run ends.
    """
    large = changed(recipe, model=ModelShape(NetworkShape()), steps=8, checkpoint_every=1)
    train(large, tmp_path / "unbroken", first_weight)
    task = Task(large, tmp_path / "killed", Execution())
    checkpoint, half = task.run_folder / "checkpoint.pt", task.run_folder / "checkpoint.unfinished"
    trainee = Trainee(task)
    trainee.wait_until(checkpoint.exists)
    trainee.wait_until(lambda: half.exists())
    trainee.process.send_signal(signal.SIGKILL)
    trainee.finish()
    assert 0 < load_checkpoint(checkpoint, describe(large)).step <= 8
    train(large, task.run_folder, first_weight)
    assert same(vars(end_of(task.run_folder, large)), vars(end_of(tmp_path / "unbroken", large)))
    assert not half.exists()


def test_two_processes_agree_with_one(unbroken: Path, unbroken_pair: Path, recipe: Recipe) -> None:
    assert_agrees(unbroken_pair, unbroken, recipe)
    assert [entry["step"] for entry in record_of(unbroken_pair)] == [
        entry["step"] for entry in record_of(unbroken)
    ]


def test_one_of_two_processes_is_killed(unbroken: Path, recipe: Recipe, tmp_path: Path) -> None:
    """The other one ends as well; one alone goes on from the last checkpoint."""
    trainee = Trainee(Task(recipe, tmp_path, Execution(), DAWDLE_S), processes=2)
    trainee.wait_for_step(39)
    other = trainee.pid(0)
    os.kill(trainee.pid(1), signal.SIGKILL)
    assert trainee.finish() == 1
    assert not Path(f"/proc/{other}").exists()
    assert "process 0: process 0 of 2 has lost touch with another one" in trainee.errors
    train(recipe, tmp_path, first_weight, grey, Execution(micro_batch=3))
    assert_agrees(tmp_path, unbroken, recipe)


def test_torchrun_restarts_after_a_process_is_killed(
    unbroken_pair: Path, recipe: Recipe, tmp_path: Path
) -> None:
    """Both go on from the last checkpoint."""
    trainee = Trainee(Task(recipe, tmp_path, Execution(), DAWDLE_S), processes=2, restarts=1)
    trainee.wait_for_step(39)
    os.kill(trainee.pid(1), signal.SIGKILL)
    assert trainee.finish() == 0, trainee.errors
    assert_same_run(tmp_path, unbroken_pair, recipe)
