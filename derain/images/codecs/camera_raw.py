"""Camera raw, told apart from images: what lies in front in such a file is a thumbnail of it.

Most kinds are TIFF files whose first directory is a small copy; the others have signatures of their own.
"""

from collections.abc import Iterator

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.codecs import isobmff
from derain.images.metadata.tiff_tags import Directory, TagFile, numbers

_SIGNATURES = {
    b"FUJIFILMCCD-RAW": "Fujifilm's RAF",
    b"IIRO": "Olympus's ORF",
    b"IIRS": "Olympus's ORF",
    b"MMOR": "Olympus's ORF",
    b"IIU\0": "Panasonic's RW2",
    b"II\x1a\0\0\0HEAPCCDR": "Canon's CRW",
    b"FOVb": "Sigma's X3F",
    b"\0MRM": "Minolta's MRW",
}
# Behind the header of a TIFF.
_MARKS = {
    b"CR\x02\0": "Canon's CR2",
    b"IIIITwaR": "Phase One's IIQ",
    b"IIIICwaR": "Phase One's IIQ",
    b"MMMMRawT": "Phase One's IIQ",
}
_CANON_BRAND = b"crx "

# By the first word of the maker's name.
_KINDS = {
    "NIKON": "Nikon's NEF",
    "SONY": "Sony's ARW",
    "PENTAX": "Pentax's PEF",
    "RICOH": "Pentax's PEF",
    "SAMSUNG": "Samsung's SRW",
    "KODAK": "Kodak's DCR",
    "EASTMAN": "Kodak's DCR",
    "HASSELBLAD": "Hasselblad's 3FR",
    "LEAF": "Leaf's MOS",
    "MAMIYA": "Mamiya's MEF",
    "SEIKO": "Epson's ERF",
    "EPSON": "Epson's ERF",
}

_SUBFILE, _OLD_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _MAKE = 254, 255, 259, 262, 271
_SUB_DIRECTORIES, _DNG_VERSION = 330, 50706
# Only raw files have these: Leaf's own, the version of TIFF/EP, what DNG and Sony keep to themselves.
_RAW_TAGS = {34310, 37398, 50740}
_COLOUR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
# Of sensors alone: Sony, packed, Samsung, Nikon, lossy DNG, Kodak, Kodak, Pentax.
_RAW_COMPRESSIONS = {32767, 32769, 32770, 34713, 34892, 65000, 65024, 65535}
_MAX_DIRECTORIES = 16


def refuse_raw(data: bytes) -> None:
    """Where the first bytes say that it is camera raw. Raises UnsupportedFormatError."""
    kinds = [kind for signature, kind in _SIGNATURES.items() if data.startswith(signature)]
    if _CANON_BRAND in isobmff.brands(data):
        kinds.append("Canon's CR3")
    if kinds:
        raise _unsupported(kinds[0])


def refuse_raw_tiff(file: TagFile, first: Directory, following: int) -> None:
    """Where a TIFF is camera raw, or its first directory a mere copy. Raises UnsupportedFormatError."""
    for mark, kind in _MARKS.items():
        if file.data[8 : 8 + len(mark)] == mark:
            raise _unsupported(kind)
    if _DNG_VERSION in first:
        raise _unsupported("DNG")
    if _RAW_TAGS & first.keys() or any(_is_of_sensor(each) for each in _directories(file, first, following)):
        raise _unsupported(_kind_of(first))
    if _one(first, _SUBFILE) & 1 or _one(first, _OLD_SUBFILE) == 2:
        raise UnsupportedFormatError(
            "a TIFF whose first image is marked as a thumbnail of another one, as in camera raw "
            f"({_kind_of(first)}), is not supported: {_ADVICE}"
        )


_ADVICE = "develop it to JPEG, PNG or TIFF and send that"


def _unsupported(kind: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(f"camera raw ({kind}) is not supported: {_ADVICE}")


def _is_of_sensor(directory: Directory) -> bool:
    is_raw = _one(directory, _PHOTOMETRIC) in (_COLOUR_FILTER_ARRAY, _LINEAR_RAW)
    return is_raw or _one(directory, _COMPRESSION) in _RAW_COMPRESSIONS


def _one(directory: Directory, tag: int) -> int:
    return (_few(directory, tag) or [0])[0]


def _few(directory: Directory, tag: int) -> list[int]:
    """None where a tag claims more than it can mean."""
    is_few = tag in directory and directory[tag].count <= _MAX_DIRECTORIES
    return numbers(directory, tag) if is_few else []


def _kind_of(first: Directory) -> str:
    make = first[_MAKE].data.decode("latin-1").strip(" \0") if _MAKE in first else ""
    words = make.upper().split()
    return _KINDS.get(words[0], f"of {make[:40]}") if words else "such as DNG, NEF or CR2"


def _directories(file: TagFile, first: Directory, following: int) -> Iterator[Directory]:
    """The first one, those behind it, and those below them; not the damaged ones."""
    yield first
    starts, seen = [following, *_few(first, _SUB_DIRECTORIES)], set[int]()
    for _ in range(_MAX_DIRECTORIES):
        starts = [start for start in starts if start not in seen]
        if not starts:
            return
        seen.add(starts[0])
        try:
            directory, following = file.directory(starts.pop(0))
        except CorruptImageError:
            continue
        yield directory
        starts += [following, *_few(directory, _SUB_DIRECTORIES)]
