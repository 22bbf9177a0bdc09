"""AVIF and HEIC, decoded in processes of their own: a file can crash a decoder, and with it whoever runs it.

A process is kept for the next image, so that an image costs no start. Time and memory it has by the number of
pixels. One that a file was too much for is not used again, nor one that has seen many.
"""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.formats import ImageFormat

_PROGRAM = Path(__file__).with_name("decoder_program.py")

# Of a processor. Seen: 0.4 s for 12 million pixels of a telephone, 2.8 s for 33 million in 10 bits.
_MIN_SECONDS, _SECONDS_PER_PIXEL = 5, 5e-7
_MIN_BYTES, _BYTES_PER_PIXEL = 1_000_000_000, 32  # of address space: most of the least is libraries
_WAITING = 10  # times the seconds of work, for a machine that has other things to do

_MAX_IDLE = 2  # processes, of some 60 MB; they end by themselves when nothing comes for a minute
_GRACE_S = 1.0  # to end by itself when its input does
_MAX_IMAGES = 1000  # of one process: what a library leaks does not add up


@dataclass(frozen=True)
class DecodedFile:
    samples: NDArray[np.uint8]  # gray, gray and alpha, RGB, or RGB and alpha; HEIC upright
    is_multiplied: bool  # the colours by alpha
    exif: bytes | None
    profile: bytes | None
    xmp: bytes | None


def decode(data: bytes, image_format: ImageFormat, pixels: int) -> DecodedFile:
    """A file that says to have so many pixels; raises CorruptImageError or UnsupportedFormatError."""
    name = image_format.name
    asked = {
        "format": name,
        "bytes": len(data),
        "seconds": round(_MIN_SECONDS + pixels * _SECONDS_PER_PIXEL),
        "memory": _MIN_BYTES + pixels * _BYTES_PER_PIXEL,
    }
    try:
        reply, content = _ask(asked, data)
    except TimeoutError as error:
        raise CorruptImageError(f"the {name} image was not decoded in {error} s") from error
    except EOFError as error:
        raise CorruptImageError(f"the {name} image is damaged, or takes too much to decode") from error
    if reply.get("is_unknown"):
        raise UnsupportedFormatError(f"{name} of this kind is not supported, or it is damaged")
    if "error" in reply:
        raise CorruptImageError(f"the {name} image is damaged or cut short: {reply['error']}")
    return _decoded_file(reply, content)


def _ask(asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Of a process that waits, or a new one; raises as `_Decoder.ask` does."""
    for _ in range(_MAX_IDLE + 1):  # all that wait may have ended in this moment
        decoder = _take()
        try:
            reply, content = decoder.ask(asked, data)
        except EOFError:
            if decoder.had_ended_by_itself:
                continue
            raise
        if "error" in reply:
            decoder.end()
        else:
            _give_back(decoder)
        return reply, content
    raise EOFError


def _decoded_file(reply: dict[str, Any], content: bytes) -> DecodedFile:
    samples = np.frombuffer(content, np.uint8, int(np.prod(reply["shape"]))).reshape(reply["shape"])
    blocks, at = [], samples.size
    for length in reply["lengths"]:
        blocks.append(content[at : at + length] or None)
        at += length
    return DecodedFile(samples, reply["is_multiplied"], *blocks)


class _Decoder:
    """A process, used by one thread at a time."""

    def __init__(self) -> None:
        self._images = 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # NumPy starts a thread a core, each with address space, of which the process has little.
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            start_new_session=os.name != "nt",  # Ctrl+C is for us: what is in work is finished or not by us
        )

    @property
    def is_usable(self) -> bool:
        return self._process.poll() is None and self._images < _MAX_IMAGES

    @property
    def had_ended_by_itself(self) -> bool:
        """For nothing had come for so long; a crash has another status."""
        return self._process.returncode == 0

    def ask(self, asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """What it says of the file, and the bytes that come with it.

        Raises TimeoutError, with the seconds, and EOFError where the process has ended; it is of no more use.
        """
        self._images += 1
        with self._killed_after(_WAITING * asked["seconds"]):
            try:
                reply, content = self._send_and_receive(asked, data)
            except (OSError, EOFError):
                self.end()
                raise EOFError from None
        return reply, content

    def _send_and_receive(self, asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        files, answers = self._process.stdin, self._process.stdout
        assert files is not None
        assert answers is not None
        files.write(json.dumps(asked).encode() + b"\n")
        files.write(data)
        files.flush()
        line = answers.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        reply: dict[str, Any] = json.loads(line)
        expected = 0 if "error" in reply else int(np.prod(reply["shape"])) + sum(reply["lengths"])
        content = answers.read(expected)
        if len(content) < expected:
            raise EOFError
        return reply, content

    @contextmanager
    def _killed_after(self, seconds: int) -> Iterator[None]:
        timer = Timer(seconds, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        except EOFError:
            if timer.finished.is_set():
                raise TimeoutError(seconds) from None
            raise
        finally:
            timer.cancel()

    def end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # of a process that has ended
                if pipe is not None:
                    pipe.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """In a forked process, whose parent goes on with it."""
        self._process.returncode = 0


_idle: list[_Decoder] = []
_lock = Lock()


def _take() -> _Decoder:
    """One that waits, or a new one."""
    while True:
        with _lock:
            if not _idle:
                break
            decoder = _idle.pop()
        if decoder.is_usable:
            return decoder
        decoder.end()
    return _Decoder()


def _give_back(decoder: _Decoder) -> None:
    with _lock:
        if decoder.is_usable and len(_idle) < _MAX_IDLE:
            _idle.append(decoder)
            return
    decoder.end()


def _end_all() -> None:
    with _lock:
        while _idle:
            _idle.pop().end()


def _forget_all() -> None:
    global _lock
    _lock = Lock()  # a thread of the parent may have held it
    for decoder in _idle:
        decoder.forget()
    _idle.clear()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
