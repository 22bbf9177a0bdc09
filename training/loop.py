"""The training loop."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from derain.errors import DerainError
from training.batches import Batch, batches
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.interruption import Interrupted, requests_to_stop
from training.network import DerainNetwork
from training.optimiser import Optimiser
from training.processes import Processes, alone_in, current
from training.progress import Pace, Progress, Row
from training.recipes import Recipe, describe
from training.samples import Samples
from training.survey import Survey
from training.tasks import Deraining, Forward, Learner, Task

CHECKPOINT = "checkpoint.pt"
_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # the last is ARM's

Validate = Callable[[Learner], Mapping[str, float | None]]
Show = Callable[[Learner], list[Row]]


@dataclass(frozen=True)
class Execution:
    """How a recipe is carried out on the machines at hand: changes no more than float rounding."""

    workers: int | None = None  # processes that make samples, beside each that trains; None: enough
    micro_batch: int | None = None  # the most patches that a process takes at once; None: all its share
    compile: bool = False  # by torch.compile, which needs a C++ compiler


class DivergedError(DerainError):
    """The loss is no longer a number."""


def no_scores(_network: nn.Module) -> dict[str, float | None]:
    return {}


def no_pictures(_network: nn.Module) -> list[Row]:
    return []


def train(
    recipe: Recipe,
    run_folder: Path,
    validate: Validate[DerainNetwork],
    show: Show[DerainNetwork] = no_pictures,
    execution: Execution = Execution(),
    survey: Survey | None = None,
) -> DerainNetwork:
    """The trained network, which is told what the survey finds; see `learn`."""
    return learn(Deraining(survey), recipe, run_folder, validate, show, execution)


def learn(
    task: Task[Learner],
    recipe: Recipe,
    run_folder: Path,
    validate: Validate[Learner],
    show: Show[Learner] = no_pictures,
    execution: Execution = Execution(),
) -> Learner:
    """The trained network: the running mean of the weights, on the CPU, in eval mode.

    Goes on from the run folder's checkpoint where there is one, and writes there `checkpoint.pt`,
    `stats.jsonl`, TensorBoard's files and what `show` gives.
    Raises DivergedError when the loss is not finite, DiskError when something cannot be written,
    ProcessError when another process trains in the folder, Interrupted when asked to stop.
    """
    processes = current()
    with ExitStack() as held:
        processes.from_the_first(lambda: held.enter_context(alone_in(run_folder)))
        return _learn(task, recipe, run_folder, validate, show, execution, processes)


def _learn(
    task: Task[Learner],
    recipe: Recipe,
    run_folder: Path,
    validate: Validate[Learner],
    show: Show[Learner],
    execution: Execution,
    processes: Processes,
) -> Learner:
    share = len(processes.share_of(recipe.batch))
    device = processes.device
    torch.manual_seed(recipe.seed)  # decides the initial weights, nothing else
    network = task.network(recipe).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its types lack this one
    average = deepcopy(network)
    average.requires_grad_(False).eval()
    optimiser = Optimiser(network, recipe.learning_rate, recipe.weight_decay, recipe.optimiser)

    # Go on from where an earlier run of the same recipe stopped, on however many processes.
    described, checkpoint_path = describe(recipe), run_folder / CHECKPOINT
    checkpoint = processes.from_the_first(lambda: _checkpoint_there(checkpoint_path, described))
    first_step, unlogged = 0, list[tuple[float, float]]()
    if checkpoint is not None:
        network.load_state_dict(checkpoint.network)
        average.load_state_dict(checkpoint.average)
        optimiser.load_state_dict(checkpoint.optimiser)
        first_step, unlogged = checkpoint.step, checkpoint.unlogged
    if first_step == recipe.steps:
        return average.to("cpu")

    # The same pictures as before, and as everywhere.
    samples = processes.on_each(lambda: task.samples(recipe))
    pictures = processes.from_the_first(lambda: checkpoint.pictures if checkpoint else samples.digest)
    processes.on_each(lambda: _check_pictures(samples, pictures, run_folder))

    steps = range(first_step, recipe.steps)
    made = batches(samples, recipe.batch, steps, processes, execution.workers)
    forward = _compiled(network, device) if execution.compile else network
    micro_batch = execution.micro_batch or share

    def errors(batch: Batch) -> Tensor:
        return task.errors(forward, batch, recipe)

    with (
        requests_to_stop() as request,
        _progress(processes, run_folder, steps) as progress,
        closing(made) as coming,
    ):
        pace = Pace()
        for step in steps:
            # Fetch a batch, and note how long the network had to wait for it.
            asked = time.monotonic()
            batch = next(coming)
            fetched = time.monotonic()

            # The gradient of the whole batch, from all processes.
            network.zero_grad(set_to_none=True)
            loss = add_gradients(errors, batch, micro_batch, recipe.batch, device)
            gradients: list[Tensor] = [p.grad for p in network.parameters() if p.grad is not None]
            stops = torch.tensor(float(request.number > 0), device=device)
            processes.add_up([*gradients, loss, stops])
            if not torch.isfinite(loss):
                raise processes.alike(
                    DivergedError(f"the loss is {loss.item()} at step {step}; try a lower learning rate")
                )
            norm = nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
            if not torch.isfinite(norm):
                raise processes.alike(
                    DivergedError(f"the gradient is {norm.item()} at step {step}; try a lower learning rate")
                )

            optimiser.step(learning_rate(recipe, step))
            _average(average, network, min(recipe.average_decay, (1 + step) / (10 + step)))
            unlogged.append((loss.item(), norm.item()))
            pace.add(asked, fetched, time.monotonic())

            # The first process writes down how it goes, and what it takes to go on.
            done = step + 1
            is_last = done == recipe.steps
            if progress is not None:
                progress.stepped()
            if done % recipe.log_every == 0:
                if progress is not None:
                    progress.log(done, learning_rate(recipe, step), unlogged, pace, recipe.batch)
                unlogged, pace = [], Pace()
            if progress is not None and (done % recipe.validate_every == 0 or is_last):
                progress.validated(done, validate(average), show(average))
            is_asked_to_stop = stops.item() > 0
            if progress is not None and (done % recipe.checkpoint_every == 0 or is_last or is_asked_to_stop):
                progress.settle()
                state = (network.state_dict(), average.state_dict(), optimiser.state_dict())
                reached = Checkpoint(done, described, pictures, *state, unlogged)
                save_checkpoint(reached, checkpoint_path)
            if is_asked_to_stop and not is_last:
                processes.wait_for_all()  # lest torchrun take the first one down as it saves
                text = f"stopped after step {done} and saved a checkpoint; the same command goes on from it"
                raise Interrupted(request.number, text)
    return average.to("cpu")


def add_gradients(
    errors: Callable[[Batch], Tensor],
    batch: Batch,
    micro_batch: int,
    whole_batch: int,
    device: torch.device,
) -> Tensor:
    """Adds to the parameters' gradients this share's part of the whole batch's; its part of the loss.

    The loss is a mean over samples, so a share's part is its sum over the size of the whole batch.
    """
    parts: list[Tensor] = []
    precision = convolving(device)
    for part in zip(*(each.split(micro_batch) for each in batch), strict=True):
        on_device = tuple(each.to(device, non_blocking=True) for each in part)
        with precision:
            loss = errors(on_device).sum() / whole_batch
        loss.backward()
        parts.append(loss.detach())
    return torch.stack(parts).sum()


def convolving(device: torch.device) -> torch.autocast:
    """Convolutions in bfloat16 where the device has instructions for it, the loss in float32.

    They are about three times faster with them; without, bfloat16 is done by converting back and
    forth, and a training step took six times as long as in float32 on an AMD EPYC with AVX2.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=_has_bfloat16(device))


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return any(can.get(name, False) for name in _BFLOAT16_INSTRUCTIONS)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, a plateau, and a linear decay to zero at the end.

    With a plateau the first steps of a longer run are those of a shorter one.
    """
    warmup = (step + 1) / recipe.warmup_steps
    decay = (recipe.steps - step) / (recipe.decay_share * recipe.steps)
    return recipe.learning_rate * min(1.0, warmup, decay)


def _checkpoint_there(path: Path, described: dict[str, Any]) -> Checkpoint | None:
    return load_checkpoint(path, described) if path.exists() else None


def _check_pictures(samples: Samples, pictures: str, run_folder: Path) -> None:
    if samples.digest != pictures:
        folders = " or ".join(map(str, samples.folders))
        raise CheckpointError(
            f"the pictures in {folders} are not those that the run in {run_folder} began with: "
            f"bring those back, or begin anew with these in another folder (another --name)"
        )


def _progress(
    processes: Processes, run_folder: Path, steps: range
) -> AbstractContextManager[Progress | None]:
    if not processes.is_first:
        return nullcontext()
    run_folder.mkdir(parents=True, exist_ok=True)
    return Progress(run_folder, steps.start, steps.stop)


def _compiled(network: nn.Module, device: torch.device) -> Forward:
    """Computes as the network does, with its weights: checkpoints are the same."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise DerainError(f"--compile needs a C++ compiler, and there is no {compiler}")
    compiled: Forward = torch.compile(network)

    def forward(*inputs: Tensor) -> Tensor:
        try:
            return compiled(*inputs)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise DerainError(f"torch.compile failed, so do without --compile: {reason}") from error

    return forward


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
