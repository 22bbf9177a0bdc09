"""Trains a model by a recipe, scores it on rain it never saw, and leaves it ready to serve.

    python training/run.py base

The same command goes on where it was interrupted. The run keeps its checkpoint, its statistics
and pictures of how it goes in `runs/<name>/`; the model goes to `models/<name>/`.
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

if __package__ is None or __package__ == "":  # started as a file: make its own package importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2

from derain.errors import DerainError
from derain.files import write_atomically
from training.evaluate import evaluate, held_out_backgrounds, rained_on
from training.export import current_commit, export
from training.interruption import GOES_ON, Interrupted, ends_on_sigterm
from training.loop import CHECKPOINT, train
from training.model import DerainModel
from training.model_folder import check_replaceable, make_model, restore
from training.options import Options, read_options
from training.pairs import Pair
from training.processes import Processes, SaidByTheFirstError, alone_in, current, joined
from training.progress import SAMPLES, TENSORBOARD, Row
from training.rain.drawn import SHOWER
from training.recipes import describe


def run(options: Options, processes: Processes) -> Path:
    """Trains, exports and evaluates; the finished model folder, `models/name`.

    All processes train; what comes before and after is the first one's, and the others wait.
    """
    recipe, run_folder = options.recipe, options.runs / options.name
    commit = processes.from_the_first(lambda: _begin(options, run_folder))

    # Train. Watched on rain never trained on, three pictures of it, and one of the rain trained on.
    cv2.setNumThreads(0)  # the cores are the network's
    backgrounds = held_out_backgrounds(longest_px=240)
    pairs = [rained_on(SHOWER, *item) for item in enumerate(backgrounds.items())]
    trained_on = rained_on(recipe.rain, 3, list(backgrounds.items())[3])
    shown = {f"unseen {SHOWER.name} {i + 1}": pair for i, pair in enumerate(pairs[:3])}
    shown[f"trained on: {recipe.rain.name}"] = trained_on
    model = train(
        recipe,
        run_folder,
        lambda model: _validate(model, pairs),
        lambda model: _show(model, shown),
        options.execution,
    )
    return processes.from_the_first(lambda: _finish(model, commit, options, run_folder))


def _begin(options: Options, run_folder: Path) -> str:
    """Writes down what is being run; the commit of the code that began it."""
    model = options.models / options.name
    check_replaceable(model)
    for place, option in ((options.models, "--models"), (options.runs, "--runs")):
        _check_place(place, option)
    with alone_in(run_folder):
        restore(model)
        started = run_folder / "run.json"
        commit = current_commit()
        if (run_folder / CHECKPOINT).exists():
            with suppress(OSError, ValueError, KeyError, TypeError):
                return str(json.loads(started.read_text())["commit"])
            print(f"{started} is missing or damaged: written anew, its commit unknown", file=sys.stderr)
            commit = "unknown"
        about = {"commit": commit, "recipe": describe(options.recipe)}
        write_atomically(started, (json.dumps(about, indent=2) + "\n").encode())
        return commit


def _check_place(folder: Path, option: str) -> None:
    """Better said now than after the training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DerainError(f"{option} {folder} cannot be made a folder: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DerainError(f"{option} {folder} cannot be written to")


def _finish(model: DerainModel, commit: str, options: Options, run_folder: Path) -> Path:
    """Exports beside the final place, scores the exported file, and only then puts it in place."""
    recipe, name = options.recipe, options.name
    with alone_in(run_folder):
        return make_model(options.models / name, lambda folder: export(model, recipe, commit, folder, name))


def main(arguments: list[str] | None = None) -> int:
    try:
        with ends_on_sigterm(), joined() as processes:
            options = processes.on_each(lambda: read_options(arguments))
            folder = run(options, processes)
            if processes.is_first:
                print(_where_things_are(folder, options.runs / options.name))
    except SaidByTheFirstError:
        return 1
    except (DerainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        if current().is_first:
            print(f"\n{interrupted}", file=sys.stderr)
        return interrupted.exit_status
    except KeyboardInterrupt:
        print(f"\ninterrupted; {GOES_ON}", file=sys.stderr)
        return 130
    return 0


def _where_things_are(folder: Path, run_folder: Path) -> str:
    samples = run_folder / SAMPLES
    shown = f"\n  {samples}/  rainy, derained and clean, as training went" if samples.exists() else ""
    return f"""
{folder} is ready:
  {folder / "README.md"}  the model card, with these scores{shown}
  tensorboard --logdir {run_folder}  its curves ({TENSORBOARD}/ and stats.jsonl)
  DERAIN_MODEL={folder} make serve
  derain photo.jpg -m {folder} -o out/"""


def _validate(model: DerainModel, pairs: list[Pair]) -> dict[str, float]:
    """How training goes, for stats.jsonl: the scores that people watch, on one unseen family."""
    scores = evaluate(model.derain, "while training", "validation", pairs)
    watched = ("psnr", "input_psnr", "removal", "background_error", "clean_psnr")
    return {key: getattr(scores, key) for key in watched}


def _show(model: DerainModel, pairs: dict[str, Pair]) -> list[Row]:
    return [Row(title, pair.rainy, model.derain(pair.rainy), pair.clean) for title, pair in pairs.items()]


if __name__ == "__main__":
    sys.exit(main())
