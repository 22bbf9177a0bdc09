"""WebP: what its chunks say of how its picture is coded."""

import struct
from collections.abc import Iterator


def chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Name and content of each, up to one that is cut short."""
    view, position = memoryview(data), 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        yield name, view[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def is_lossless(data: bytes) -> bool:
    return any(name == b"VP8L" for name, _ in chunks(data))
