"""One frame after the other: what is to become of it, and the change made to its planes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from derain.arrays import AnyImage
from derain.inference.engine import Engine
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
        images = [self._turned(to_rgb(each, self.samples), self.quarter_turns) for each in fields]
        share, first = self._decide(images[0])
        if not share:
            return False
        for number, (each, image) in enumerate(zip(fields, images, strict=True)):
            derained = first if first is not None and not number else self._derained(image)
            before, after = (self._turned(one, -self.quarter_turns) for one in (image, derained))
            add_change(each, before, after, self.samples, share)
        return True

    def derain_image(self, image: AnyImage) -> AnyImage:
        """A frame in RGB, (height, width, 3); the same array where it stays as it is."""
        share, derained = self._decide(image)
        if not share:
            return image
        if derained is None:
            derained = self._derained(image)
        if share == 1:
            return derained
        mixed = image + share * np.subtract(derained, image, dtype=np.float32)
        return cast(AnyImage, np.rint(mixed).astype(image.dtype))

    def _decide(self, image: AnyImage) -> tuple[float, AnyImage | None]:
        """The share of its change that an upright frame gets, and it derained, where that is known by now."""
        if self.force or not self.strength or self.engine.manifest.estimator is None:
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

    def _turned(self, image: AnyImage, turns: int) -> AnyImage:
        return cast(AnyImage, np.ascontiguousarray(np.rot90(image, turns))) if turns % 4 else image
