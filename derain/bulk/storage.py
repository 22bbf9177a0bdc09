"""Files on this machine's disks, and in whatever fsspec reaches: the only module that knows fsspec.

A file is named by a path, or by a URL such as `s3://bucket/key`. Network file systems raise what they like;
everything of it leaves here as a StorageError, which is an OSError.
"""

import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from derain.errors import FileError, MissingFileError
from derain.files import write_atomically

try:
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.registry import known_implementations
except ModuleNotFoundError as error:
    wanted = "pip install 'derain[bulk]'"
    raise ModuleNotFoundError(f"fsspec is not installed: {wanted}", name="fsspec") from error

_T = TypeVar("_T")

# A put to these is seen whole or not at all. Elsewhere a file is written under another name, then renamed.
_ATOMIC_PUT = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hf"})

_TRIES = 3  # at what is far away
_PAUSE_S = 0.5  # before the second try; twice as long before the third
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)


class StorageError(FileError):
    """A file or folder, near or far, that cannot be read, listed or written."""


class MissingError(StorageError, MissingFileError):
    """One that is not there."""


def is_remote(name: str) -> bool:
    return "://" in name


def normal(name: str) -> str:
    """The one way to write it: paths are absolute, as other processes work in other folders."""
    if name.startswith(("file://", "local://")):
        name = name.split("://", 1)[1]
    if not is_remote(name):
        return os.path.abspath(name)  # noqa: PTH100 - links are left as they are
    system, path = _system(name)
    return str(system.unstrip_protocol(path))


def join(folder: str, place: str) -> str:
    """`place` has slashes, on any system."""
    if is_remote(folder):
        return f"{folder.rstrip('/')}/{place}"
    return os.fspath(Path(folder) / place)


def read(name: str) -> bytes:
    """Raises StorageError."""
    if not is_remote(name):
        return _with_storage_errors(name, Path(name).read_bytes)
    system, path = _system(name)
    return bytes(_with_storage_errors(name, lambda: _patiently(lambda: system.cat_file(path))))


def write(name: str, data: bytes) -> None:
    """Whole, or not at all. Raises StorageError."""
    if is_remote(name):
        _with_storage_errors(name, lambda: _patiently(lambda: _put(name, data)), "written")
        return

    def put() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(name), data)

    _with_storage_errors(name, put, "written")


def size(name: str) -> int | None:
    """In bytes; None where there is no such file. Raises StorageError where it cannot be read."""
    try:
        if not is_remote(name):
            found = _with_storage_errors(name, Path(name).stat)
            return found.st_size if stat.S_ISREG(found.st_mode) else None
        system, path = _system(name)
        info = _with_storage_errors(name, lambda: _patiently(lambda: system.info(path)))
    except MissingError:
        return None
    return int(info.get("size") or 0) if info["type"] == "file" else None


def is_folder(name: str) -> bool:
    """Whether anything is below. Raises StorageError."""
    if not is_remote(name):
        return Path(name).is_dir()
    system, path = _system(name)
    return bool(_with_storage_errors(name, lambda: _patiently(lambda: system.isdir(path))))


def files_below(folder: str) -> Iterator[tuple[str, int]]:
    """Place below the folder, with slashes, and bytes of every file, in order; nothing where none is.

    Raises StorageError.
    """
    if not is_remote(folder):
        yield from _local_files_below(Path(folder))
        return
    system, path = _system(folder)
    found = _with_storage_errors(folder, lambda: _patiently(lambda: system.find(path, detail=True)))
    root = path.rstrip("/") + "/" if path else ""
    for key in sorted(found):
        if key.startswith(root):
            yield key[len(root) :], int(found[key].get("size") or 0)


def matches(pattern: str) -> Iterator[tuple[str, int]]:
    """Names and bytes of the files that a pattern with *, ?, [] or ** fits, in order. Raises StorageError."""
    system, path = _system(pattern)
    found = _with_storage_errors(pattern, lambda: _patiently(lambda: system.glob(path, detail=True)))
    for key in sorted(found):
        if found[key]["type"] == "file":
            name = str(system.unstrip_protocol(key)) if is_remote(pattern) else key
            yield name, int(found[key].get("size") or 0)


def remove(folder: str) -> None:
    """With all that is in it, if it is there. Raises StorageError."""
    system, path = _system(folder)
    with suppress(MissingError):
        _with_storage_errors(folder, lambda: system.rm(path, recursive=True), "removed")


def check(name: str) -> None:
    """Raises StorageError where no file can be put: what can be known before the work."""
    probe = join(name, f".{uuid.uuid4().hex}.unfinished")
    write(probe, b"")
    with suppress(StorageError):
        remove(probe)


def _local_files_below(folder: Path) -> Iterator[tuple[str, int]]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            with suppress(OSError):  # gone in the meantime, or a link to nothing
                yield path.relative_to(folder).as_posix(), path.stat().st_size


def _put(name: str, data: bytes) -> None:
    system, path = _system(name)
    if name.split("://")[0] in _ATOMIC_PUT:
        system.pipe_file(path, data)
        return
    system.makedirs(path.rpartition("/")[0] or path, exist_ok=True)
    unfinished = f"{path}.{uuid.uuid4().hex[:8]}.unfinished"
    try:
        system.pipe_file(unfinished, data)
        system.mv(unfinished, path)
    except BaseException:
        with suppress(Exception):  # the error that is raised says more
            system.rm(unfinished)
        raise


def _system(name: str) -> tuple[Any, str]:
    """The file system of a name, and the path there; raises StorageError for one that is not known.

    What it asks for, such as credentials, it finds as fsspec does: environment and configuration.
    """
    if not is_remote(name):
        return LocalFileSystem(), str(Path(name).absolute())
    if "::" in name:
        raise StorageError(f"{name}: chained URLs (::) are not read")
    protocol = name.split("://")[0]
    try:
        system, path = url_to_fs(name)
    except ImportError as error:
        raise StorageError(f"{protocol}:// {_package_of(protocol, error)}") from error
    except ValueError as error:
        known = "s3://, gs://, hf:// and memory:// are some"
        raise StorageError(f"{protocol}:// is no protocol that fsspec knows; {known}") from error
    except Exception as error:  # of credentials, or of the network
        raise StorageError(f"{protocol}:// cannot be opened: {error}") from error
    return system, str(path)


def _package_of(protocol: str, error: ImportError) -> str:
    """Which one has the protocol: most name their class, the others say it in words."""
    package = known_implementations.get(protocol, {}).get("class", "").split(".")[0]
    if package in ("", "fsspec"):
        return f"needs a package that is not installed: {error}"
    return f"needs the package {package}, which is not installed: pip install {package.replace('_', '-')}"


def _patiently(work: Callable[[], _T]) -> _T:
    """Again, where it may be the network."""
    for tried in range(1, _TRIES):
        try:
            return work()
        except _FINAL:
            raise
        except Exception:  # every file system has errors of its own
            time.sleep(_PAUSE_S * tried)
    return work()


def _with_storage_errors(name: str, work: Callable[[], _T], done: str = "read") -> _T:
    """Raises every error of the work as a StorageError that names the file."""
    try:
        return work()
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise MissingError(f"{name} does not exist") from error
    except Exception as error:  # botocore's, aiohttp's, huggingface_hub's, the system's
        raise _storage_error(name, done, error) from error


def _storage_error(name: str, done: str, error: Exception) -> StorageError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    failure = StorageError(f"{name} cannot be {done}: {reason.splitlines()[0]}")
    if isinstance(error, OSError):
        failure.errno = error.errno  # which says whether the next one would fare better
    return failure
