"""Rainy images and the same without rain, found in the folders that the field shares them in.

Two things differ between data sets: where the two kinds lie, and how their names go together.
Both are told from the names alone, for the whole set at once; where they leave a doubt, or a
file without a partner, nothing is paired and the error names the files.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from derain.arrays import Image
from derain.errors import DerainError, ImageError
from derain.images.header import read_header
from derain.images.plain import is_image, read_image

LAYOUTS = """\
  rain/ rainy/ rainy_image/ input/ data/   beside   norain/ clean/ ground_truth/ gt/ target/
  rain-001.png with norain-001.png         Rain100L and Rain100H, in one folder or in two
  norain-001x2.png with norain-001.png     Rain200L and Rain200H
  1_14.jpg with 1.jpg                      Rain1400: several rainy images of one scene
  003.png or 003rain.png with 003gt.png    SPA-Data
  0_rain.png with 0_clean.png              RainDrop
  7.png with 7.png                         Rain13k's test sets, and whatever has the same names
  input7.png with norain7.png              whatever has the same numbers"""


class PairingError(DerainError):
    """Rainy and clean images that do not go together."""


@dataclass(frozen=True)
class Pair:
    """A rainy image and the same without rain; where they are equal, a clean image alone."""

    name: str
    rainy: Image
    clean: Image
    dry: Image | None = None  # the clean image as it goes through on its own, where that is another

    def read(self) -> "Pair":
        return self


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair; where they are one file, a clean image alone."""

    rainy: Path
    clean: Path

    def read(self) -> Pair:
        rainy = read_image(self.rainy)
        clean = rainy if self.clean == self.rainy else read_image(self.clean)
        if rainy.shape != clean.shape:
            raise PairingError(_unequal(self, rainy.shape[1::-1], clean.shape[1::-1]))
        return Pair(self.rainy.stem, rainy, clean)


@dataclass(frozen=True)
class Pairing:
    """The pairs of a set, sorted by the rainy file's name, and what they were matched by."""

    files: list[PairFiles]
    rule: str


@dataclass(frozen=True)
class _Rule:
    """Files go together whose keys are the same; None is the key of a file that has none."""

    description: str
    rainy_key: Callable[[str], str | None]  # of a name without its suffix
    clean_key: Callable[[str], str | None]
    several_rainy: bool = False  # for one clean image


_RAINY_WORDS = {"rain", "rainy", "input", "in", "lq"}
_CLEAN_WORDS = {"norain", "clean", "gt", "groundtruth", "target"}
_RAINY_FOLDERS = {*_RAINY_WORDS, "inputs", "rainimage", "rainyimage", "rainyimages", "data"}
_CLEAN_FOLDERS = {*_CLEAN_WORDS, "targets", "hq", "label", "sharp"}


def find_pairs(folder: Path) -> Pairing:
    """The pairs in a folder that has rainy and clean images, or subfolders of them.

    Raises PairingError, and ImageError for a file that is no image.
    """
    _check_folder(folder)
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    rainy = [path for path in inside if _folded(path.name) in _RAINY_FOLDERS]
    clean = [path for path in inside if _folded(path.name) in _CLEAN_FOLDERS]
    images = _images(folder)
    match len(rainy), len(clean), bool(images):
        case 0, 0, True:
            return _pair_in_one(folder, images)
        case 1, 1, False:
            return pair_folders(rainy[0], clean[0])
        case 1, 0, True:  # the clean images lie beside the rainy folder, as in PReNet's Rain100H
            return pair_folders(rainy[0], folder)
        case 0, 1, True:
            return pair_folders(folder, clean[0])
    has = [f"{path.name}/" for path in inside] + ([f"images ({_named(images)})"] if images else [])
    raise PairingError(
        f"{folder} has {_listed(has) if has else 'no images'}: which are rainy, and which are clean? "
        "Name two folders, first the rainy one"
    )


def pair_folders(rainy: Path, clean: Path) -> Pairing:
    """The pairs of two folders, whatever they are called; raises PairingError and ImageError."""
    rainy, clean = _image_folder(rainy), _image_folder(clean)
    if rainy.samefile(clean):
        raise PairingError(
            f"{rainy} is named as rainy and as clean; name it once if it has both kinds, "
            "or use --clean if it has no rain"
        )
    return _match(_images(rainy), _images(clean), f"{rainy} and {clean}")


def find_clean(folder: Path) -> list[PairFiles]:
    """Images that have no rain, or whose rain is not known; raises PairingError and ImageError."""
    paths = _images(_image_folder(folder))
    for path in paths:
        read_size(path)  # one that cannot be read is said before any network runs
    return [PairFiles(path, path) for path in paths]


def _pair_in_one(folder: Path, images: list[Path]) -> Pairing:
    """One folder with both kinds, told apart by words in their names."""
    clean = [path for path in images if _is_clean(path.stem)]
    rainy = [path for path in images if not _is_clean(path.stem)]
    if not clean or not rainy:
        kind = "clean (norain, clean, gt, target)" if not clean else "rainy"
        raise PairingError(
            f"none of the {len(images)} images in {folder} is named as {kind}; "
            "name two folders if the other kind is elsewhere"
        )
    return _match(rainy, clean, str(folder))


def _match(rainy: list[Path], clean: list[Path], where: str) -> Pairing:
    """By the rule that pairs most images; raises PairingError unless it pairs all of them."""
    best = max((_Matching(rule, rainy, clean) for rule in _RULES), key=lambda m: (m.matched, m.touched))
    if not best.touched:
        raise PairingError(
            f"no name in {where} goes with another, such as {rainy[0].name} with {clean[0].name}; "
            f"known are:\n{LAYOUTS}"
        )
    best.check(where)
    files = [PairFiles(path, partners[0]) for path, partners in best.partners.items()]
    _check_sizes(files)
    return Pairing(files, best.rule.description)


