"""The training loop."""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from derain.errors import DerainError
from training.model.derain_model import Batch, DerainModel
from training.recipes import Recipe, describe
from training.trainer.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.trainer.distributed import Processes, alone_in, current
from training.trainer.loader import batches, default_workers
from training.trainer.optimizer import Optimizer
from training.trainer.run_log import Averages, Pace, Row, RunLog
from training.trainer.samples import Samples
from training.trainer.signals import Interrupted, requests_to_stop

CHECKPOINT = "checkpoint.pt"
_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # the last is ARM's

Validate = Callable[[DerainModel], Mapping[str, float | None]]
Show = Callable[[DerainModel], list[Row]]


@dataclass(frozen=True)
class Execution:
    """How a recipe is carried out on the machines at hand. It changes the result by float rounding alone."""

    workers: int | None = None  # processes that make samples, for each that trains; None: `default_workers`
    threads: int | None = None  # of each process that trains, on a CPU; None: the cores that workers leave
    micro_batch: int | None = None  # samples that a process takes at once; None: its whole share of a batch
    compile: bool = False  # the networks, by torch.compile, which needs a C++ compiler


class DivergedError(DerainError):
    """A loss or a gradient is not finite."""


def no_images(_model: DerainModel) -> list[Row]:
    return []


def train(
    recipe: Recipe,
    run_folder: Path,
    validate: Validate,
    show: Show = no_images,
    execution: Execution = Execution(),
) -> DerainModel:
    """Returns the trained model: the running mean of the weights, on the CPU, in eval mode.

    Goes on from the run folder's checkpoint where there is one. Writes `checkpoint.pt`, `stats.jsonl`,
    TensorBoard's files and the rows of `show` into that folder.
    Raises DivergedError when the loss is not finite, DiskError when something cannot be written,
    ProcessError when another process trains in the folder, Interrupted when asked to stop.
    """
    processes = current()
    with ExitStack() as lock:  # the main process holds it until the training ends
        with processes.together():
            if processes.is_main:
                lock.enter_context(alone_in(run_folder))
        return _train(recipe, run_folder, validate, show, execution, processes)


def _train(
    recipe: Recipe,
    run_folder: Path,
    validate: Validate,
    show: Show,
    execution: Execution,
    processes: Processes,
) -> DerainModel:
    course, learning = recipe.course, recipe.optimization
    share = len(processes.share_of(course.batch))
    workers = default_workers(processes) if execution.workers is None else execution.workers
    # More threads than cores wait for one another in a spin: a step can take ten times as long.
    torch.set_num_threads(execution.threads or max(1, processes.cores - workers))
    device = processes.device
    torch.manual_seed(recipe.seed)  # decides the initial weights, nothing else
    model = DerainModel(recipe.model).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its types lack this one
    average = deepcopy(model)
    average.requires_grad_(False).eval()
    optimizer = Optimizer(model, learning.learning_rate, learning.weight_decay, learning.optimizer)

    # Go on from where an earlier run of the same recipe stopped, on however many processes.
    described, checkpoint_path = describe(recipe), run_folder / CHECKPOINT
    checkpoint, first_step, unlogged = None, 0, list[Averages]()
    with processes.together():
        if processes.is_main and checkpoint_path.exists():
            start_anew = f"remove {run_folder} to start anew, or choose another --name"
            checkpoint = load_checkpoint(checkpoint_path, described, start_anew)
    checkpoint = processes.broadcast(checkpoint)
    if checkpoint is not None:
        model.load_state_dict(checkpoint.model)
        average.load_state_dict(checkpoint.average)
        optimizer.load_state_dict(checkpoint.optimizer)
        first_step, unlogged = checkpoint.step, checkpoint.unlogged
    if first_step == course.steps:
        return average.to("cpu")

    # Every process must have the background images that the run began with.
    with processes.together():
        samples = Samples(recipe)
    digest = processes.broadcast(checkpoint.images if checkpoint else samples.digest)
    with processes.together():
        _check_images(samples, digest, run_folder)

    steps = range(first_step, course.steps)
    upcoming = batches(samples, course.batch, steps, processes, workers)
    micro_batch = execution.micro_batch or share
    if execution.compile:
        _compile(model, device)

    def errors(batch: Batch) -> Tensor:
        return model.errors(batch, learning.loss)

    with (
        requests_to_stop() as request,
        _run_log(processes, run_folder, steps) as log,
        closing(upcoming),
    ):
        pace = Pace()
        for step in steps:
            # Fetch a batch, and note how long the networks had to wait for it.
            asked = time.monotonic()
            batch = next(upcoming)
            fetched = time.monotonic()

            # The gradient of the whole batch: the sum over all processes.
            model.zero_grad(set_to_none=True)
            losses = add_gradients(errors, batch, micro_batch, course.batch, device)
            gradients: list[Tensor] = [p.grad for p in model.parameters() if p.grad is not None]
            stop_requests = torch.tensor(float(request.number > 0), device=device)
            processes.add_up([*gradients, losses, stop_requests])
            if not torch.isfinite(losses).all():
                raise processes.alike(_diverged("loss", losses, step))
            # Clip each network's gradient by itself: that of the estimator is far the largest.
            norms = [nn.utils.clip_grad_norm_(p.parameters(), learning.gradient_clip) for p in model.parts]
            if not torch.isfinite(torch.stack(norms)).all():
                raise processes.alike(_diverged("gradient", torch.stack(norms), step))

            optimizer.step(learning_rate(recipe, step))
            update_average(average, model, min(learning.average_decay, (1 + step) / (10 + step)))
            unlogged.append(_step_values(model, losses, norms))
            ended = time.monotonic()
            pace.add(asked, fetched, ended)

            # The main process logs, validates and saves checkpoints.
            done = step + 1
            is_last = done == course.steps
            if log is not None:
                log.stepped(ended - asked)
            if done % recipe.every.log == 0:
                if log is not None:
                    log.trained(done, learning_rate(recipe, step), unlogged, pace, course.batch)
                unlogged, pace = [], Pace()
            if log is not None and (done % recipe.every.validate == 0 or is_last):
                log.validated(done, validate(average), show(average))
            is_asked_to_stop = stop_requests.item() > 0
            if log is not None and (done % recipe.every.checkpoint == 0 or is_last or is_asked_to_stop):
                log.settle()
                state = (model.state_dict(), average.state_dict(), optimizer.state_dict())
                reached = Checkpoint(done, described, digest, *state, unlogged)
                save_checkpoint(reached, checkpoint_path)
            if is_asked_to_stop and not is_last:
                processes.barrier()  # else torchrun may kill the main process while it saves
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
    """Adds a share of a batch to the parameters' gradients; returns its part of the losses, (losses,).

    `errors` returns the losses of each sample, (N, losses). A loss is a mean over the samples of the whole
    batch. So the part of a share is the sum over its samples, divided by the size of the whole batch.
    """
    parts: list[Tensor] = []
    precision = convolving(device)
    for part in zip(*(each.split(micro_batch) for each in batch), strict=True):
        on_device = tuple(each.to(device, non_blocking=True) for each in part)
        with precision, _compile_errors():
            losses = errors(on_device).sum(dim=0) / whole_batch
        losses.sum().backward()
        parts.append(losses.detach())
    return torch.stack(parts).sum(dim=0)


