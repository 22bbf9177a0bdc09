"""The variants of the reference recipe: each differs from it in one thing, by the fields named here."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from derain.errors import DerainError
from training.arguments import first_repeated
from training.image_folder import list_images
from training.model.rain_estimator import EstimatorShape
from training.rain.families import Family
from training.rain.mixture import Mixture
from training.rain.streaks import LARGE, MEDIUM, SMALL, WIDE
from training.rain.varied import ACCUMULATED, CURTAINS, DENSE, VARIED, VEILED
from training.recipes import Recipe

Group = Literal["backgrounds", "rain", "tricks"]
GROUPS: tuple[Group, ...] = get_args(Group)

FEW, SOME = 16, 64  # photographs

STREAKS = Mixture("streaks", (VARIED, CURTAINS, DENSE), (0.58, 0.14, 0.28))
VEILS = Mixture("veils", (VARIED, CURTAINS, DENSE, VEILED, ACCUMULATED), (0.2, 0.05, 0.1, 0.25, 0.4))


class AblationError(DerainError):
    """An ablation that cannot be run as it was asked for."""


@dataclass(frozen=True)
class Variant:
    group: Group | None  # None: the reference itself
    name: str  # among all, and of its files
    text: str  # what is different, for people
    recipe: Recipe


def list_variants(reference: Recipe, photographs: Path | None = None) -> list[Variant]:
    """The reference, and all that differs from it; `photographs` is a folder of others.

    Raises AblationError where two have one name, and what listing the folders raises.
    """
    variants = [
        Variant(None, "reference", "**the reference**: all of it", reference),
        *_backgrounds(reference, photographs),
        *_rain(reference),
        *_tricks(reference),
    ]
    if twice := first_repeated(variant.name for variant in variants):
        raise AblationError(f"two variants are named {twice}: give the folder {photographs} another name")
    return variants


def _backgrounds(reference: Recipe, photographs: Path | None) -> list[Variant]:
    """Leaves or photographs alone, where the reference has both.

    Leaves: `photographs`, and `leaves` but for the reference's own complexity. Photographs:
    `leaves_share` and `photograph_count`, of another folder `photographs` too.
    """
    backgrounds = reference.backgrounds
    variants: list[Variant] = []
    for complexity in sorted({0.0, backgrounds.leaves.complexity, 0.5, 1.0}):
        leaves = replace(backgrounds.leaves, complexity=complexity)
        recipe = replace(reference, backgrounds=replace(backgrounds, photographs=None, leaves=leaves))
        text = f"leaves alone, of complexity {complexity:g}"
        variants.append(Variant("backgrounds", f"leaves-{complexity:g}", text, recipe))
    if backgrounds.photographs is not None:
        kind = ("photographs", "photographs", backgrounds.photographs)
        variants += _photographs(reference, *kind, counts=(FEW, None))
    if photographs is not None:
        name = photographs.resolve().name
        variants += _photographs(reference, name, f"photographs of `{name}`", photographs, (FEW, SOME, None))
    return variants


def _photographs(
    reference: Recipe, name: str, kind: str, folder: Path, counts: tuple[int | None, ...]
) -> list[Variant]:
    """As many as there are of them for None; what there are not enough for is left out."""
    available = len(list_images(folder))
    numbers = [count for count in counts if count is None or count < available]
    variants: list[Variant] = []
    for count in numbers:
        some = replace(reference.backgrounds, photographs=folder, photograph_count=count, leaves_share=0.0)
        recipe = replace(reference, backgrounds=some)
        text = f"{kind} alone, {count or f'all {available}'}"
        variants.append(Variant("backgrounds", f"{name}-{count or available}", text, recipe))
    return variants


def _rain(reference: Recipe) -> list[Variant]:
    """`rain`: the paper's three ranges, ours, and mixtures with fewer and more veils."""
    rains: list[tuple[Family, str]] = [
        (SMALL, "the paper's `small` range"),
        (MEDIUM, "the paper's `medium` range"),
        (LARGE, "the paper's `large` range"),
        (WIDE, "`wide` alone"),
        (VARIED, "`varied` alone"),
        (STREAKS, "`mixed` without veils: no `veiled`, no `accumulated`"),
        (VEILS, "`mixed` with five times as many veils"),
    ]
    return [Variant("rain", rain.name, text, replace(reference, rain=rain)) for rain, text in rains]


def _tricks(reference: Recipe) -> list[Variant]:
    """One field each."""
    model, network, scenes = reference.model, reference.model.network, reference.scenes
    optimization = reference.optimization
    # The blocks of the scale that goes are as many more at the one that is then the coarsest: within
    # a few hundredths the same cost, as a block costs the same at every scale.
    flatter = replace(network, blocks=(1,), dilations=(1, 2, 2, 1))
    conditioned = replace(model, network=replace(network, conditioned=True), estimator=EstimatorShape())
    no_lookalikes = replace(scenes, line_share=0.0, facade_share=0.0, document_share=0.0)
    switched = {
        "estimator": ("with a rain estimator", replace(reference, model=conditioned)),
        "ensemble": ("four networks, and their mean", replace(reference, model=replace(model, derainers=4))),
        "two-scales": (
            "two scales, not three, of the same cost",
            replace(reference, model=replace(model, network=flatter)),
        ),
        "no-tone": (
            "scenes in no other light, nor in mist",
            replace(reference, scenes=replace(scenes, tone_share=0.0)),
        ),
        "no-lookalikes": ("no lines, façades or documents", replace(reference, scenes=no_lookalikes)),
        "no-camera": (
            "no noise and no JPEG of a camera",
            replace(reference, scenes=replace(scenes, camera_share=0.0)),
        ),
        "no-enlarged": (
            "nothing enlarged after the rain",
            replace(reference, scenes=replace(scenes, enlarged_share=0.0)),
        ),
        "no-late-patches": (
            "no larger patches at the end",
            replace(reference, course=replace(reference.course, late_share=0.0)),
        ),
        "adamw": (
            "AdamW alone, no Muon",
            replace(reference, optimization=replace(optimization, optimizer="adamw")),
        ),
        "no-mean": (
            "the last weights, no running mean",
            replace(reference, optimization=replace(optimization, average_decay=0.0)),
        ),
        "l1": (
            "L1, not each patch's RMSE",
            replace(reference, optimization=replace(optimization, loss="l1")),
        ),
        "no-dry": (
            "rain on every patch but lookalikes",
            replace(reference, scenes=replace(scenes, dry_share=0.0)),
        ),
    }
    return [Variant("tricks", name, text, recipe) for name, (text, recipe) in switched.items()]
