"""The training loop."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from derain.errors import DerainError
from derain.image import write_atomically
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.network import DerainNetwork
from training.recipes import Recipe, describe
from training.samples import Samples

CHECKPOINT = "checkpoint.pt"
FORK = "fork.pt"  # the checkpoint that a course with late rain sets out from

Validate = Callable[[nn.Module], dict[str, float]]


class DivergedError(DerainError):
    """The loss is no longer a number."""


def train(recipe: Recipe, run_folder: Path, validate: Validate) -> DerainNetwork:
    """The trained network: the running mean of the weights, on the CPU, in eval mode.

    Goes on from the run folder's checkpoint where there is one, and writes there
    `checkpoint.pt` and `stats.jsonl`. Raises DivergedError when the loss is not finite.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)  # decides the initial weights, nothing else
    network = DerainNetwork(recipe.network).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its types lack this one
    average = deepcopy(network)
    average.requires_grad_(False).eval()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )

    described = describe(recipe)

    # Go on from where an earlier run of the same recipe stopped.
    checkpoint_path, stats = run_folder / CHECKPOINT, run_folder / "stats.jsonl"
    first_step = 0
    if checkpoint_path.exists():
        checkpoint = load_checkpoint(checkpoint_path, described)
        network.load_state_dict(checkpoint.network)
        average.load_state_dict(checkpoint.average)
        optimiser.load_state_dict(checkpoint.optimiser)
        first_step = checkpoint.step
        _forget_after(stats, first_step)
    if first_step == recipe.steps:
        return average.to("cpu")

    batches = _batches(recipe, first_step)
    progress = tqdm(range(first_step, recipe.steps), initial=first_step, total=recipe.steps, unit="step")
    started, waited, losses = time.monotonic(), 0.0, list[float]()
    for step in progress:
        # Fetch a batch, and note how long the network had to wait for it.
        asked = time.monotonic()
        rainy, clean = next(batches)
        waited += time.monotonic() - asked
        rainy = _to_network(rainy, device)  # float (batch, 3, patch, patch) in [0, 1]
        clean = _to_network(clean, device)

        # Forward and backward. Convolutions in bfloat16: three times faster on CPUs that have
        # instructions for it, not so on others, and right on all. The loss in float32.
        with torch.autocast(device.type, torch.bfloat16):
            derained = network(rainy)
        loss = root_mean_square_error(derained.float(), clean)
        if not torch.isfinite(loss):
            raise DivergedError(f"the loss is {loss.item()} at step {step}; try a lower learning rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
        if not torch.isfinite(norm):
            raise DivergedError(f"the gradient is {norm.item()} at step {step}; try a lower learning rate")
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        optimiser.step()
        _average(average, network, min(recipe.average_decay, (1 + step) / (10 + step)))
        losses.append(loss.item())

        # Write down how it goes.
        done = step + 1
        if done % recipe.log_every == 0:
            elapsed = time.monotonic() - started
            entry = {
                "step": done,
                "loss": fmean(losses),
                "learning_rate": learning_rate(recipe, step),
                "patches_per_second": len(losses) * recipe.batch / elapsed,
                "waiting_share": waited / elapsed,
            }
            _append(stats, entry)
            progress.set_postfix(loss=f"{entry['loss']:.4f}", waiting=f"{entry['waiting_share']:.0%}")
            started, waited, losses = time.monotonic(), 0.0, []
        if done % recipe.validate_every == 0 or done == recipe.steps:
            _append(stats, {"step": done} | validate(average))
            started, waited, losses = time.monotonic(), 0.0, []
        if done % recipe.checkpoint_every == 0 or done in (recipe.fork_step, recipe.steps):
            state = (network.state_dict(), average.state_dict(), optimiser.state_dict())
            checkpoint = Checkpoint(done, described, *state)
            if done == recipe.fork_step:
                save_checkpoint(checkpoint, run_folder / FORK)
            save_checkpoint(checkpoint, checkpoint_path)
    return average.to("cpu")


def train_courses(recipe: Recipe, run_folder: Path, validate: Validate) -> DerainNetwork:
    """As `train`; a recipe with late rain is trained on both courses, and their mean returned.

    The course with the late rain is in the run folder's `late/`.
    """
    if recipe.late_rain is None:
        return train(recipe, run_folder, validate)
    early = replace(recipe, late_rain=None)
    network = train(early, run_folder, validate)

    # The other course sets out from the fork, as if it had come all the way.
    late_folder = run_folder / "late"
    if not (late_folder / CHECKPOINT).exists():
        fork = load_checkpoint(run_folder / FORK, describe(early))
        save_checkpoint(replace(fork, recipe=describe(recipe)), late_folder / CHECKPOINT)
    late = train(recipe, late_folder, validate).state_dict()
    network.load_state_dict({name: (ours + late[name]) / 2 for name, ours in network.state_dict().items()})
    return network


def root_mean_square_error(derained: Tensor, clean: Tensor) -> Tensor:
    """The mean over a batch of each patch's own RMSE.

    Less even-handed between pixels than L1, which the few pixels of a drizzle cannot move:
    under it a network does best to leave them alone.
    """
    floor = 1e-3  # a quarter of a level: keeps the gradient finite where nothing is wrong
    return (derained - clean).square().mean(dim=(1, 2, 3)).add(floor**2).sqrt().mean()


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, a plateau, and a linear decay to zero at the end.

    With a plateau the first steps of a longer run are those of a shorter one.
    """
    warmup = (step + 1) / recipe.warmup_steps
    decay = (recipe.steps - step) / (recipe.decay_share * recipe.steps)
    return recipe.learning_rate * min(1.0, warmup, decay)


def _batches(recipe: Recipe, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches in order from `first_step` on, made in a process beside this one."""
    samples = Samples(recipe)
    indices = range(first_step * recipe.batch, len(samples))
    loader = DataLoader(
        samples,
        recipe.batch,
        sampler=indices,
        num_workers=1,
        prefetch_factor=16,
        worker_init_fn=_settle_worker,
    )
    return iter(loader)


def _settle_worker(_worker: int) -> None:
    gc.freeze()  # what the parent left behind is its own to clean up: here it has lost its threads
    cv2.setNumThreads(0)  # the other cores are the network's


def _to_network(pictures: Tensor, device: torch.device) -> Tensor:
    return pictures.to(device, torch.float32).div_(255).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)


def _forget_after(stats: Path, step: int) -> None:
    """Of an interrupted run, what came after its last checkpoint happens again."""
    lines = stats.read_text().splitlines(keepends=True) if stats.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    write_atomically(stats, "".join(kept).encode())


def _append(path: Path, entry: dict[str, float]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")
