"""One frame after the other: what is to become of it, by itself and with its neighbours."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from derain.arrays import AnyImage
from derain.inference.engine import Engine
from derain.video.scene import Scene
from derain.video.temporal import MAX_PIXELS, REACH, FramePair, TemporalNetwork
from derain.video.yuv import Plane, Samples, add_change, to_rgb


class Frame(Protocol):
    """A frame of a video, in whatever form it came."""

    def images(self) -> list[AnyImage]:
        """RGB (height, width, 3), upright: networks know rain that falls down.

        Of an interlaced frame its two fields: rain moves between the one and the other.
        """
        ...

    def change(self, number: int, before: AnyImage, after: AnyImage, share: float) -> None:
        """Makes image `number` another one, or goes a share of the way, 0 to 1."""
        ...


F = TypeVar("F", bound=Frame)


@dataclass
class PlanarFrame:
    """Planes of brightness and colour, which are written to."""

    planes: Sequence[Plane]
    samples: Samples
    is_interlaced: bool
    quarter_turns: int  # counter-clockwise, until it is upright

    def images(self) -> list[AnyImage]:
        return [_turned(to_rgb(each, self.samples), self.quarter_turns) for each in self._fields]

    def change(self, number: int, before: AnyImage, after: AnyImage, share: float) -> None:
        before, after = (_turned(image, -self.quarter_turns) for image in (before, after))
        add_change(self._fields[number], before, after, self.samples, share)

    @property
    def _fields(self) -> list[Sequence[Plane]]:
        if not self.is_interlaced or min(map(len, self.planes)) < 2:  # a field has a row at least
            return [self.planes]
        return [[plane[start::2] for plane in self.planes] for start in (0, 1)]


@dataclass
class RgbFrame:
    """A frame that is an image, which is replaced."""

    image: AnyImage  # (height, width, 3)

    def images(self) -> list[AnyImage]:
        return [self.image]

    def change(self, number: int, before: AnyImage, after: AnyImage, share: float) -> None:
        if share < 1:
            mixed = before + share * np.subtract(after, before, dtype=np.float32)
            after = cast(AnyImage, np.rint(mixed).astype(before.dtype))
        self.image = after


@dataclass
class _Waiting:
    """A frame that was derained by itself, and waits for those that follow it."""

    frame: Frame
    share: float  # of its change that it gets; 0: it stays as it is
    pair: FramePair | None  # None where it neither helps others nor is helped: it is changed already
    begins_scene: bool
    scene_before: dict[str, Any]


@dataclass
class FrameDerainer:
    """Derains the frames of one video, in their order.

    The scene decides whether there is rain; its decision is passed over by `force`, and by a model without an
    estimator. With a `temporal` network frames help one another: a frame is done when the `REACH` after it
    have come.
    """

    engine: Engine
    strength: float = 1.0
    force: bool = False
    temporal: TemporalNetwork | None = None
    scene: Scene = field(default_factory=Scene)
    _window: deque[_Waiting] = field(default_factory=deque)  # frames that are done, in work, and to come

    @property
    def reach(self) -> int:
        """How many frames before one have to be seen for it."""
        return REACH if self.temporal is not None else 0

    def derain_all(self, frames: Iterable[F]) -> Iterator[tuple[F, bool]]:
        """The same frames, changed, and whether they were: False where one stays as it is."""
        coming = 0  # frames at the end of the window that are not done
        for frame in frames:
            self._window.append(self._derain_alone(frame))
            coming += 1
            if coming > self.reach:
                yield self._next_done(coming)
                coming -= 1
        while coming:
            yield self._next_done(coming)
            coming -= 1

    @property
    def scene_to_go_on(self) -> Scene:
        """What a run has to know that goes on behind the last frame done: it begins `reach` earlier."""
        if not self._window:
            return self.scene
        return Scene.from_dict(self._window[0].scene_before)

    def _next_done(self, coming: int) -> tuple[Any, bool]:
        at = len(self._window) - coming
        waiting = self._window[at]
        if waiting.pair is not None:
            after = self._with_neighbours(at, waiting.pair)
            waiting.frame.change(0, waiting.pair.rainy, after, waiting.share)
        while at >= self.reach:  # leaves as many before the next one
            self._window.popleft()
            at -= 1
        return waiting.frame, bool(waiting.share)

    def _derain_alone(self, frame: Frame) -> _Waiting:
        before = self.scene.as_dict()
        images = frame.images()
        share, known = self._decide(images[0])
        waiting = _Waiting(frame, share, None, self.scene.is_cut, before)
        for number, image in enumerate(images if share else []):
            derained = known if known is not None and not number else self._derained(image)
            if self._can_help(images):
                waiting.pair = FramePair(image, derained)
            else:  # images of the largest frames are not to be held for long
                frame.change(number, image, derained, share)
        return waiting

    def _decide(self, image: AnyImage) -> tuple[float, AnyImage | None]:
        """The share of its change that a frame gets, and it derained, where that is known by now."""
        if self.force or not self.strength or self.engine.manifest.estimator is None:
            self.scene.watch(image)
            return self.strength, None
        known: list[AnyImage] = []

        def estimate() -> float:
            if not self.scene.share:
                evidence = self.engine.rain_evidence(image)
            else:  # it is about to be derained, which estimates its rain anyway
                examined = self.engine.examine(image, force=True)
                known.append(examined.image)
                evidence = examined.evidence
            assert evidence is not None, "the model has an estimator"
            return evidence

        share = self.scene.see(image, estimate) * self.strength
        return share, known[0] if known else None

    def _derained(self, image: AnyImage) -> AnyImage:
        """Whatever the estimator says of it: the scene has decided."""
        return self.engine.examine(image, force=True).image

    def _can_help(self, images: Sequence[AnyImage]) -> bool:
        if self.temporal is None or len(images) != 1:
            return False
        height, width = images[0].shape[:2]
        return bool(height * width <= MAX_PIXELS)

    def _with_neighbours(self, at: int, pair: FramePair) -> AnyImage:
        """A frame of the window with the help of those around it, of the same scene, that were derained."""
        assert self.temporal is not None
        neighbours: dict[int, FramePair] = {}
        for step in (-1, 1):
            for place in range(step, step * (REACH + 1), step):
                if not 0 <= at + place < len(self._window):
                    break
                other = self._window[at + place]
                begins = self._window[at + place + 1] if step < 0 else other  # the later one of the two
                if begins.begins_scene or other.pair is None:
                    break
                neighbours[place] = other.pair
        return self.temporal.fuse(pair, neighbours)


def _turned(image: AnyImage, turns: int) -> AnyImage:
    return cast(AnyImage, np.ascontiguousarray(np.rot90(image, turns))) if turns % 4 else image
