"""How much brighter the rain makes a picture, fitted anew to all that a finished survey sees.

That number is what networks are misled by most. The survey learns it beside two dozen others; what it sees of
windows tells more of it, to small networks that have nothing else to learn and cannot rely on any one thing
that is seen, since each is left out at random (Srivastava et al., "Dropout", 2014).
"""

import io
import pickle
from contextlib import closing, suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from derain.image import write_atomically
from training.batches import batches
from training.loop import Execution
from training.processes import Processes
from training.recipes import Recipe, describe
from training.samples import SurveySamples
from training.survey import BRIGHTER, Gauge, Survey
from training.tasks import to_network

GAUGE = "gauge.pt"  # in the folder that the survey is trained in
_EPOCHS = 25
_BATCH = 128  # windows
_LEARNING_RATE = 2e-3  # at its highest, a third of the way
_WEIGHT_DECAY = 0.05
_LEFT_OUT = (0.075, 0.15, 0.0)  # of what each layer is given, at random
_LEAST_WINDOWS = 8  # in the rain; of fewer there is nothing to learn


def kept_gauge(
    folder: Path, survey: Survey, recipe: Recipe, execution: Execution, device: torch.device
) -> Gauge | None:
    """As `fit_gauge`, but read from the survey's folder where the same run has fitted it already."""
    path, described = folder / GAUGE, describe(recipe)
    with suppress(OSError, RuntimeError, pickle.UnpicklingError, KeyError):  # none, or not a whole one
        kept = torch.load(path, weights_only=True)
        if kept["recipe"] == described:
            gauge = Gauge(survey.sees)
            gauge.load_state_dict(kept["weights"])
            return gauge.requires_grad_(False).eval()
    fitted = fit_gauge(survey, recipe, execution, device)
    if fitted is not None:
        serialised = io.BytesIO()
        torch.save({"recipe": described, "weights": fitted.state_dict()}, serialised)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, serialised.getvalue())
    return fitted


def fit_gauge(survey: Survey, recipe: Recipe, execution: Execution, device: torch.device) -> Gauge | None:
    """A gauge for the survey, which is left as it is; the same for the same survey and recipe.

    From the `gauge_windows` samples that come after those of the survey's training. None where the recipe
    wants none, or hardly any of them is in the rain. Raises what making samples raises.
    """
    seen, brighter = _see(survey.to(device), recipe, execution, device)
    if len(seen) < _LEAST_WINDOWS:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        gauge = Gauge(seen.shape[1])
        gauge.standardise(seen)
        known = gauge.standard(seen).detach()
        for voter in gauge.voters:
            assert isinstance(voter, nn.ModuleList)
            _fit(voter, known, Gauge.encode(brighter))
    return gauge.requires_grad_(False).eval()


@torch.no_grad()
def _see(survey: Survey, recipe: Recipe, execution: Execution, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the survey sees of windows in the rain, (N, seen), and how much brighter they are for it, (N,)."""
    assert recipe.survey is not None
    samples = SurveySamples(recipe)
    steps = range(recipe.steps, recipe.steps + -(-recipe.survey.gauge_windows // recipe.batch))
    seen, brighter = [torch.empty(0, survey.sees)], [torch.empty(0)]
    with closing(batches(samples, recipe.batch, steps, Processes(device=device), execution.workers)) as made:
        for windows, known in tqdm(made, total=len(steps), desc="gauge", unit="batch", disable=None):
            sight = survey.look(to_network(windows.to(device))).float().cpu()  # as precise as in service
            rains = known[:, -1] > 0
            seen.append(sight[rains])
            brighter.append(known[rains, BRIGHTER])
    return torch.cat(seen), torch.cat(brighter)


def _fit(voter: nn.ModuleList, seen: Tensor, brighter: Tensor) -> None:
    """Makes the squared error small, at a rate that rises and falls (Smith and Topin, 2018)."""
    batch = min(_BATCH, len(seen))
    count = len(seen) // batch
    optimiser = torch.optim.AdamW(voter.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=_EPOCHS * count)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(seen))[: count * batch].reshape(count, batch):
            x = seen[rows]
            for layer, left_out in zip(voter, _LEFT_OUT, strict=True):
                x = layer(functional.dropout(x, left_out))
                x = functional.silu(x) if layer is not voter[-1] else x
            optimiser.zero_grad()
            (x[:, 0] - brighter[rows]).square().mean().backward()
            optimiser.step()
            schedule.step()
