"""A model folder is made and scored beside its final place, and then put there as a whole, or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from derain.errors import DerainError, ModelError
from derain.manifest import MANIFEST_NAME, Manifest, load_manifest
from training.export.card import ADDITIONS


def check_replaceable(folder: Path, manifest: str = MANIFEST_NAME, option: str = "--name") -> None:
    """Raises DerainError where something else than a model is in its place, which the option names."""
    if folder.exists() and not (folder / manifest).exists():
        raise DerainError(f"{folder} is there and is no model folder; choose another {option}")


@contextmanager
def replaced_when_done(folder: Path) -> Iterator[Path]:
    """An empty folder beside it, which takes its place when the block ends; not after an error."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    _put_in_place(unfinished, folder)


def take_over(earlier_folder: Path, folder: Path, manifest: Manifest) -> Manifest:
    """The manifest, with what else was measured of the same model; what was written about it is copied.

    Of another model of that name nothing is taken: the same is one that is the same to the last bit.
    """
    earlier = _same_model(earlier_folder, manifest)
    if earlier is None:
        return manifest
    for name in ADDITIONS:
        if (earlier_folder / name).exists():
            shutil.copy2(earlier_folder / name, folder)
    measured = {evaluation.name for evaluation in manifest.evaluations}
    kept = [known for known in earlier.evaluations if known.name not in measured]
    return manifest.model_copy(update={"evaluations": [*manifest.evaluations, *kept]})


def restore(folder: Path) -> None:
    """Puts an earlier model back that had made room for a new one, if the swap was cut short."""
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


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Swaps the finished folder in; an earlier model of the same name makes room."""
    replaced = _replaced(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    unfinished.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
