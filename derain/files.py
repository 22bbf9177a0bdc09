"""Files that are written whole or not at all, and those that come with the code."""

import hashlib
import os
import secrets
from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """A folder of the repository's top level that is needed at run time, such as `models`.

    It lies beside the package in a clone, inside it in a wheel.
    """
    installed = _PACKAGE / "shipped" / folder
    return installed if installed.is_dir() else _PACKAGE.parent / folder


def write_atomically(path: Path, data: bytes) -> None:
    """`path` is never half written: it appears whole, or not at all."""
    # A short name of its own: one longer than the file's might be too long for the disk.
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    # And another one for each writer: processes of two containers may have one number.
    unfinished = path.with_name(f".{name}.{secrets.token_hex(8)}.unfinished")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
