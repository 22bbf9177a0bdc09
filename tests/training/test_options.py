"""What can be said on the command line, and what that makes of a recipe."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from derain.errors import DerainError
from tests.training.conftest import changed
from training.image_folder import BackgroundError
from training.options import read_options
from training.rain.streaks import SMALL
from training.recipes import base, best, fast, smoke, study
from training.trainer.loop import Execution


def test_nothing_said_is_the_recipe() -> None:
    options = read_options(["base"])
    assert options.recipe == base()
    assert options.name == "base"
    assert options.execution == Execution()


def test_each_option_changes_what_it_says() -> None:
    words = (
        "smoke --name mine --backgrounds photographs --count 16 --leaves-complexity 0.25 --rain small "
        "--steps 10 --batch 6 --patch 48 --learning-rate 1e-4 --seed 7 --derainers 3 "
        "--workers 0 --threads 2 --micro-batch 3 --compile"
    )
    options = read_options(words.split())
    assert options.recipe == changed(
        smoke(),
        model=replace(smoke().model, derainers=3),
        photographs=Path("photographs"),
        photograph_count=16,
        leaves=replace(smoke().backgrounds.leaves, complexity=0.25),
        rain=SMALL,
        steps=10,
        batch=6,
        patch_px=48,
        learning_rate=1e-4,
        seed=7,
    )
    assert options.name == "mine"
    assert options.execution == Execution(workers=0, threads=2, micro_batch=3, compile=True)


def test_count_is_of_the_leaves_where_there_are_leaves_alone() -> None:
    leaves = read_options(["base", "--backgrounds", "leaves"]).recipe
    assert (leaves.backgrounds.photographs, leaves.backgrounds.leaves_count) == (
        None,
        base().backgrounds.leaves_count,
    )
    few = read_options(["base", "--backgrounds", "leaves", "--count", "3"]).recipe
    assert (few.backgrounds.photographs, few.backgrounds.leaves_count) == (None, 3)


def test_leaves_alone_are_some_where_the_recipe_has_none() -> None:
    assert study().backgrounds.leaves_count == 0
    assert read_options(["study", "--backgrounds", "leaves", "--leaves-complexity", "0"]).recipe == changed(
        study(),
        photographs=None,
        leaves=replace(study().backgrounds.leaves, complexity=0.0),
        leaves_count=64,
    )
    assert (
        read_options(["study", "--backgrounds", "leaves", "--count", "3"]).recipe.backgrounds.leaves_count
        == 3
    )


def test_complexity_of_leaves_that_there_are_none_of_is_an_error() -> None:
    with pytest.raises(
        BackgroundError, match="--leaves-complexity is of no use: the recipe study has leaves"
    ):
        read_options(["study", "--leaves-complexity", "0.5"])


def test_derainers_are_of_the_model_and_change_nothing_else() -> None:
    """So `base` of one derainer is `fast`, but for its name."""
    assert replace(read_options(["base", "--derainers", "1"]).recipe, name="fast") == fast()
    assert read_options(["study", "--derainers", "2"]).recipe.model.derainers == 2


@pytest.mark.parametrize(("patch_px", "late_px"), [(64, 192), (192, 192), (256, 256)])
def test_late_patches_are_never_smaller(patch_px: int, late_px: int) -> None:
    course = read_options(["base", "--patch", str(patch_px)]).recipe.course
    assert [course.patch_px_at(step) for step in (0, course.steps - 1)] == [patch_px, late_px]


def test_a_patch_is_within_what_the_estimator_sees() -> None:
    with pytest.raises(
        DerainError, match=r"--patch 264 is more than the 256 px .* that the estimator of base sees"
    ):
        read_options(["base", "--patch", "264"])
    assert read_options(["ablation", "--patch", "264"]).recipe.course.late_patch_px == 264


@pytest.mark.parametrize("gone", ["--survey-steps", "--notice-steps", "--windows"])
def test_what_there_is_no_longer_is_refused(gone: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_options(["base", gone, "4"])
    assert exit_.value.code == 2
    assert f"unrecognized arguments: {gone} 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--patch", "50"], "--patch: '50' is no multiple of 8"),
        (["--patch", "12"], "--patch: '12' is no whole number of 16 or more"),
        (["--seed", str(2**64)], f"--seed: '{2**64}' is above {2**64 - 1}"),
        (["--steps", "0"], "--steps: '0' is no whole number of 1 or more"),
        (["--batch", "0"], "--batch: '0' is no whole number of 1 or more"),
        (["--learning-rate", "0"], "--learning-rate: '0' is not a number between 0 and 1"),
        (["--learning-rate", "nan"], "--learning-rate: 'nan' is not"),
        (["--leaves-complexity", "1.5"], "--leaves-complexity: '1.5' is not a number from 0 to 1"),
        (["--derainers", "0"], "--derainers: '0' is no whole number of 1 or more"),
        (["--threads", "0"], "--threads: '0' is no whole number of 1 or more"),
        (["--workers", "-1"], "--workers: '-1' is no whole number of 0 or more"),
        (["--micro-batch", "many"], "--micro-batch: 'many' is no whole number"),
    ],
)
def test_values_that_cannot_be_are_explained(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_options(["base", *arguments])
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err


def test_help_gives_the_defaults_of_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        ", ".join(f"{make().name} {make().course.steps}" for make in (base, fast, best, smoke)),
        f"(default: base all, fast all, best all, smoke {smoke().backgrounds.photograph_count}",
        f"(default: {base().optimization.learning_rate})",
        f"(default: base {base().model.derainers}, fast 1, best {best().model.derainers}, smoke 1",
        "E_R",
        "Not trained on: drizzle",
    ):
        assert words in said


def test_torchrun_takes_no_option_for_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """It looks for abbreviations of its options in what is meant for the script as well."""
    with pytest.raises(SystemExit):
        read_options(["--help"])
    options = set(re.findall(r"--[a-z-]+\b", capsys.readouterr().out))
    assert {"--steps", "--name"} <= options
    for option in options - {"--nproc-per-node", "--nnodes"}:  # which the help speaks of
        words = ["smoke", option, "1"]
        assert get_args_parser().parse_args(["training/run.py", *words]).training_script_args == words
