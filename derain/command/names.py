"""What results are called: no two alike on any disk, and the suffix says what is in the file."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath

from derain.images.formats import ImageFormat
from derain.video.formats import Container


class Namer:
    """Gives names within one folder of results, and remembers them.

    Two names are the same where a disk might take them so: in capitals or not, and however Unicode
    writes their accents.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name_all(self, wanted: Iterable[tuple[PurePath, ImageFormat | Container | None]]) -> list[PurePath]:
        """For each place of a source within its folder, and the format that its result is written in.

        A source whose name says that format already keeps its name, any other one's is lengthened:
        `IMG_1.heic` becomes `IMG_1.heic.jpg`. Where some would have one name, none of them has it, and each
        gets a mark of its own. So whatever is there by a name is of the source that has this name now, also
        when sources come or go between two runs.
        """
        asked = list(wanted)
        for place, _ in asked:
            self._taken |= {name_key(parent) for parent in place.parents}  # a folder is no file
        names = [_suited(place, file_format) for place, file_format in asked]
        while contested := self._contested(names):
            names = [
                _marked(name, place) if name_key(name) in contested else name
                for name, (place, _) in zip(names, asked, strict=True)
            ]
        self._taken |= set(map(name_key, names))
        return names

    def _contested(self, names: Iterable[PurePath]) -> set[str]:
        keys = Counter(map(name_key, names))
        return {key for key, times in keys.items() if times > 1 or key in self._taken}


def same_name(one: PurePath, other: PurePath) -> bool:
    """Whether some disk takes them for one."""
    return name_key(one) == name_key(other)


def _suited(place: PurePath, file_format: ImageFormat | Container | None) -> PurePath:
    """With a suffix of the format at its end; None leaves it as it is, for nobody knows what it holds."""
    if file_format is None or place.suffix.lower() in file_format.suffixes:
        return place
    return place.with_name(place.name + file_format.suffixes[0])


def _marked(name: PurePath, place: PurePath) -> PurePath:
    """Told apart by what says from which source it is, whichever others there are."""
    mark = hashlib.sha256(os.fsencode(place)).hexdigest()[:8]
    return name.with_name(f"{name.stem}-{mark}{name.suffix}")


def name_key(name: PurePath) -> str:
    """The same for two names where some disk takes them for one."""
    composed = unicodedata.normalize("NFC", str(name)).casefold()
    return unicodedata.normalize("NFC", composed)  # casefold may leave it decomposed


def is_same_file(one: Path, other: Path) -> bool:
    """Two paths to one file, be it through links or on a disk that tells no capitals from small letters."""
    if one.resolve() == other.resolve():
        return True
    return same_name(one.resolve(), other.resolve()) and one.exists() and one.samefile(other)
