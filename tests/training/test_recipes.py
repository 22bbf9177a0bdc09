"""Recipes are told apart by their sections, and the shipped models' have the same ones."""

import json
from dataclasses import fields
from typing import Any

import pytest

from derain.manifest import load_manifest
from tests.conftest import ROOT
from training.recipes import RECIPES, Recipe, base, describe


def names(described: dict[str, Any], within: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in described.items():
        found |= names(value, f"{within}{name}.") if isinstance(value, dict) else {within + name}
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_described_by_its_sections_in_plain_values(name: str) -> None:
    recipe = RECIPES[name]()
    described = describe(recipe)
    assert list(described) == [field.name for field in fields(Recipe)]
    assert described["name"] == name
    assert described["course"] == vars(recipe.course)
    assert described["backgrounds"]["photographs"] == "training/photographs/train"
    assert json.loads(json.dumps(described)).keys() == described.keys()


def test_no_name_is_in_two_sections() -> None:
    """So that what differs can be said by one word, and an option sets one thing."""
    recipe = base()
    sections = (recipe.inference, recipe.backgrounds, recipe.scenes, recipe.course, recipe.optimization)
    listed = [field.name for section in sections for field in fields(section)]
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("model", ["base", "fast"])
def test_shipped_models_are_of_recipes_as_they_are_described_now(model: str) -> None:
    recipe = load_manifest(ROOT / "models" / model).recipe
    assert names(recipe) == names(json.loads(json.dumps(describe(RECIPES[model]()))))
