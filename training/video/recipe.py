"""What a training of the temporal network depends on."""

from dataclasses import asdict, dataclass
from typing import Any

from training.rain.families import MIXED


@dataclass(frozen=True)
class TemporalRecipe:
    """All sizes are those of the clips that are drawn, and of the crops that are trained on."""

    clips: int = 1_200
    clip_frames: int = 8  # all but two at each end are in the middle of a window
    side_px: int = 192
    photograph_count: int = 16  # backgrounds are few and simple, as the images' are
    leaves_count: int = 6
    dry_share: float = 0.1  # of clips without rain
    steps: int = 6_000
    batch: int = 8
    patch_px: int = 128
    learning_rate: float = 2e-3
    decay_share: float = 0.5  # of the steps, at the end, over which the rate falls to zero
    ends_share: float = 0.15  # of windows that the clip begins or ends in
    width: int = 32  # channels of the network, at its finest
    seed: int = 0

    def describe_clips(self) -> dict[str, Any]:
        """What each clip depends on, beside its number and what derains its frames."""
        names = ("clip_frames", "side_px", "photograph_count", "leaves_count", "dry_share", "seed", "rain")
        described = self.describe()
        return {name: described[name] for name in names}

    def describe(self) -> dict[str, Any]:
        return asdict(self) | {"rain": MIXED.name}
