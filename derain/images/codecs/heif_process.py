"""HEIC, decoded in a process of its own: a file can crash libheif, and with it whoever runs it.

The process reads the file from its input and writes a line of JSON and the bytes that it tells of.
Time and memory it has by the number of pixels.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from derain.errors import CorruptImageError

# Of a processor. Seen: 0.4 s for 12 million pixels of a telephone, 2.8 s for 33 million in 10 bits.
_MIN_SECONDS, _SECONDS_PER_PIXEL = 5, 5e-7
_MIN_BYTES, _BYTES_PER_PIXEL = 1_000_000_000, 32  # of address space: most of the least is libraries
_WAITING = 10  # times the seconds of work, for a machine that has other things to do


@dataclass(frozen=True)
class HeicImage:
    samples: NDArray[np.uint8]  # upright; gray, gray and alpha, RGB, or RGB and alpha
    is_multiplied: bool  # the colours by alpha
    exif: bytes | None
    profile: bytes | None
    xmp: bytes | None


def decode_heic(data: bytes, pixels: int) -> HeicImage:
    """A file that says to have so many pixels; raises CorruptImageError."""
    seconds = round(_MIN_SECONDS + pixels * _SECONDS_PER_PIXEL)
    limits = [str(seconds), str(_MIN_BYTES + pixels * _BYTES_PER_PIXEL)]
    command = [sys.executable, "-P", "-c", _PROGRAM, *limits]
    try:
        run = subprocess.run(command, input=data, capture_output=True, timeout=_WAITING * seconds)
    except subprocess.TimeoutExpired as error:
        raise CorruptImageError(f"the HEIC image was not decoded in {_WAITING * seconds} s") from error
    line, _, content = run.stdout.partition(b"\n")
    if run.returncode or not line:
        raise CorruptImageError("the HEIC image is damaged, or takes too much to decode")
    told: dict[str, Any] = json.loads(line)
    if "error" in told:
        raise CorruptImageError(f"the HEIC image is damaged or cut short: {told['error']}")
    exif_at = int(np.prod(told["shape"]))
    profile_at = exif_at + told["exif"]
    xmp_at = profile_at + told["profile"]
    return HeicImage(
        np.frombuffer(content, np.uint8, exif_at).reshape(told["shape"]),
        told["is_multiplied"],
        content[exif_at:profile_at] or None,
        content[profile_at:xmp_at] or None,
        content[xmp_at:] or None,
    )


# Gray of more than 8 bits comes as 16 though 8 are asked for: the upper ones.
_PROGRAM = """
import json, os, sys
seconds, size = map(int, sys.argv[1:])
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except ImportError:
    pass  # Windows
import numpy as np
import pi_heif
out = sys.stdout.buffer
try:
    pi_heif.options.DECODE_THREADS = 2
    image = pi_heif.open_heif(sys.stdin.buffer.read(), convert_hdr_to_8bit=True)
    samples = np.asarray(image)
    if samples.dtype != np.uint8:
        samples = (samples >> 8).astype(np.uint8)
    exif = image.info.get("exif") or b""
    profile = image.info.get("icc_profile") or b""
    xmp = image.info.get("xmp") or b""
except Exception as error:
    out.write(json.dumps({"error": str(error)}).encode() + b"\\n")
else:
    told = {"shape": samples.shape, "is_multiplied": image.premultiplied_alpha, "exif": len(exif)}
    told["profile"] = len(profile)
    for part in (json.dumps(told).encode() + b"\\n", np.ascontiguousarray(samples).data, exif, profile, xmp):
        out.write(part)
out.flush()
os._exit(0)
"""
