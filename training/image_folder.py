"""Folders of images: which are in one, a part of them chosen by a seed, and what tells two sets apart."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from derain.errors import DerainError
from derain.images.formats import IMAGE_SUFFIXES
from derain.images.plain import is_image


class BackgroundError(DerainError):
    """A set of backgrounds that cannot be trained on."""


def subset(paths: Sequence[Path], count: int | None, seed: int) -> list[Path]:
    """`count` of the paths in an order decided by `seed` alone; None takes all.

    Nested: the first 16 of 64 are the 16.
    """
    if count is not None and not 1 <= count <= len(paths):
        raise BackgroundError(f"{count} backgrounds asked for, {len(paths)} there to choose from")
    order = np.random.default_rng(seed).permutation(len(paths))
    return [sorted(paths)[i] for i in order[:count]]


def list_images(folder: Path) -> list[Path]:
    """The images of a folder, sorted, not those of its subfolders; raises BackgroundError for none."""
    if not folder.is_dir():
        raise BackgroundError(f"{folder} is not a folder")
    paths = sorted(path for path in folder.iterdir() if is_image(path))
    if not paths:
        raise BackgroundError(f"no images in {folder} (known: {', '.join(sorted(IMAGE_SUFFIXES))})")
    return paths


def shared_image(some: Iterable[Path], others: Iterable[Path]) -> tuple[Path, Path] | None:
    """One of some and one of the others that are the same file to the byte; None where there are none."""
    by_size: dict[int, list[Path]] = {}
    for path in some:
        by_size.setdefault(path.stat().st_size, []).append(path)
    for other in others:
        for path in by_size.get(other.stat().st_size, []):
            if path.read_bytes() == other.read_bytes():
                return path, other
    return None


def found_in(folder: Path, paths: Iterable[Path]) -> Path | None:
    """One of the paths whose image the folder has; by the place alone where the folder has none any more."""
    known = [path for path in folder.iterdir() if is_image(path)] if folder.is_dir() else []
    if not known:
        return next((path for path in paths if path.resolve().parent == folder.resolve()), None)
    found = shared_image(known, paths)
    return None if found is None else found[1]


def digest_files(paths: Iterable[Path]) -> str:
    """Of what is in them, in order, whatever they are called."""
    return sha256(b"".join(sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
