"""Trains the temporal network on rendered clips."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from derain.arrays import AnyImage, FloatArray, channels_first
from derain.video.choices import choices, features
from training.seeding import Purpose, generator
from training.trainer.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.trainer.loop import CHECKPOINT, DivergedError, convolving, rate_share, update_average
from training.video.clips import FRAMES, Clips, crop
from training.video.fusion import FusionNetwork, mean_of
from training.video.recipe import TemporalRecipe

_AVERAGE_DECAY = 0.998
_GRADIENT_CLIP = 0.5
_WARMUP_STEPS = 100
_CHECKPOINT_STEPS = 250
_SMALLEST_ERROR = 1 / 255  # less is not to be gained
_FIRST_CROP = 1_000_000  # numbers of crops, apart from those of clips


def train_fusion(
    recipe: TemporalRecipe, clips: Clips, run_folder: Path, note: Callable[[int, float], object]
) -> FusionNetwork:
    """The running mean of the weights, in eval mode. Goes on from the checkpoint of the run folder.

    `note` is called after each step with the number of those that are done, and the loss. Raises
    DivergedError where that is not finite.
    """
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = FusionNetwork(recipe.width).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its types lack this one
    average = deepcopy(network)
    average.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-3)
    described, path, first = recipe.describe() | {"clips_from": clips.origin}, run_folder / CHECKPOINT, 0
    if path.exists():
        # Not the folder: the clips in it took long.
        start_anew = f"remove {path} to start anew on the same clips, or choose another --runs"
        checkpoint = load_checkpoint(path, described, start_anew)
        network.load_state_dict(checkpoint.model)
        average.load_state_dict(checkpoint.average)
        optimizer.load_state_dict(checkpoint.optimizer)
        first = checkpoint.step
    for step in range(first, recipe.steps):
        cells, images, clean = (each.to(device) for each in _batch(recipe, clips, step))
        rate = recipe.learning_rate * rate_share(step, recipe.steps, _WARMUP_STEPS, recipe.decay_share)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        with convolving(device):
            weights = network(cells)
        loss = _decibels(mean_of(images, weights.float()), clean).mean()
        if not torch.isfinite(loss):
            raise DivergedError(f"the loss is {loss.item()} at step {step}; try a lower learning rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_CLIP)
        optimizer.step()
        update_average(average, network, min(_AVERAGE_DECAY, (1 + step) / (10 + step)))
        note(step + 1, loss.item())
        if (step + 1) % _CHECKPOINT_STEPS == 0 or step + 1 == recipe.steps:
            state = (network.state_dict(), average.state_dict(), optimizer.state_dict())
            save_checkpoint(Checkpoint(step + 1, described, "", *state, []), path)
    return average.to("cpu")


def _decibels(fused: Tensor, clean: Tensor) -> Tensor:
    """Each sample's PSNR, negative, (N,): a decibel counts the same in light rain and in dense."""
    squared = (fused - clean).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(squared + _SMALLEST_ERROR**2)


def _batch(recipe: TemporalRecipe, clips: Clips, step: int) -> list[Tensor]:
    """The features, (N, CHANNELS, rows, columns), the choices, (N, 3 CHOICES, H, W), and the clean
    frames, (N, 3, H, W).
    """
    rng = generator(Purpose.CLIP, recipe.seed, _FIRST_CROP + step)
    parts: list[list[FloatArray]] = [[], [], []]
    for _ in range(recipe.batch):
        window = crop(clips.window(rng), recipe.patch_px, recipe.ends_share, rng)
        images, spreads = choices(list(window[:FRAMES]), list(window[FRAMES:-1]))
        chosen = cast(AnyImage, np.concatenate(images, axis=2))
        for part, values in zip(
            parts,
            (features(images, spreads), channels_first(chosen), channels_first(window[-1])),
            strict=True,
        ):
            part.append(values)
    return [torch.from_numpy(np.stack(part)) for part in parts]
