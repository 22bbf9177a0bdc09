"""Whether images are among those that a model was trained on, by what is in the files."""

from collections.abc import Iterable
from pathlib import Path

from derain.manifest import Manifest
from training.image_folder import found_in
from training.repository import ROOT


def trained_on(model: Manifest, paths: Iterable[Path]) -> tuple[Path, Path] | None:
    """One of the paths whose image the model was trained on, and the folder of its training; None for none.

    By their bytes, so that a copy is no other image.
    """
    photographs = model.recipe.get("backgrounds", {}).get("photographs")
    if not photographs:
        return None
    folder = (ROOT / photographs).resolve()
    found = found_in(folder, paths)
    return None if found is None else (found, folder)
