"""What is kept of what a file says besides its pixels.

EXIF is kept without what tells where somebody was (GPS), what only the camera's maker can read
(and may tell as much), and the thumbnail, which shows the image as it was. Of the main directory
only what describes the image or its author is kept; of EXIF's own, what the standard defines.
Of XMP and IPTC, see derain.captions.
"""

from collections.abc import Collection
from dataclasses import dataclass

from derain.errors import CorruptImageError
from derain.images.metadata.tiff_tags import (
    EXIF,
    INTEROPERABILITY,
    SHORT,
    Directory,
    TagFile,
    header,
    number,
    pack_tree,
    whole,
)

_ORIENTATION = 274
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_PIXEL_WIDTH, _PIXEL_HEIGHT = 40962, 40963
_MAKER_NOTE, _GPS = 37500, 34853

_MAIN_KEPT = {
    *(11, 269, 270, 271, 272),  # software, names and description, make and model
    *(_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT),
    *(305, 306, 315, 316, 318, 319),  # software, date, artist, computer, white point, primaries
    *(18246, 18249, 33432),  # rating, copyright
    *range(40091, 40096),  # title to subject, as Windows has them
}
_CAMERA_KEPT = ({*range(33434, 34868), *range(36864, 37894), *range(40960, 42241)}) - {
    *(_GPS, EXIF, INTEROPERABILITY, _MAKER_NOTE),
    *(34377, 34675),  # Photoshop's, a profile
}
_INTEROPERABILITY_KEPT = {1, 2}  # says Adobe RGB where a camera has put in no profile

# Far more than any camera writes, besides thumbnails and its maker's notes.
_MAX_EXIF_BYTES = 1_000_000


@dataclass(frozen=True)
class Exif:
    main: Directory
    camera: Directory
    interoperability: Directory

    @property
    def orientation(self) -> int:
        """1 to 8; 1 is upright."""
        found = number(self.main, _ORIENTATION, 1)
        return found if 1 <= found <= 8 else 1

    @property
    def dots_per_inch(self) -> tuple[float, float] | None:
        per_inch = {2: 1.0, 3: 2.54}.get(number(self.main, _RESOLUTION_UNIT, 2))
        across, down = (_fraction(self.main, tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
        return (across * per_inch, down * per_inch) if per_inch and across and down else None

    def to_bytes(self, width: int, height: int) -> bytes:
        """As a block, of an upright image of this size."""
        main, camera = dict(self.main), dict(self.camera)
        if _ORIENTATION in main:
            main[_ORIENTATION] = whole(SHORT, 1)
        for tag, size in ((_PIXEL_WIDTH, width), (_PIXEL_HEIGHT, height)):
            if tag in camera:
                camera[tag] = whole(4, size)
        return header(8) + pack_tree(main, camera, self.interoperability, 8)


def read_exif(data: bytes | None, is_tiff: bool = False) -> tuple[Exif | None, set[str]]:
    """What is kept of a block, or of a whole TIFF, and the names of what is never kept.

    None where there is nothing to keep, or it is damaged.
    """
    if not data:
        return None, set()
    try:
        file = TagFile(data.removeprefix(b"Exif\0\0"))
        main, following = file.directory(file.first)
    except CorruptImageError:
        return None, {"exif"}
    camera = _below(file, main, EXIF)
    exif = Exif(
        _only(main, _MAIN_KEPT),
        _only(camera, _CAMERA_KEPT),
        _only(_below(file, camera, INTEROPERABILITY), _INTEROPERABILITY_KEPT),
    )
    has = {"gps": _GPS in main, "maker-notes": _MAKER_NOTE in camera, "thumbnail": following and not is_tiff}
    directories = (exif.main, exif.camera, exif.interoperability)
    size = sum(len(field.data) for directory in directories for field in directory.values())
    is_kept = any(directories) and size <= _MAX_EXIF_BYTES
    return exif if is_kept else None, {name for name, is_there in has.items() if is_there}


def _only(directory: Directory, tags: Collection[int]) -> Directory:
    return {tag: field for tag, field in directory.items() if tag in tags}


def without_orientation(block: bytes) -> bytes:
    """Of a block that `Exif.to_bytes` made."""
    exif, _ = read_exif(block)
    assert exif
    main = {tag: field for tag, field in exif.main.items() if tag != _ORIENTATION}
    return header(8) + pack_tree(main, exif.camera, exif.interoperability, 8)


def _below(file: TagFile, directory: Directory, tag: int) -> Directory:
    """The directory that a tag points to; empty where there is none."""
    try:
        return file.directory(number(directory, tag, 0))[0]
    except CorruptImageError:
        return {}


def _fraction(directory: Directory, tag: int) -> float:
    if tag not in directory or directory[tag].kind != 5:
        return 0
    data = directory[tag].data
    above, below = (int.from_bytes(data[start : start + 4], "little") for start in (0, 4))
    return above / below if below else 0
