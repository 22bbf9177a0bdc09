"""The last that a survey learns: whether there is rain at all, so that a dry picture is left as it is.

What it sees by then tells rains apart. From that alone, of windows half of which are dry, with façades,
writing and wires among them, it learns to tell rain from none: by logistic regression, which is linear and
has one solution, so there is little in it that could be wrong about rain and scenes that were not among them.
"""

import hashlib
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from derain.image import write_atomically
from training.batches import batches
from training.logistic import Values, logistic_regression
from training.loop import Execution
from training.processes import Processes, alone_in, current
from training.recipes import Recipe, describe
from training.samples import SurveySamples
from training.survey import Survey
from training.tasks import to_network

LEARNT = "notice.json"
_RIDGE = 30.0  # of weights from 1 to 1,000 this one told rain from none best, by little


def learn_to_notice(survey: Survey, recipe: Recipe, folder: Path, execution: Execution) -> None:
    """Gives the survey its `notice`, in place, and keeps it in the folder.

    The first process learns; the others wait for it. What was learnt before in the same folder, of the same
    survey and recipe, is taken from there.
    """
    slopes, bias = current().from_the_first(lambda: _learnt(survey, recipe, folder, execution))
    with torch.no_grad():
        survey.notice.weight.copy_(torch.from_numpy(slopes))
        survey.notice.bias.fill_(bias)


def _learnt(survey: Survey, recipe: Recipe, folder: Path, execution: Execution) -> tuple[Values, float]:
    with alone_in(folder):
        samples = SurveySamples(recipe.of_noticing())
        key = _key(survey, samples)
        if (known := _read(folder / LEARNT, key)) is not None:
            return known
        features, is_rainy = _windows(survey, samples, execution)
        if is_rainy.all() or not is_rainy.any():  # a rehearsal's few windows
            slopes, bias = np.zeros(features.shape[1]), 0.0
        else:
            slopes, bias = logistic_regression(features, is_rainy, _RIDGE)
        learnt = {"key": key, "slopes": slopes.tolist(), "bias": bias}
        write_atomically(folder / LEARNT, json.dumps(learnt).encode())
        return slopes, bias


@torch.inference_mode()
def _windows(survey: Survey, samples: SurveySamples, execution: Execution) -> tuple[Values, Values]:
    """What the survey sees in each, (N, K), and whether there is rain in it, (N,)."""
    recipe = samples.recipe
    assert recipe.survey is not None
    device, alone = current().device, Processes(device=current().device)
    survey = survey.to(device)
    steps = range(recipe.steps - recipe.survey.noticing_steps, recipe.steps)
    made = batches(samples, recipe.batch, steps, alone, execution.workers)
    features, is_rainy = [], []
    with closing(made) as coming:
        for windows, facts in tqdm(coming, total=len(steps), unit="step", disable=None):
            features.append(survey.features(to_network(windows.to(device))).double().cpu())
            is_rainy.append(facts[:, -1].double())
    return torch.cat(features).numpy(), torch.cat(is_rainy).numpy()


def _key(survey: Survey, samples: SurveySamples) -> str:
    """Of all that it is learnt from."""
    recipe = json.dumps(describe(samples.recipe), sort_keys=True)
    digest = hashlib.sha256(recipe.encode() + samples.digest.encode())
    for weight in survey.parameters():
        digest.update(weight.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path, key: str) -> tuple[Values, float] | None:
    """None where there is none, a damaged one, or one of another survey or recipe."""
    try:
        learnt = json.loads(path.read_text())
        return (np.array(learnt["slopes"]), float(learnt["bias"])) if learnt["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
