"""Which images there are: below a folder or a prefix, of a pattern, or in a manifest."""

import glob
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from derain.bulk import storage
from derain.bulk.report import parquet_batches
from derain.bulk.rows import Row
from derain.bulk.storage import StorageError
from derain.command.folder import left_out_by_name, walk
from derain.command.report import Outcome, Status
from derain.images.formats import FORMAT_OF
from derain.video.formats import is_video_name

MANIFEST_SUFFIXES = (".txt", ".parquet")

_USUAL_COLUMNS = ("path", "url", "source")
_MAGIC = frozenset("*?[")


class SourceError(StorageError):
    """A source that cannot be what was meant."""


@dataclass(frozen=True, slots=True)
class Found:
    """An image, before anybody looked into it."""

    source: str
    place: str  # below the root, with slashes
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """How a list of images is read: which column, and which folder their names are kept below."""

    column: str | None = None
    root: str | None = None


def find(source: str, target: str, manifest: Manifest) -> Iterator[Found | Row]:
    """Each image, or why a file is none. What is below the target is passed by.

    Raises SourceError or StorageError.
    """
    suffix = PurePosixPath(source).suffix.lower()
    if suffix in MANIFEST_SUFFIXES:
        return _in_manifest(source, manifest)
    for option, value in (("--column", manifest.column), ("--root", manifest.root)):
        if value is not None:
            raise SourceError(f"{option} is for manifests (.txt, .parquet), and {source} is none")
    if storage.is_folder(source):
        return _below(source, target) if storage.is_remote(source) else _in_folder(source, target)
    if _MAGIC & set(source) and storage.size(source) is None:
        return _of_pattern(source, target)
    return _single(source)


def _single(source: str) -> Iterator[Found | Row]:
    size = storage.size(source)
    if size is None:
        raise SourceError(f"{source} does not exist, or has nothing in it")
    if PurePosixPath(source).suffix.lower() not in FORMAT_OF:
        known = "an image, a folder, a prefix, a pattern or a manifest (.txt, .parquet)"
        raise SourceError(f"{source} is not {known}")
    yield Found(source, posixpath.basename(source), size)


def _in_folder(folder: str, target: str) -> Iterator[Found | Row]:
    """By the rules of the `derain` command."""
    for each in walk(Path(folder), Path(target)):
        if isinstance(each, Outcome):
            yield Row(str(each.source), each.status, error=each.reason)
        elif is_video_name(each.name):
            yield Row(str(each), Status.LEFT_OUT, error="videos (the derain command takes them)")
        else:
            place = each.relative_to(folder).as_posix()
            yield Found(storage.join(folder, place), place, each.stat().st_size)


def _below(folder: str, target: str) -> Iterator[Found | Row]:
    inside = target.rstrip("/") + "/"
    for place, size in storage.files_below(folder):
        name = storage.join(folder, place)
        if not name.startswith(inside):
            yield _looked_at(name, place, size)


def _of_pattern(pattern: str, target: str) -> Iterator[Found | Row]:
    """Names are kept below the last folder without a *, ? or [] but in its own name."""
    inside = target.rstrip("/") + "/"
    root, rest = _split(pattern)
    found = False
    for name, size in storage.matches(f"{glob.escape(root)}{rest}"):
        if not name.startswith(inside):
            found = True
            yield _looked_at(name, name[len(root) :].lstrip("/"), size)
    if not found:
        raise SourceError(f"nothing fits {pattern}")


def _split(pattern: str) -> tuple[str, str]:
    """The folder that all names share, and the rest. A folder of this machine may be called like one."""
    parts = pattern.split("/")
    for index, part in enumerate(parts):
        root = "/".join(parts[:index])
        if _MAGIC & set(part) and (storage.is_remote(pattern) or not Path(f"{root}/{part}").is_dir()):
            break
    return root, pattern[len(root) :]


def _looked_at(name: str, place: str, size: int) -> Found | Row:
    *folders, last = place.split("/")
    reason = left_out_by_name(last)
    if reason is None and any(folder.startswith(".") for folder in folders):
        reason = "hidden folders", True
    return Found(name, place, size) if reason is None else Row(name, Status.LEFT_OUT, error=reason[0])


def _in_manifest(name: str, manifest: Manifest) -> Iterator[Found | Row]:
    """One image is named twice: it is derained once."""
    folder = name.rpartition("/")[0]
    entries = (
        _parquet_entries(name, manifest.column)
        if name.lower().endswith(".parquet")
        else _lines(name, manifest)
    )
    names = dict.fromkeys(storage.normal(_resolved(entry, folder)) for entry in entries)
    if not names:
        raise SourceError(f"{name} names no image")
    root = storage.normal(manifest.root).rstrip("/") + "/" if manifest.root else _common_folder(list(names))
    for each in names:
        if not each.startswith(root):
            raise SourceError(f"{each}, which {name} names, is not below the root {root}")
        yield _looked_at(each, each[len(root) :].replace("://", "/"), 0)


def _resolved(entry: str, folder: str) -> str:
    """A name that is no URL and not absolute is one beside the manifest."""
    return entry if storage.is_remote(entry) or entry.startswith("/") or not folder else f"{folder}/{entry}"


def _common_folder(names: list[str]) -> str:
    first, last = min(names), max(names)
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:shared].rpartition("/")[0] + "/" if "/" in first[:shared] else ""


def _lines(name: str, manifest: Manifest) -> Iterator[str]:
    """Of a text: one name a line; empty ones and those that begin with # are none."""
    if manifest.column is not None:
        raise SourceError(f"--column is for .parquet; {name} has lines")
    try:
        text = storage.read(name).decode("utf-8-sig")  # Windows may put a mark in front
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} is no text in UTF-8, with one image a line") from error
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


def _parquet_entries(name: str, column: str | None) -> Iterator[str]:
    data = storage.read(name)
    for batch in parquet_batches(name, data, columns=None if column is None else [column]):
        columns = batch.schema.names
        chosen = column or next((each for each in _USUAL_COLUMNS if each in columns), None)
        if chosen not in columns:
            asked = f"no column {column}" if column else f"none of the columns {', '.join(_USUAL_COLUMNS)}"
            raise SourceError(f"{name} has {asked}: name one with --column")
        for value in batch.column(chosen).to_pylist():
            if not isinstance(value, str) or not value:
                raise SourceError(f"{name}: the column {chosen} has {value!r}, which names no image")
            yield value
