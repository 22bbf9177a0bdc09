"""What there is to learn: to derain, or before that, to tell what rain it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from training.batches import Batch
from training.network import DerainNetwork
from training.recipes import Loss, Recipe
from training.samples import Samples, SurveySamples
from training.survey import Survey, findings_of_patches, survey_errors

Learner = TypeVar("Learner", DerainNetwork, Survey, covariant=True)
Forward = Callable[..., Tensor]


class Task(Protocol[Learner]):
    def network(self, recipe: Recipe) -> Learner:
        """With random weights."""
        ...

    def samples(self, recipe: Recipe) -> Samples: ...

    def errors(self, forward: Forward, batch: Batch, recipe: Recipe) -> Tensor:
        """Of each sample, (N,); the loss is their mean."""
        ...


@dataclass(frozen=True)
class Deraining:
    """By a network that is told what the survey finds, where there is one."""

    survey: Survey | None = None  # trained, and not trained any more

    def network(self, recipe: Recipe) -> DerainNetwork:
        return DerainNetwork(recipe.network)

    def samples(self, recipe: Recipe) -> Samples:
        return Samples(recipe)

    def errors(self, forward: Forward, batch: Batch, recipe: Recipe) -> Tensor:
        if self.survey is None:
            rainy, clean = map(to_network, batch)
            return patch_errors(forward(rainy).float(), clean, recipe.loss)
        overview, place = to_network(batch[0]), batch[1]
        count, patches = place.shape[:2]
        rainy, clean = (to_network(each.flatten(0, 1)) for each in batch[2:])
        with torch.no_grad():
            findings = findings_of_patches(self.survey, overview, place)
        errors = patch_errors(forward(rainy, findings).float(), clean, recipe.loss)
        return errors.reshape(count, patches).mean(dim=1)


@dataclass(frozen=True)
class SurveyTask:
    """To name what rain was drawn with."""

    def network(self, recipe: Recipe) -> Survey:
        assert recipe.survey is not None
        return Survey(recipe.survey.shape)

    def samples(self, recipe: Recipe) -> Samples:
        return SurveySamples(recipe)

    def errors(self, forward: Forward, batch: Batch, recipe: Recipe) -> Tensor:
        windows, expected = batch
        return survey_errors(forward(to_network(windows)), expected)


def patch_errors(derained: Tensor, clean: Tensor, kind: Loss = "rmse") -> Tensor:
    """Each patch's own RMSE or mean absolute error, (N,); the loss is their mean.

    RMSE is less even-handed between pixels than L1, which the few pixels of a drizzle cannot move:
    under it a network does best to leave them alone.
    """
    if kind == "l1":
        return (derained - clean).abs().mean(dim=(1, 2, 3))
    floor = 1e-3  # a quarter of a level: keeps the gradient finite where nothing is wrong
    return (derained - clean).square().mean(dim=(1, 2, 3)).add(floor**2).sqrt()


def to_network(pictures: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) as the networks take it."""
    return pictures.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)
