"""Sets of images to score networks on, found but not read yet; and what may be done to them first."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from derain.arrays import Image, middle
from training.arguments import first_repeated
from training.data.appearance import through_jpeg
from training.evaluation.held_out import OWN_KIND, rained_on
from training.evaluation.pairs import (
    Pair,
    PairFiles,
    PairingError,
    find_clean,
    find_pairs,
    pair_folders,
    read_size,
)
from training.evaluation.report.summary import kind_of
from training.evaluation.scoring import Case, Role
from training.rain.drawn import DRAWN
from training.rain.families import Family, family

MAX_TIMES = 16.0  # that a side is enlarged
MAX_ENLARGED_PIXELS = 64_000_000  # scoring takes some 300 bytes for each


@dataclass(frozen=True)
class ImageSet:
    """Images under one name; without truth, only their rainy side is known."""

    name: str
    role: Role
    cases: Sequence[Case]
    has_truth: bool = True
    kind: str | None = None  # of rain; None: it does not count in the mean over kinds
    tone_changed: bool = False  # with the rain: its gain is counted tone-fitted
    enlarged_from: str | None = None  # the name of the set that this one is, enlarged


@dataclass(frozen=True)
class RainedFile:
    """Rain over a clean image of one's own."""

    family: Family
    index: int
    clean: PairFiles

    def read(self) -> Pair:
        dry = self.clean.read()
        return rained_on(self.family, self.index, (dry.name, dry.clean))


@dataclass(frozen=True)
class Middle:
    """The middle of a case: large images take long and say little more; shrunk, their rain is another."""

    case: Case
    side_px: int  # at most

    def read(self) -> Pair:
        pair = self.case.read()
        rainy, clean = (
            np.ascontiguousarray(middle(image, self.side_px, self.side_px))
            for image in (pair.rainy, pair.clean)
        )
        return Pair(pair.name, rainy, clean)


@dataclass(frozen=True)
class SavedAsJpeg:
    """What a camera or a web page makes of the image before the network sees it."""

    case: Case
    quality: int

    def read(self) -> Pair:
        pair = self.case.read()
        rainy, dry = (through_jpeg(image, self.quality) for image in (pair.rainy, pair.clean))
        # An image without rain should come back as it was saved, not as it was before.
        clean = dry if np.array_equal(pair.rainy, pair.clean) else pair.clean
        return Pair(pair.name, rainy, clean, dry)


@dataclass(frozen=True)
class Enlarged:
    """As a camera of more pixels would have taken it: both sides enlarged alike."""

    case: Case
    times: float  # each side

    def read(self) -> Pair:
        pair = self.case.read()
        rainy, clean = (_enlarge(image, self.times) for image in (pair.rainy, pair.clean))
        return Pair(pair.name, rainy, clean)


def _enlarge(image: Image, times: float) -> Image:
    height, width = (round(side * times) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def paired_set(named: Sequence[str], role: Role) -> ImageSet:
    """What --pairs names, found but not read yet; says on stderr what was found."""
    return ImageSet(named[0], role, named_pairs(named), kind=kind_of(named[0]))


def named_pairs(named: Sequence[str]) -> list[PairFiles]:
    """The pairs that --pairs names; says on stderr what was found."""
    name, *folders = named
    pairing = find_pairs(Path(folders[0])) if len(folders) == 1 else pair_folders(*map(Path, folders))
    count = len(pairing.files)
    note(f"{name}: {count} pair{'s' * (count > 1)}, matched by {pairing.rule}")
    return pairing.files


def clean_set(named: Sequence[str], role: Role) -> ImageSet:
    """What --clean names, found but not read yet."""
    name, folder = named
    return ImageSet(name, role, find_clean(Path(folder)))


def check_distinct(sets: Iterable[ImageSet]) -> None:
    if twice := first_repeated(each.name for each in sets):
        raise PairingError(f"two sets are named {twice}")


def rained_set(name: str, folder: Path, role: Role) -> ImageSet:
    rain = family(name)
    cases = [RainedFile(rain, index, clean) for index, clean in enumerate(find_clean(folder))]
    return ImageSet(f"{name} on {folder.name}", role, cases, kind=OWN_KIND if rain in DRAWN else rain.name)


def with_changed_tone(sets: Sequence[ImageSet], names: Sequence[str]) -> list[ImageSet]:
    """Raises PairingError for a name that is neither a kind's nor a set's."""
    kinds = dict.fromkeys(each.kind for each in sets if each.kind is not None)
    known = {*kinds, *(each.name for each in sets if each.kind is not None)}
    if unknown := next((name for name in names if name not in known), None):
        raise PairingError(f"--tone-changed names {unknown!r}; kinds of rain are {', '.join(kinds)}")
    return [replace(each, tone_changed=each.kind in names or each.name in names) for each in sets]


def enlarged_sets(found: ImageSet, factors: Sequence[float]) -> list[ImageSet]:
    """Of a set that has rain and truth; raises PairingError where images would be too large."""
    if found.kind is None:
        return []
    for case in found.cases if factors else ():
        _check_enlarged(case, max(factors))
    return [
        replace(
            found,
            name=f"{found.name} ×{times:g}",
            cases=[Enlarged(case, times) for case in found.cases],
            kind=None,
            enlarged_from=found.name,
        )
        for times in factors
    ]


def _check_enlarged(case: Case, times: float) -> None:
    """Before any network runs; the repository's own images, which are read already, are small."""
    files = case.clean if isinstance(case, RainedFile) else case
    if isinstance(files, PairFiles):
        width, height = read_size(files.rainy)
        if (pixels := width * height * times**2) > MAX_ENLARGED_PIXELS:
            raise PairingError(
                f"{files.rainy} enlarged {times:g} times has {pixels / 1e6:,.0f} megapixels; "
                f"at most {MAX_ENLARGED_PIXELS / 1e6:g} are scored"
            )


def saved_as_jpeg(image_set: ImageSet, quality: int) -> ImageSet:
    cases = [SavedAsJpeg(case, quality) for case in image_set.cases]
    origin = image_set.enlarged_from
    return replace(
        image_set,
        name=_jpeg_name(image_set.name, quality),
        cases=cases,
        enlarged_from=None if origin is None else _jpeg_name(origin, quality),
    )


def _jpeg_name(name: str, quality: int) -> str:
    return f"{name} as JPEG {quality}"


def files_of(case: Case) -> list[Path]:
    """Of a case, whatever is done to it; none of an image that was made or is read already."""
    while isinstance(case, Middle | SavedAsJpeg | Enlarged):
        case = case.case
    files = case.clean if isinstance(case, RainedFile) else case
    return list({files.rainy, files.clean}) if isinstance(files, PairFiles) else []


def note(text: str) -> None:
    print(text, file=sys.stderr)