class _Matching:
    """What a rule makes of the names."""

    def __init__(self, rule: _Rule, rainy: list[Path], clean: list[Path]) -> None:
        self.rule = rule
        self.clean = clean
        by_key: dict[str | None, list[Path]] = {}
        for path in clean:
            by_key.setdefault(rule.clean_key(path.stem), []).append(path)
        by_key.pop(None, None)
        self.partners = {path: by_key.get(rule.rainy_key(path.stem), []) for path in rainy}
        self.rainy_of: dict[Path, list[Path]] = {}
        for path, partners in self.partners.items():
            for partner in partners:
                self.rainy_of.setdefault(partner, []).append(path)
        self.matched = sum(map(self._is_sure, self.partners))
        self.touched = sum(map(bool, self.partners.values()))

    def _is_sure(self, rainy: Path) -> bool:
        partners = self.partners[rainy]
        return len(partners) == 1 and (self.rule.several_rainy or len(self.rainy_of[partners[0]]) == 1)

    def check(self, where: str) -> None:
        """Raises PairingError for an image with two partners or none."""
        by = f"by {self.rule.description}"
        for path, partners in self.partners.items():
            if len(partners) > 1:
                raise PairingError(f"{path} could go with {_named(partners, ' and ')} {by}")
            if partners and not self._is_sure(path):
                both = _named(self.rainy_of[partners[0]], " and ")
                raise PairingError(f"{both} would all go with {partners[0]} {by}")
        rainy_left = [path for path, partners in self.partners.items() if not partners]
        clean_left = [path for path in self.clean if path not in self.rainy_of]
        left = [
            f"{len(paths)} {kind} ({_named(paths)})"
            for kind, paths in (("rainy", rainy_left), ("clean", clean_left))
            if paths
        ]
        if left:
            raise PairingError(
                f"{where}: {self.matched} rainy images have their clean one {by}, but without a partner "
                f"are {' and '.join(left)}; move away what is not to be scored"
            )


def _same(stem: str) -> str:
    return stem


def _bare(stem: str) -> str:
    """Without the words that tell the two kinds apart, and without zeros before numbers."""
    words = _words(stem)
    return " ".join(
        str(int(w)) if w.isdecimal() else w for w in words if w not in _RAINY_WORDS | _CLEAN_WORDS
    )


def _scene(stem: str) -> str | None:
    """Without the number of the rain, which comes last: 1_14 is rain 14 over scene 1."""
    scene, _, rain = _bare(stem).rpartition(" ")
    return scene if scene and rain.isdecimal() else None


def _last_number(stem: str) -> str | None:
    numbers = [word for word in _words(stem) if word.isdecimal()]
    return str(int(numbers[-1])) if numbers else None


_RULES = (  # of those that pair equally many images, the first is taken
    _Rule("the same name", _same, _same),
    _Rule("the same name but for words such as rain, norain, clean and gt", _bare, _bare),
    _Rule("the name before the rain's number", _scene, _bare, several_rainy=True),
    _Rule("the last number in the name", _last_number, _last_number),
)


_SCALE = re.compile(r"(?<=\d)x[24]$")  # Rain200's rainy images are called norain-1x2


def _words(stem: str) -> list[str]:
    """Letters and digits apart, in lower case, without the scale."""
    joined = re.sub(r"(no|ground)[ _-](rain|truth)", r"\1\2", stem.lower())
    return re.findall(r"[^\W\d_]+|\d+", _SCALE.sub("", joined))


def _is_clean(stem: str) -> bool:
    return not _SCALE.search(stem.lower()) and not _CLEAN_WORDS.isdisjoint(_words(stem))


def _folded(folder_name: str) -> str:
    return re.sub(r"[ _-]", "", folder_name.lower())


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise PairingError(f"{folder} is not a folder")


def _image_folder(folder: Path) -> Path:
    """The folder, or the one folder in it that has the images, as in Rain200's rain/X2."""
    _check_folder(folder)
    if _images(folder):
        return folder
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and _images(path)]
    if len(inside) > 1:
        raise PairingError(f"no images in {folder} itself; name one of {_named(inside)}")
    if not inside:
        raise PairingError(f"no images in {folder}")
    return inside[0]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_image(path))


def _check_sizes(files: Sequence[PairFiles]) -> None:
    """Before any network runs; lying or standing is seen when the images are read."""
    for pair in files:
        rainy, clean = (read_size(path) for path in (pair.rainy, pair.clean))
        if sorted(rainy) != sorted(clean):
            raise PairingError(_unequal(pair, rainy, clean))


def read_size(path: Path) -> tuple[int, int]:
    """Width and height, as the file's header has them; raises ImageError."""
    try:
        header = read_header(path.read_bytes())
    except ImageError as error:
        raise type(error)(f"{path}: {error}") from error
    return header.width, header.height


def _unequal(files: PairFiles, rainy: Sequence[int], clean: Sequence[int]) -> str:
    sizes = " and ".join(f"{width} x {height}" for width, height in (rainy, clean))
    return f"{files.rainy} and {files.clean} are not of one size: {sizes}"


def _named(paths: Iterable[Path], glue: str = ", ") -> str:
    return _listed([path.name for path in paths], glue)


def _listed(names: list[str], glue: str = ", ") -> str:
    shown = glue.join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
