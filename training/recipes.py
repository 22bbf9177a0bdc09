"""Recipes: everything that decides how a model is trained, by name."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from training.data.dead_leaves import Leaves
from training.model.derain_model import ModelShape
from training.model.losses import Loss
from training.model.rain_estimator import EstimatorShape
from training.model.unet import NetworkShape
from training.rain.families import MIXED, Family
from training.rain.streaks import MEDIUM
from training.repository import PHOTOGRAPHS, ROOT

InnerOptimizer = Literal["muon", "adamw"]


@dataclass(frozen=True)
class Inference:
    """How the finished model derains an image."""

    dry_below: float  # log-odds of rain, below which it leaves an image as it is
    longest_px: int | None  # larger images it derains at coarser scales first


@dataclass(frozen=True)
class Backgrounds:
    """The images that scenes are cut from."""

    photographs: Path | None  # a folder of clean images; None trains on leaves alone
    photograph_count: int | None  # how many of them, chosen by the seed; None is all
    leaves: Leaves
    leaves_count: int  # procedural images
    leaves_share: float  # how often a scene is cut from leaves rather than a photograph


@dataclass(frozen=True)
class Scenes:
    """How often a scene gets each of these. All are shares, from 0 to 1."""

    # Things that look like rain and are none.
    line_share: float  # lines: writing, wires, bars
    facade_share: float  # a façade before it
    document_share: float  # a page, a table, a chart or a bar code in its place
    lookalike_dry_share: float  # no rain, among the scenes with such a thing
    dry_share: float  # no rain, among the others

    tone_share: float  # another light, mist that is no rain, or night
    camera_share: float  # noise and JPEG of a camera, on the rainy and the clean image alike
    enlarged_share: float  # enlarged after the rain was drawn: streaks become many pixels wide
    reduced_share: float  # or reduced


@dataclass(frozen=True)
class Course:
    """The number of steps, and the size of a batch and its patches."""

    steps: int
    batch: int  # samples
    patch_px: int
    late_patch_px: int  # at the end: a network that sees farther than a patch has to see some of it
    late_share: float  # of the steps

    def patch_px_at(self, step: int) -> int:
        return self.late_patch_px if step >= self.steps * (1 - self.late_share) else self.patch_px


@dataclass(frozen=True)
class Optimization:
    """The loss, and how the optimizer minimises it."""

    learning_rate: float = 2e-3  # after the warm-up and until the decay
    warmup_steps: int = 200
    decay_share: float = 0.42  # of the steps, at the end, over which the rate falls to zero
    weight_decay: float = 1e-4
    gradient_clip: float = 0.5  # of each network's own gradient
    optimizer: InnerOptimizer = "muon"  # of the inner convolutions; AdamW has the rest in any case
    loss: Loss = "rmse"  # of each patch; its mean over patches is minimised
    average_decay: float = 0.999  # of the running mean of the weights, which is what ships


@dataclass(frozen=True)
class Intervals:
    """The number of steps between two log entries, validations and checkpoints."""

    log: int = 100
    validate: int = 2000
    checkpoint: int = 500


@dataclass(frozen=True)
class Recipe:
    """A training run. The same recipe gives the same samples in the same order."""

    name: str
    model: ModelShape
    inference: Inference
    rain: Family
    backgrounds: Backgrounds
    scenes: Scenes
    course: Course
    optimization: Optimization = Optimization()
    every: Intervals = Intervals()
    seed: int = 0


def base() -> Recipe:
    """The recipe of the shipped model, `models/base`: a rain estimator and four derainers.

    What one network gets wrong in rain that it has never seen, another one of its kind often does not.

    python training/run.py base
    """
    return Recipe(
        name="base",
        model=ModelShape(
            network=NetworkShape(width=16, blocks=(1, 1), dilations=(1, 2), conditioned=True),
            derainers=4,
            estimator=EstimatorShape(),
        ),
        # Of 147 rainy validation images the least log-odds are -0.9.
        inference=Inference(dry_below=-1.2, longest_px=1280),
        rain=MIXED,
        backgrounds=Backgrounds(
            photographs=PHOTOGRAPHS,
            photograph_count=None,
            leaves=Leaves(complexity=0.2, size_px=336, row_share=0.15),
            leaves_count=192,
            leaves_share=0.3,
        ),
        scenes=Scenes(
            line_share=0.06,
            facade_share=0.08,
            document_share=0.05,
            lookalike_dry_share=0.6,
            dry_share=0.1,
            tone_share=0.5,
            camera_share=0.4,
            enlarged_share=0.33,
            reduced_share=0.1,
        ),
        course=Course(steps=7_800, batch=16, patch_px=128, late_patch_px=192, late_share=0.06),
    )


def fast() -> Recipe:
    """The recipe of `models/fast`: one derainer, for CPUs and video.

    python training/run.py fast
    """
    recipe = base()
    return replace(recipe, name="fast", model=replace(recipe.model, derainers=1))


def best() -> Recipe:
    """Eight derainers, quality before speed. The first of them are those of `base` and `fast`, to the bit.

    python training/run.py best
    """
    recipe = base()
    return replace(recipe, name="best", model=replace(recipe.model, derainers=8))


def smoke() -> Recipe:
    """All of it in under two minutes on two cores: shows that the chain works, no more.

    python training/run.py smoke
    """
    recipe = fast()
    return replace(
        recipe,
        name="smoke",
        model=ModelShape(
            network=NetworkShape(width=8, blocks=(1,), dilations=(1, 2), conditioned=True),
            estimator=EstimatorShape(widths=(8, 16, 24), blocks=(1, 1, 1), pooled=16),
            context_px=96,
        ),
        backgrounds=replace(recipe.backgrounds, photograph_count=6, leaves_count=8),
        course=replace(recipe.course, steps=300, batch=8, patch_px=64, late_patch_px=64),
        optimization=replace(recipe.optimization, warmup_steps=30, average_decay=0.98),
        every=Intervals(log=20, validate=150, checkpoint=100),
    )


def study() -> Recipe:
    """One small training of many: what `python -m training study` varies.

    A network of a tenth of the shipped one's size, patches of 64 px, the paper's `medium` rain
    on nine patches in ten (as in the code of its follow-up's authors), no mix of backgrounds.
    About a minute on one core.
    """
    recipe = fast()
    return replace(
        recipe,
        name="study",
        model=ModelShape(NetworkShape(width=16, blocks=(1,), dilations=(1, 2, 1))),
        inference=replace(recipe.inference, longest_px=None),
        rain=MEDIUM,
        backgrounds=replace(recipe.backgrounds, leaves_count=0, leaves_share=0.0),
        scenes=replace(
            recipe.scenes,
            line_share=0.0,
            facade_share=0.0,
            document_share=0.0,
            tone_share=0.0,
            camera_share=0.0,
            enlarged_share=0.0,
            reduced_share=0.0,
        ),
        course=replace(recipe.course, steps=2000, patch_px=64, late_share=0.0),
        optimization=replace(recipe.optimization, warmup_steps=100, average_decay=0.995),
    )


def ablation() -> Recipe:
    """One small training of many: what `python -m training ablation` takes one thing away from.

    As `fast` but without an estimator, for smaller patches, a fifth of the steps, and warm-up and running
    mean shortened with them. About a minute and a half on one core.
    """
    recipe = fast()
    return replace(
        recipe,
        name="ablation",
        model=ModelShape(replace(recipe.model.network, conditioned=False)),
        course=replace(recipe.course, steps=1500, patch_px=64, late_patch_px=96),
        optimization=replace(recipe.optimization, warmup_steps=50, average_decay=0.99),
        every=replace(recipe.every, validate=1500),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "base": base,
    "fast": fast,
    "best": best,
    "smoke": smoke,
    "study": study,
    "ablation": ablation,
}


def describe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values; folders of this repository relative to its root."""
    described: dict[str, Any] = _plain(asdict(recipe))
    return described


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, Path):
        folder = value.resolve()
        return str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)
    return value
