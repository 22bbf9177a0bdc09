"""Each variant differs from the reference in what it says, and in nothing else."""

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from derain.images.formats import PNG
from derain.images.plain import encode
from training.ablation.cells import list_cells
from training.ablation.variants import AblationError, list_variants
from training.export import kmac_per_pixel
from training.model import DerainModel, ModelShape
from training.rain.families import MIXED, TRAINABLE
from training.rain.mixture import Mixture
from training.recipes import Recipe, ablation, base

REFERENCE = ablation()

# Fields by variant, where it is not one of a group that shares them.
TRICKS = {
    "no-tone": {"tone_share"},
    "no-lookalikes": {"line_share", "facade_share", "document_share"},
    "no-camera": {"camera_share"},
    "no-enlarged": {"enlarged_share"},
    "no-late-patches": {"late_share"},
    "adamw": {"optimiser"},
    "no-mean": {"average_decay"},
    "l1": {"loss"},
    "no-dry": {"dry_share"},
    "estimator": {"model"},
    "ensemble": {"model"},
    "two-scales": {"model"},
}
BACKGROUNDS = {
    "leaves-0": {"photographs", "leaves"},
    "leaves-0.2": {"photographs"},
    "leaves-0.5": {"photographs", "leaves"},
    "leaves-1": {"photographs", "leaves"},
    "photographs-16": {"leaves_share", "photograph_count"},
    "photographs-67": {"leaves_share"},
}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty photographs of one grey each."""
    folder = tmp_path_factory.mktemp("others") / "greys"
    folder.mkdir()
    for level in range(20):
        (folder / f"{level}.png").write_bytes(encode(np.full((32, 32, 3), level, dtype=np.uint8), PNG))
    return folder


def differing(recipe: Recipe, other: Recipe) -> set[str]:
    return {f.name for f in fields(Recipe) if getattr(recipe, f.name) != getattr(other, f.name)}


def test_the_reference_is_the_shipped_recipe_but_for_its_size_and_estimator() -> None:
    sizes = {"steps", "batch", "patch_px", "late_patch_px", "warmup_steps", "average_decay"}
    network = replace(base().model.network, conditioned=False)
    alone = replace(base(), model=ModelShape(network))
    assert differing(REFERENCE, alone) <= sizes | {"name", "validate_every", "checkpoint_every"}


def test_a_variant_differs_in_what_it_says_alone(others: Path) -> None:
    reference, *variants = list_variants(REFERENCE, others)
    assert (reference.group, reference.recipe) == (None, REFERENCE)
    found = {(each.group, each.name): differing(each.recipe, REFERENCE) for each in variants}
    expected = {("tricks", name): which for name, which in TRICKS.items()}
    rains = ("small", "medium", "large", "wide", "varied", "streaks", "veils")
    expected |= {("rain", name): {"rain"} for name in rains}
    expected |= {("backgrounds", name): which for name, which in BACKGROUNDS.items()}
    # Of twenty there are no 64.
    expected |= {
        ("backgrounds", "greys-16"): {"leaves_share", "photographs", "photograph_count"},
        ("backgrounds", "greys-20"): {"leaves_share", "photographs"},
    }
    assert found == expected


def test_what_is_switched_off_is_off(others: Path) -> None:
    by_name = {variant.name: variant.recipe for variant in list_variants(REFERENCE, others)}
    dry = by_name["no-lookalikes"]
    assert dry.line_share == dry.facade_share == dry.document_share == by_name["no-camera"].camera_share == 0
    assert by_name["no-dry"].dry_share == by_name["no-mean"].average_decay == 0
    assert by_name["no-tone"].tone_share == by_name["no-enlarged"].enlarged_share == 0
    last = REFERENCE.steps - 1
    assert REFERENCE.patch_px_at(last) == 96
    assert by_name["no-late-patches"].patch_px_at(last) == 64
    assert by_name["leaves-0"].leaves == replace(REFERENCE.leaves, complexity=0)
    assert (by_name["adamw"].optimiser, by_name["l1"].loss) == ("adamw", "l1")
    for name in ("small", "medium", "large", "wide", "varied"):
        assert by_name[name].rain.name == name in TRAINABLE
    assert by_name["greys-16"].photographs == others


def test_what_is_added_is_the_shipped_model_s() -> None:
    """Beside it nothing of the model is different."""
    models = {variant.name: variant.recipe.model for variant in list_variants(REFERENCE)}
    estimator, reference = models["estimator"], REFERENCE.model
    assert (estimator.estimator, estimator.network) == (base().model.estimator, base().model.network)
    assert replace(estimator, estimator=None, network=reference.network) == reference
    assert models["ensemble"] == replace(reference, members=base().model.members)


@pytest.mark.parametrize(("name", "least", "most"), [("streaks", 0.0, 0.0), ("veils", 0.6, 0.7)])
def test_mixtures_differ_in_their_veils(name: str, least: float, most: float) -> None:
    """The reference has 13 in a hundred; the other families stand to one another as in it."""
    (rain,) = (v.recipe.rain for v in list_variants(REFERENCE) if v.name == name)
    assert isinstance(rain, Mixture)
    shares, of_reference = (
        {family.name: share for family, share in zip(mixture.families, mixture.shares, strict=True)}
        for mixture in (rain, MIXED)
    )
    assert sum(shares.values()) == pytest.approx(1)
    assert least <= shares.get("veiled", 0.0) + shares.get("accumulated", 0.0) <= most
    for family in ("curtains", "dense"):
        expected = of_reference[family] / of_reference["varied"]
        assert shares[family] / shares["varied"] == pytest.approx(expected, rel=0.05)


def test_two_scales_cost_what_three_do() -> None:
    (flatter,) = (v.recipe.model for v in list_variants(REFERENCE) if v.name == "two-scales")
    assert (len(flatter.network.widths), len(REFERENCE.model.network.widths)) == (2, 3)
    costs = [kmac_per_pixel(DerainModel(shape)) for shape in (flatter, REFERENCE.model)]
    assert math.isclose(*costs, rel_tol=0.05)


def test_variants_of_one_name_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for level in range(17):
        (folder / f"{level}.png").write_bytes(encode(np.full((32, 32, 3), level, dtype=np.uint8), PNG))
    with pytest.raises(AblationError, match="two variants are named photographs-16: give the folder"):
        list_variants(REFERENCE, folder)


def test_cells_are_a_whole_seed_after_the_other() -> None:
    variants = list_variants(REFERENCE)
    cells = list_cells(variants, range(2))
    assert [cell.seed for cell in cells] == [0] * len(variants) + [1] * len(variants)
    assert all(cell.recipe.seed == cell.seed for cell in cells)
    assert len({cell.name for cell in cells}) == len(cells)
    assert cells[0].name == "reference-seed0"
