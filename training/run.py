"""Trains a model by a recipe, scores it on rain it never saw, and leaves it ready to serve.

    python training/run.py base

The same command goes on where it was interrupted. The run keeps its checkpoint and its
statistics in `runs/<name>/`; the model goes to `models/<name>/`.
"""

import argparse
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

if __package__ is None or __package__ == "":  # started as a file: make its own package importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import torch
from torch import nn

from derain.arrays import Picture, fraction, quantise
from derain.cli import at_least
from derain.engine import Engine
from derain.errors import DerainError, ModelError
from derain.manifest import MANIFEST_NAME, Evaluation, Manifest, load_manifest
from training.card import evaluation_table, write_model_texts
from training.evaluate import Pair, evaluate, held_out_backgrounds, held_out_sets, rained_on
from training.export import current_commit, export
from training.loop import CHECKPOINT, train_courses
from training.network import DerainNetwork
from training.rain.drawn import SHOWER
from training.rain.families import TRAINABLE, trainable
from training.recipes import RECIPES, ROOT, Recipe, describe


def run(recipe: Recipe, runs: Path, models: Path, name: str) -> Path:
    """Trains, exports and evaluates; the finished model folder, `models/name`."""
    if (models / name).exists() and not (models / name / MANIFEST_NAME).exists():
        raise DerainError(f"{models / name} is there and is no model folder; choose another --name")

    # Write down what is being run, and by which code it was begun.
    run_folder = runs / name
    run_folder.mkdir(parents=True, exist_ok=True)
    started = run_folder / "run.json"
    if not (run_folder / CHECKPOINT).exists():
        about = {"commit": current_commit(), "recipe": describe(recipe)}
        started.write_text(json.dumps(about, indent=2) + "\n")
    commit: str = json.loads(started.read_text())["commit"]

    # Train.
    cv2.setNumThreads(0)  # the cores are the network's
    backgrounds = held_out_backgrounds(longest_px=240)
    pairs = [rained_on(SHOWER, *item) for item in enumerate(backgrounds.items())]
    network = train_courses(recipe, run_folder, lambda network: _validate(network, pairs))

    # Export beside the final place, score the exported file, and only then put it in place.
    unfinished = models / f".{name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    manifest = export(network, recipe, commit, unfinished, name)
    write_model_texts(unfinished, manifest)
    engine = Engine(unfinished)
    evaluations = [evaluate(engine.derain, title, "validation", pairs) for title, pairs in held_out_sets()]
    engine.close()
    evaluations += _recorded(models / name, manifest, {measured.name for measured in evaluations})
    write_model_texts(unfinished, manifest.model_copy(update={"evaluations": evaluations}))
    print(evaluation_table(evaluations))
    return _put_in_place(unfinished, models / name)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        recipe = _override(RECIPES[options.recipe](), options)
        name = options.name or recipe.name
        folder = run(recipe, options.runs, options.models, name)
    except DerainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    print(f"\n{folder} is ready: DERAIN_MODEL={folder} make serve, or derain photo.jpg -m {folder} -o out/")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python training/run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", choices=RECIPES, help="see training/recipes.py")
    parser.add_argument("--name", type=_name, help="of the run and the model (default: the recipe's)")
    parser.add_argument("--steps", type=at_least(1), help="how long to train")
    parser.add_argument("--seed", type=at_least(0), help="decides weights, samples and which photographs")
    parser.add_argument(
        "--backgrounds",
        metavar="FOLDER|leaves",
        help="photographs of yours instead of the recipe's (its leaves stay mixed in), or `leaves` alone",
    )
    parser.add_argument(
        "--count",
        type=at_least(1),
        help="how many photographs: fewer and simpler ones generalise to more rain, more damage less",
    )
    parser.add_argument("--rain", help=f"wider rain is harder to memorise: {', '.join(TRAINABLE)}")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="default: %(default)s")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="default: %(default)s")
    return parser.parse_args(arguments)


def _name(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not made of letters, digits, '_', '-' and '.'")
    return text


def _override(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    if options.steps is not None:
        recipe = replace(recipe, steps=options.steps)
    if options.seed is not None:
        recipe = replace(recipe, seed=options.seed)
    if options.rain is not None:
        recipe = replace(recipe, rain=trainable(options.rain), late_rain=None)
    if options.backgrounds == "leaves" and options.count is not None:
        raise DerainError("--count chooses among photographs, and --backgrounds leaves has none")
    if options.backgrounds == "leaves":
        recipe = replace(recipe, photographs=None)
    elif options.backgrounds is not None:
        recipe = replace(recipe, photographs=Path(options.backgrounds), photograph_count=None)
    if options.count is not None:
        recipe = replace(recipe, photograph_count=options.count)
    return recipe


@torch.inference_mode()
def _validate(network: nn.Module, pairs: list[Pair]) -> dict[str, float]:
    """How training goes, for stats.jsonl: the scores that people watch, on one unseen family."""
    assert isinstance(network, DerainNetwork)
    scores = evaluate(lambda picture: _derain(network, picture), "while training", "validation", pairs)
    watched = ("psnr", "input_psnr", "removal", "background_error", "clean_psnr")
    return {key: getattr(scores, key) for key in watched}


def _derain(network: DerainNetwork, picture: Picture) -> Picture:
    height, width = (
        side // network.shape.alignment_px * network.shape.alignment_px for side in picture.shape[:2]
    )
    parameter = next(network.parameters())
    rainy = torch.from_numpy(fraction(picture.transpose(2, 0, 1)[None])).to(parameter.device)
    derained = picture.copy()  # the odd rows and columns at the end stay rainy: good enough to watch by
    clean = network(rainy[..., :height, :width])[0]
    derained[:height, :width] = quantise(clean.permute(1, 2, 0).cpu().numpy())
    return derained


def _recorded(folder: Path, manifest: Manifest, measured: set[str]) -> list[Evaluation]:
    """What was measured on other sets before, if the folder has this very model already."""
    try:
        earlier = load_manifest(folder)
    except ModelError:
        return []  # none there, or a damaged one, about to be replaced
    same = earlier.file.sha256 == manifest.file.sha256
    return [known for known in earlier.evaluations if same and known.name not in measured]


def _put_in_place(unfinished: Path, folder: Path) -> Path:
    """Swaps the finished folder in; an earlier model of the same name makes room."""
    replaced = folder.with_name(f".{folder.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    unfinished.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