def _diverged(what: str, values: Tensor, step: int) -> DivergedError:
    value = next(value for value in values.tolist() if not math.isfinite(value))
    return DivergedError(f"the {what} is {value} at step {step}; try a lower learning rate")


def _step_values(model: DerainModel, losses: Tensor, norms: list[Tensor]) -> Averages:
    """The values of a step to log: means over the derainers, and the estimator's own."""
    first = 0 if model.estimator is None else 1
    values = {
        "loss": losses[first:].mean().item(),
        "gradient_norm": torch.stack(norms[first:]).mean().item(),
    }
    if first:
        values |= {"estimator_loss": losses[0].item(), "estimator_gradient_norm": norms[0].item()}
    return values


def convolving(device: torch.device) -> torch.autocast:
    """Convolutions in bfloat16 where the device has instructions for it, the loss in float32.

    With these instructions convolutions are about three times faster. Without them torch converts back and
    forth: on an AMD EPYC with AVX2 a training step took six times as long as in float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=_has_bfloat16(device))


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return any(can.get(name, False) for name in _BFLOAT16_INSTRUCTIONS)


def learning_rate(recipe: Recipe, step: int) -> float:
    steps, learning = recipe.course.steps, recipe.optimization
    return learning.learning_rate * rate_share(step, steps, learning.warmup_steps, learning.decay_share)


def rate_share(step: int, steps: int, warmup_steps: int, decay_share: float) -> float:
    """Of the highest learning rate: linear warm-up, a plateau, and a linear decay to zero at the end.

    With a plateau a longer run begins with the same steps as a shorter one.
    """
    return min(1.0, (step + 1) / warmup_steps, (steps - step) / (decay_share * steps))


def _check_images(samples: Samples, digest: str, run_folder: Path) -> None:
    if samples.digest != digest:
        folders = " or ".join(map(str, samples.folders))
        raise CheckpointError(
            f"the images in {folders} are not those that the run in {run_folder} began with: "
            f"bring those back, or begin anew with these in another folder (another --name)"
        )


def _run_log(processes: Processes, run_folder: Path, steps: range) -> AbstractContextManager[RunLog | None]:
    if not processes.is_main:
        return nullcontext()
    run_folder.mkdir(parents=True, exist_ok=True)
    return RunLog(run_folder, steps.start, steps.stop)


def _compile(model: DerainModel, device: torch.device) -> None:
    """Compiles the networks in place. Results and checkpoints stay the same."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise DerainError(f"--compile needs a C++ compiler, and there is no {compiler}")
    for part in model.parts:
        part.compile()


@contextmanager
def _compile_errors() -> Iterator[None]:
    """torch compiles at the first call of a network, and its errors become DerainError."""
    from torch._dynamo.exc import TorchDynamoException  # takes a second, and of use to steps alone

    try:
        yield
    except TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        raise DerainError(f"torch.compile failed, so do without --compile: {reason}") from error


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """The exponential moving average of the weights."""
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
