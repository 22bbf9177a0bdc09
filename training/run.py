"""Trains a model by a recipe, scores it on rain it never saw, and leaves it ready to serve.

    python training/run.py base

The same command goes on where it was interrupted. `runs/<name>/` has the checkpoint, the statistics
and sample images of the training; `models/<name>/` has the model.
"""

import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from derain.errors import DerainError
from derain.files import write_atomically
from training.evaluation.held_out import HELD_OUT, HeldOut, rained_on
from training.evaluation.pairs import Pair
from training.evaluation.scoring import evaluate
from training.export.card import evaluation_table, write_model_texts
from training.export.model_folder import check_replaceable, replaced_when_done, restore, take_over
from training.export.onnx import export
from training.image_folder import list_images, shared_image
from training.model.derain_model import DerainModel
from training.options import Options, read_options
from training.rain.drawn import SHOWER
from training.recipes import Recipe, describe
from training.repository import current_commit
from training.trainer.distributed import Processes, SaidByMainError, alone_in, current, joined
from training.trainer.loop import CHECKPOINT, train
from training.trainer.run_log import SAMPLES, TENSORBOARD, Row
from training.trainer.signals import GOES_ON, Interrupted, ends_on_sigterm


def run(options: Options, processes: Processes, held_out: HeldOut = HELD_OUT) -> Path:
    """Trains, exports and scores a model; returns its folder, `models/<name>`.

    All processes train. The main process alone prepares and exports, while the others wait.
    """
    recipe, run_folder = options.recipe, options.runs / options.name
    model_folder = options.models / options.name
    commit = ""  # the main process's, which alone exports

    # Check before the hours of training that the model can be scored and put in place, and begin the run.
    with processes.together():
        if processes.is_main:
            check_replaceable(model_folder)
            _check_unseen(recipe, held_out)
            _check_writable(options.models, "--models")
            _check_writable(options.runs, "--runs")
            with alone_in(run_folder):
                restore(model_folder)
                commit = _begin(recipe, run_folder)

    # Train. Validation is on rain and images never trained on.
    cv2.setNumThreads(0)  # the cores are the network's
    watch = _watch(recipe, held_out)
    model = train(recipe, run_folder, watch.validate, watch.show, options.execution)

    # Export beside the final place, score the exported file, and only then put it in place.
    with processes.together():
        if processes.is_main:
            print("Trained. Now it is exported, and scored on rain that it never saw ...", flush=True)
            with alone_in(run_folder), replaced_when_done(model_folder) as unfinished:
                manifest = export(model, recipe, commit, unfinished, options.name)
                write_model_texts(unfinished, manifest)  # the engine, which scores, reads the manifest
                manifest = manifest.model_copy(update={"evaluations": held_out.score(unfinished)})
                manifest = take_over(model_folder, unfinished, manifest)
                write_model_texts(unfinished, manifest)
                print(evaluation_table(manifest.evaluations))
    return model_folder


@dataclass(frozen=True)
class Watch:
    """Validation while a model is trained: scores for `stats.jsonl`, and sample images."""

    pairs: list[Pair]  # are scored
    shown: dict[str, Pair]  # are shown in the sample images, by title

    def validate(self, model: DerainModel) -> dict[str, float | None]:
        """Scores on one rain family never trained on. None: there was nothing to measure."""
        scores = evaluate(model.derain, "while training", "validation", self.pairs)
        watched = ("psnr", "input_psnr", "removal", "background_error")
        worst = None if scores.clean is None else scores.clean.worst  # None: all came back identical
        clean = {"clean_worst_psnr": None if worst is None else worst.db}
        return {key: getattr(scores, key) for key in watched} | clean

    def show(self, model: DerainModel) -> list[Row]:
        return [
            Row(title, pair.rainy, model.derain(pair.rainy), pair.clean) for title, pair in self.shown.items()
        ]


def _watch(recipe: Recipe, held_out: HeldOut) -> Watch:
    """Small images in rain never trained on. Three of them are shown, and one in the rain trained on."""
    backgrounds = list(replace(held_out, longest_px=min(240, held_out.longest_px)).backgrounds().items())
    pairs = [rained_on(SHOWER, *item) for item in enumerate(backgrounds)]
    shown = {f"unseen {SHOWER.name} {i + 1}": pair for i, pair in enumerate(pairs[:3])}
    last = min(3, len(backgrounds) - 1)
    shown[f"trained on: {recipe.rain.name}"] = rained_on(recipe.rain, last, backgrounds[last])
    return Watch(pairs, shown)


def _begin(recipe: Recipe, run_folder: Path) -> str:
    """Writes `run.json`, once a run; returns the commit of the code that began the run."""
    started = run_folder / "run.json"
    commit = current_commit()
    if (run_folder / CHECKPOINT).exists():
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(started.read_text())["commit"])
        print(f"{started} is missing or damaged: written anew, its commit unknown", file=sys.stderr)
        commit = "unknown"
    about = {"commit": commit, "recipe": describe(recipe)}
    write_atomically(started, (json.dumps(about, indent=2) + "\n").encode())
    return commit


def _check_unseen(recipe: Recipe, held_out: HeldOut) -> None:
    """Raises DerainError for photographs to train on that the model is scored on."""
    photographs = recipe.backgrounds.photographs
    found = photographs and shared_image(list_images(photographs), list_images(held_out.photographs))
    if found:
        raise DerainError(f"{found[0]} cannot be trained on: models are scored on it, as {found[1]}")


def _check_writable(folder: Path, option: str) -> None:
    """Makes the folder; raises DerainError where it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DerainError(f"{option} {folder} cannot be made a folder: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DerainError(f"{option} {folder} cannot be written to")


def main(arguments: list[str] | None = None, held_out: HeldOut = HELD_OUT) -> int:
    try:
        with ends_on_sigterm(), joined() as processes:
            with processes.together():  # prints an error of the arguments once, not once a process
                options = read_options(arguments)
            folder = run(options, processes, held_out)
            if processes.is_main:
                print(_where_things_are(folder, options.runs / options.name))
    except SaidByMainError:  # the main process prints the error
        return 1
    except (DerainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        if current().is_main:
            print(f"\n{interrupted}", file=sys.stderr)
        return interrupted.exit_status
    except KeyboardInterrupt:
        print(f"\ninterrupted; {GOES_ON}", file=sys.stderr)
        return 130
    return 0


def _where_things_are(folder: Path, run_folder: Path) -> str:
    samples = run_folder / SAMPLES
    shown = f"\n  {samples}/  rainy, derained and clean, as training went" if samples.exists() else ""
    programs = Path(sys.executable).parent
    return f"""
{folder} is ready:
  {folder / "README.md"}  the model card, with these scores{shown}
  {programs}/tensorboard --logdir {run_folder}  its curves ({TENSORBOARD}/ and stats.jsonl)
  DERAIN_MODEL={folder} make serve
  {programs}/derain photo.jpg -m {folder} -o out/"""


if __name__ == "__main__":
    sys.exit(main())
