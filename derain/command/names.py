"""What results are called: no two alike on any disk, and the suffix says what is in the file."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import count
from pathlib import Path, PurePath

from derain.images.formats import FORMAT_OF, ImageFormat
from derain.video.formats import Container, is_video_name


class Namer:
    """Gives names within one folder of results, and remembers them.

    Two names are the same where a disk might take them so: in capitals or not, and however Unicode
    writes their accents.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name_all(self, wanted: Iterable[tuple[PurePath, ImageFormat | Container | None]]) -> list[PurePath]:
        """For each place of a source within its folder, and the format that its result is written in.

        A source whose name says that format already keeps its name. `IMG_1.heic` becomes `IMG_1.jpg`,
        or `IMG_1.heic.jpg` where something else is to be `IMG_1.jpg`; what is still not its own is
        numbered.
        """
        asked = list(wanted)
        plain = [_suited(place, file_format) for place, file_format in asked]
        for place in plain:
            self._taken |= {name_key(parent) for parent in place.parents}  # a folder is no file
        contested = _twice(
            name_key(name) for (place, _), name in zip(asked, plain, strict=True) if name != place
        )
        names: list[PurePath] = list(plain)
        # Those that keep their names come first, whatever else would like to have them.
        for index in sorted(range(len(asked)), key=lambda index: plain[index] != asked[index][0]):
            place, name = asked[index][0], plain[index]
            is_renamed = name != place
            names[index] = self._take(name, place if is_renamed else None, name_key(name) in contested)
        return names

    def _take(self, name: PurePath, origin: PurePath | None, is_contested: bool) -> PurePath:
        """The first one that is free; `origin` is the name of a source whose suffix was replaced."""
        if not (origin and is_contested) and self._is_free(name):
            return name
        if origin is not None:
            name = name.with_name(origin.name + name.suffix)
            if self._is_free(name):
                return name
        numbered = (name.with_name(f"{name.stem}-{number}{name.suffix}") for number in count(2))
        return next(each for each in numbered if self._is_free(each))

    def _is_free(self, name: PurePath) -> bool:
        """Whether it was; from now on it is not."""
        key = name_key(name)
        is_free = key not in self._taken
        self._taken.add(key)
        return is_free


def same_name(one: PurePath, other: PurePath) -> bool:
    """Whether some disk takes them for one."""
    return name_key(one) == name_key(other)


def _suited(place: PurePath, file_format: ImageFormat | Container | None) -> PurePath:
    """The same name with a suffix of the format; None leaves it as it is, for nobody knows what it holds."""
    if file_format is None or place.suffix.lower() in file_format.suffixes:
        return place
    is_suffix = place.suffix.lower() in FORMAT_OF or is_video_name(place.name)
    return place.with_name((place.stem if is_suffix else place.name) + file_format.suffixes[0])


def name_key(name: PurePath) -> str:
    """The same for two names where some disk takes them for one."""
    composed = unicodedata.normalize("NFC", str(name)).casefold()
    return unicodedata.normalize("NFC", composed)  # casefold may leave it decomposed


def _twice(keys: Iterable[str]) -> set[str]:
    return {key for key, times in Counter(keys).items() if times > 1}


def is_same_file(one: Path, other: Path) -> bool:
    """Two paths to one file, be it through links or on a disk that tells no capitals from small letters."""
    if one.resolve() == other.resolve():
        return True
    return same_name(one.resolve(), other.resolve()) and one.exists() and one.samefile(other)
