"""Encoded frames on disk: segments of a video, each with what a run that goes on has to know of it.

A segment is two files. `00007.packets` has packets, each with a head of fixed length before its bytes.
`00007.json` is written when all of them are on the disk: without it a segment is not done. Decoding times are
not kept: they follow from the times of all frames, once these are known.
"""

import json
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_HEAD = struct.Struct("<qqq?")  # time stamp, duration, bytes, whether it stands alone


@dataclass(frozen=True)
class Packet:
    """One encoded frame."""

    data: bytes
    pts: int  # when it is shown, and for how long, in the video's time base
    duration: int
    is_keyframe: bool


@dataclass(frozen=True)
class SegmentFacts:
    frames: int
    derained: int  # frames that were changed
    scene: dict[str, Any]  # as it was after the last frame


def begin_segment(path: Path) -> None:
    """Empty, and not done, whatever an earlier run left."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.write_bytes(b"")


def append_packets(path: Path, packets: Iterable[Packet]) -> None:
    """Raises OSError."""
    with path.open("ab") as file:
        for packet in packets:
            file.write(_HEAD.pack(packet.pts, packet.duration, len(packet.data), packet.is_keyframe))
            file.write(packet.data)


def finish_segment(path: Path, facts: SegmentFacts) -> None:
    """From now on it is done, even if the machine's power fails."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        file.write(json.dumps(asdict(facts)).encode())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path.with_suffix(".json"))


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.packets"


def finished_segments(folder: Path) -> list[SegmentFacts]:
    """From the first one on, as many as are done without a gap. One whose facts are not whole is not done."""
    facts: list[SegmentFacts] = []
    with suppress(FileNotFoundError, ValueError, TypeError):
        while True:
            path = segment_path(folder, len(facts)).with_suffix(".json")
            facts.append(SegmentFacts(**json.loads(path.read_bytes())))
    return facts


def read_packets(path: Path) -> Iterator[Packet]:
    """One after the other, in the order in which they are decoded."""
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            pts, duration, size, is_keyframe = _HEAD.unpack(head)
            yield Packet(file.read(size), pts, duration, is_keyframe)


def read_stamps(path: Path) -> Iterator[int]:
    """Of the packets, without their bytes."""
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            pts, _, size, _ = _HEAD.unpack(head)
            file.seek(size, os.SEEK_CUR)
            yield pts


def decoding_times(stamps: list[int]) -> list[int]:
    """Of frames in the order in which they are decoded: each when one is shown that comes so much earlier.

    None is later than its frame's own time, and each is above the one before; the first may be below 0.
    """
    shown = sorted(stamps)
    rank = {stamp: index for index, stamp in enumerate(shown)}
    delay = max((index - rank[stamp] for index, stamp in enumerate(stamps)), default=0)
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    before = [shown[0] - step * (delay - index) for index in range(delay)]
    return [*before, *shown[: len(shown) - delay]]
