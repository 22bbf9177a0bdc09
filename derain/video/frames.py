"""One frame after the other: what is to become of it, and the change made to its planes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from derain.arrays import AnyPicture
from derain.engine import Engine
from derain.video.scene import Scene
from derain.video.yuv import Plane, Samples, add_change, to_rgb


@dataclass
class FrameDerainer:
    """Derains the frames of one video, in their order.

    `quarter_turns`, counter-clockwise, turn a frame upright: networks know rain that falls down. The scene's
    decision is passed over by `force`, and by a model without an estimator.
    """

    engine: Engine
    samples: Samples
    strength: float = 1.0
    force: bool = False
    quarter_turns: int = 0
    scene: Scene = field(default_factory=Scene)

    def derain(self, planes: Sequence[Plane], is_interlaced: bool = False) -> bool:
        """Changes the planes, in place; False where the frame stays as it is.

        The fields of an interlaced frame were taken one after the other, and rain moves in between: each is
        derained as an image of its own.
        """
        fields = [[plane[start::2] for plane in planes] for start in (0, 1)] if is_interlaced else [planes]
        images = [to_rgb(each, self.samples) for each in fields]
        share = self._share(images[0]) * self.strength
        if not share:
            return False
        for each, image in zip(fields, images, strict=True):
            add_change(each, image, self._derained(image), self.samples, share)
        return True

    def derain_image(self, image: AnyPicture) -> AnyPicture:
        """A frame in RGB, (height, width, 3); the same array where it stays as it is."""
        share = self._share(image) * self.strength
        if not share:
            return image
        derained = self._derained(image)
        if share == 1:
            return derained
        mixed = image + share * np.subtract(derained, image, dtype=np.float32)
        return cast(AnyPicture, np.rint(mixed).astype(image.dtype))

    def _share(self, image: AnyPicture) -> float:
        if self.force:
            return 1.0
        evidence = self.engine.rain_evidence(self._turned(image, self.quarter_turns))
        return 1.0 if evidence is None else self.scene.see(image, evidence)

    def _derained(self, image: AnyPicture) -> AnyPicture:
        upright = self._turned(image, self.quarter_turns)
        derained = self.engine.examine(upright, force=True).picture  # the scene has decided
        return self._turned(derained, -self.quarter_turns)

    def _turned(self, image: AnyPicture, turns: int) -> AnyPicture:
        return cast(AnyPicture, np.ascontiguousarray(np.rot90(image, turns))) if turns % 4 else image
