"""A model folder is made and scored beside its final place, and then put there as a whole, or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

from derain.errors import DerainError, ModelError
from derain.inference.engine import Engine
from derain.manifest import MANIFEST_NAME, Manifest, load_manifest
from training.card import ADDITIONS, evaluation_table, write_model_texts
from training.evaluate import OWN_KIND, evaluate, held_out_sets


def check_replaceable(folder: Path) -> None:
    """Raises DerainError where something else than a model is in the place of one."""
    if folder.exists() and not (folder / MANIFEST_NAME).exists():
        raise DerainError(f"{folder} is there and is no model folder; choose another --name")


def make_model(folder: Path, make: Callable[[Path], Manifest]) -> Path:
    """The folder, with the ONNX file that `make` writes into the one it is given, scored; prints the scores.

    Of an earlier model of that name nothing is left, unless it was the same to the last bit: then what was
    measured of it and written about it stays.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    manifest = make(unfinished)
    write_model_texts(unfinished, manifest)
    engine = Engine(unfinished)
    evaluations = [
        evaluate(engine.derain, title, "validation", pairs, OWN_KIND) for title, pairs in held_out_sets()
    ]
    engine.close()
    if earlier := _same_model(folder, manifest):
        measured = {evaluation.name for evaluation in evaluations}
        evaluations += [known for known in earlier.evaluations if known.name not in measured]
        for name in ADDITIONS:
            if (folder / name).exists():
                shutil.copy2(folder / name, unfinished)
    write_model_texts(unfinished, manifest.model_copy(update={"evaluations": evaluations}))
    print(evaluation_table(evaluations))
    return _put_in_place(unfinished, folder)


def restore(folder: Path) -> None:
    """Back to where it was: what made room for a new model that then never came."""
    if _replaced(folder).exists() and not folder.exists():
        _replaced(folder).rename(folder)


def _same_model(folder: Path, manifest: Manifest) -> Manifest | None:
    """The manifest of the folder, if it has this very model already."""
    try:
        earlier = load_manifest(folder)
    except ModelError:
        return None  # none there, or a damaged one, about to be replaced
    return earlier if earlier.sha256 == manifest.sha256 else None


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


def _put_in_place(unfinished: Path, folder: Path) -> Path:
    """Swaps the finished folder in; an earlier model of the same name makes room."""
    replaced = _replaced(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    unfinished.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    return folder
