"""Memory that is given back: the C library keeps what was freed, for each thread, and ever more of it.

Images of all sizes, made in one thread and freed in another, leave its arenas full of holes. glibc also
raises, with each large buffer that is freed, the size from which a buffer is a mapping of its own. Here it
stays where it is, so that what is large goes back to the system the moment it is freed.
"""

import ctypes
import logging
from typing import Any

logger = logging.getLogger("derain")

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

# A mapping costs a fault for each of its pages: 2 ms at decoding an image of 1280 x 720, which is smaller.
_LARGE_BYTES = 4 * 1024**2
_MAX_FREE_BYTES = 16 * 1024**2  # at the end of an arena; with less, an image's buffers would come and go
_ARENAS = 2


def trim_memory() -> None:
    """Gives back what is free between what is not, which takes a millisecond; without glibc, nothing."""
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


def give_memory_back() -> None:
    """For this process, before its threads start; without glibc there is nothing to set."""
    if (mallopt := _function("mallopt")) is None:
        return
    for option, value in (
        (_M_MMAP_THRESHOLD, _LARGE_BYTES),
        (_M_TRIM_THRESHOLD, _MAX_FREE_BYTES),
        (_M_ARENA_MAX, _ARENAS),
    ):
        if not mallopt(option, value):
            logger.warning("the C library does not take memory option %d", option)


def _function(name: str) -> Any:
    """Of glibc; None in another C library."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
