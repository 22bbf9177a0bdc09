"""Decodes AVIF and HEIC, in a process of its own that `decoders` starts and speaks to.

It reads a line of JSON and as many bytes of a file as that says, and writes a line of JSON and the bytes that
that tells of, until its input ends or nothing more comes. It imports nothing of this package: so it can be
started anywhere.
"""

import io
import json
import os
import select
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_IDLE_S = 60


class _UnknownError(Exception):
    """Of a kind that the library does not know."""


@dataclass(frozen=True)
class _Image:
    samples: Any  # uint8
    info: Mapping[Any, Any]
    is_multiplied: bool = False  # the colours by alpha


def main() -> None:
    files, answers = sys.stdin.buffer, sys.stdout.buffer
    while _has_more() and (line := files.readline()):
        asked = json.loads(line)
        data = files.read(asked["bytes"])
        _limit(asked["seconds"], asked["memory"])
        try:
            parts = _answer(_DECODERS[asked["format"]](data))
        except Exception as error:
            failed = {"error": str(error), "is_unknown": isinstance(error, _UnknownError)}
            parts = [json.dumps(failed).encode() + b"\n"]
        for part in parts:
            answers.write(part)
        answers.flush()


def _has_more() -> bool:
    """What comes is read whole, so nothing of it is left in a buffer."""
    if os.name == "nt":  # cannot be asked there
        return True
    return bool(select.select([sys.stdin], [], [], _IDLE_S)[0])


def _limit(seconds: int, memory: int) -> None:
    """Of the processor from now on, and of address space in all; beyond, the system ends the process."""
    if os.name == "nt":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = round(used.ru_utime + used.ru_stime)
    for kind, value in ((resource.RLIMIT_CPU, spent + seconds), (resource.RLIMIT_AS, memory)):
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _heic(data: bytes) -> _Image:
    """Upright."""
    import pi_heif

    pi_heif.options.DECODE_THREADS = 2
    image = pi_heif.open_heif(data, convert_hdr_to_8bit=True)
    samples = np.array(image)  # a copy: the library's memory goes with `image`
    if samples.dtype != np.uint8:  # gray of more than 8 bits, though 8 are asked for: the upper ones
        samples = (samples >> 8).astype(np.uint8)
    return _Image(samples, image.info, image.premultiplied_alpha)


def _avif(data: bytes) -> _Image:
    """Not turned: Pillow says by EXIF's orientation how it is to be."""
    from PIL import Image as PilImage
    from PIL import UnidentifiedImageError

    PilImage.MAX_IMAGE_PIXELS = None  # the memory is limited
    try:
        image = PilImage.open(io.BytesIO(data), formats=["AVIF"])
    except UnidentifiedImageError as error:  # its words are about our buffer
        raise _UnknownError from error
    with image:
        image.load()
        return _Image(np.asarray(image), image.info)


_DECODERS = {"AVIF": _avif, "HEIC": _heic}


def _answer(image: _Image) -> list[Any]:
    """The line and the bytes: samples, EXIF, profile and XMP."""
    blocks = [image.info.get(name) or b"" for name in ("exif", "icc_profile", "xmp")]
    reply = {"shape": image.samples.shape, "is_multiplied": image.is_multiplied}
    reply["lengths"] = [len(block) for block in blocks]
    return [json.dumps(reply).encode() + b"\n", np.ascontiguousarray(image.samples).data, *blocks]


if __name__ == "__main__":
    main()
