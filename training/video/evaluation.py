"""What neighbouring frames are worth: clips never trained on, in rain never trained on.

Scored are the rainy clip, each frame derained by itself, the same with the help of its neighbours, and the
median of five rainy frames, which is the classical answer where a camera stands.

Flicker is the warping error of Lai et al. ("Learning blind video temporal consistency", ECCV 2018): the mean
squared difference between a frame and the one before, moved by the flow of the clean clip, where that is not
hidden in either. In levels of 255, squared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import Image
from derain.inference.engine import Engine
from derain.video.alignment import moved
from derain.video.errors import VideoError
from derain.video.formats import can_read_videos
from derain.video.frames import FrameDerainer, RgbFrame
from derain.video.temporal import REACH, TemporalNetwork
from training.evaluation.held_out import HELD_OUT, HELD_OUT_SEED
from training.evaluation.metrics import psnr
from training.video.falling import FallingRain, held_out_rain_on
from training.video.motion import FIXED, MOVING, draw_clip

_SIDE_PX = 320
_FRAMES = 9
_HARMED_DB = -0.3
_HIGHEST_DB = 60.0  # counted for a frame that came back closer than that: a mean needs an end
_HIDDEN_PX = 1.0  # by which a pixel that goes there and back misses its place

CAMERAS = {"fixed": FIXED, "moving": MOVING}


@dataclass(frozen=True)
class VideoScores:
    """Means over all frames of some clips; PSNR in dB."""

    clips: int
    rainy: float
    alone: float  # each frame derained by itself
    temporal: float
    median: float  # of five rainy frames
    worst_gain: float  # of the frame that the neighbours helped least: temporal less alone
    harmed: int  # clips whose mean is below the rainy one by more than 0.3 dB
    flicker_clean: float
    flicker_rainy: float
    flicker_alone: float
    flicker_temporal: float

    def as_dict(self) -> dict[str, Any]:
        return {name: round(value, 3) for name, value in asdict(self).items()}


def held_out_clips(camera: str, count: int) -> list[list[Image]]:
    """Clean clips over images that no recipe trains on, by a camera of `CAMERAS`."""
    stills = list(HELD_OUT.backgrounds().values())
    return [
        draw_clip(stills, CAMERAS[camera], _FRAMES, _SIDE_PX, HELD_OUT_SEED, index) for index in range(count)
    ]


def read_clip(path: Path, frames: int) -> list[Image]:
    """The first frames of a video. Raises VideoError."""
    if not can_read_videos():
        raise VideoError("videos are read by PyAV, which is not installed: pip install 'derain[video]'")
    from derain.video.source import Source

    with Source(path) as video:
        read = islice(video.frames(), frames)
        clip = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in read]
    if len(clip) < 3:
        raise VideoError(f"{path} has {len(clip)} frames: too few to be scored")
    return clip


def score(
    engine: Engine, temporal: TemporalNetwork, clips: Sequence[Sequence[Image]], rain: FallingRain | None
) -> VideoScores:
    """Of clean clips in rain; None: without any."""
    measured = [_measure(engine, temporal, clip, rain, index) for index, clip in enumerate(clips)]
    of_frames = np.concatenate([each.psnr for each in measured], axis=1)
    flicker = np.mean([each.flicker for each in measured], axis=0)
    rainy, alone, together, median = of_frames.mean(axis=1)
    clip_gains = [float((each.psnr[2] - each.psnr[0]).mean()) for each in measured]
    return VideoScores(
        clips=len(clips),
        rainy=float(rainy),
        alone=float(alone),
        temporal=float(together),
        median=float(median),
        worst_gain=float((of_frames[2] - of_frames[1]).min()),
        harmed=sum(gain < _HARMED_DB for gain in clip_gains),
        flicker_clean=float(flicker[0]),
        flicker_rainy=float(flicker[1]),
        flicker_alone=float(flicker[2]),
        flicker_temporal=float(flicker[3]),
    )


@dataclass(frozen=True)
class _Measured:
    psnr: NDArray[np.float64]  # (4, frames): rainy, alone, temporal, median
    flicker: list[float]  # clean, rainy, alone, temporal


def _measure(
    engine: Engine, temporal: TemporalNetwork, clean: Sequence[Image], rain: FallingRain | None, index: int
) -> _Measured:
    rainy = list(clean) if rain is None else held_out_rain_on(clean, rain, HELD_OUT_SEED, index)
    alone = list(derained(rainy, FrameDerainer(engine)))
    together = list(derained(rainy, FrameDerainer(engine, temporal=temporal)))
    shown = [rainy, alone, together, _medians(rainy)]
    scores = [[min(psnr(a, b), _HIGHEST_DB) for a, b in zip(each, clean, strict=True)] for each in shown]
    return _Measured(np.array(scores), flicker(clean, [clean, rainy, alone, together]))


def derained(frames: Sequence[Image], derainer: FrameDerainer) -> Iterator[Image]:
    for frame, _ in derainer.derain_all(map(RgbFrame, frames)):
        yield frame.image.astype(np.uint8, copy=False)


def _medians(frames: Sequence[Image]) -> list[Image]:
    return [
        np.median(frames[max(0, at - REACH) : at + REACH + 1], axis=0).astype(np.uint8)
        for at in range(len(frames))
    ]


def flicker(clean: Sequence[Image], clips: Sequence[Sequence[Image]]) -> list[float]:
    """The warping error of each clip, by the movement of the clean one."""
    gray = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in clean]
    errors: list[list[float]] = [[] for _ in clips]
    for now in range(1, len(clean)):
        back = _flow(gray[now], gray[now - 1])
        forth = _flow(gray[now - 1], gray[now])
        missed = np.linalg.norm(back + moved(forth, back), axis=2)
        seen = missed < _HIDDEN_PX
        for clip, found in zip(clips, errors, strict=True):
            before = moved(clip[now - 1].astype(np.float32), back)
            squared = np.square(clip[now] - before).mean(axis=2)
            found.append(float(squared[seen].mean()) if seen.any() else 0.0)
    return [float(np.mean(found)) for found in errors]


def _flow(here: NDArray[np.uint8], there: NDArray[np.uint8]) -> NDArray[np.float32]:
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(dis.calc(here, there, None), np.float32)  # type: ignore[call-overload]  # the flow is optional


def table(scores: dict[str, VideoScores]) -> str:
    """Markdown, a row for each set."""
    rows = [
        "| clips | rainy | alone | temporal | gain | worst frame | median of 5 | harmed "
        "| flicker: clean, alone, temporal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, of in scores.items():
        rows.append(
            f"| {name} | {of.rainy:.2f} | {of.alone:.2f} | {of.temporal:.2f} | {of.temporal - of.alone:+.2f} "
            f"| {of.worst_gain:+.2f} | {of.median:.2f} | {of.harmed} of {of.clips} "
            f"| {of.flicker_clean:.1f}, {of.flicker_alone:.1f}, {of.flicker_temporal:.1f} |"
        )
    return "\n".join(rows)
