"""The clips that the temporal network is trained on: drawn, rained on, derained frame by frame, and aligned.

They are rendered once, into a folder, and read from there step after step: deraining them takes longer than
training on them. A clip that is there is not rendered again.
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from derain.arrays import AnyImage, Image
from derain.errors import DerainError
from derain.files import write_atomically
from derain.inference.engine import Engine
from derain.video.alignment import Aligner, FlowImage, aligned
from derain.video.temporal import REACH
from training.data.backgrounds import load_folder
from training.data.dead_leaves import Leaves, draw_leaves
from training.rain.families import MIXED
from training.repository import PHOTOGRAPHS
from training.seeding import Purpose, generator
from training.video.falling import rain_on
from training.video.motion import Motion, draw_clip
from training.video.recipe import TemporalRecipe

FRAMES = 2 * REACH + 1
_MADE_FROM = "made-from.json"
_LEAVES = Leaves(complexity=0.7, size_px=512)

Window = NDArray[np.uint8]  # (2 FRAMES + 1, H, W, 3): derained, rainy, and the clean frame in the middle


class ClipsError(DerainError):
    """Clips that were rendered for something else."""


@dataclass
class Clips:
    """Rendered clips of a recipe, in a folder; frames are derained by `engines` in turn."""

    recipe: TemporalRecipe
    folder: Path
    engines: Sequence[Engine]
    _aligner: Aligner = field(default_factory=Aligner)

    def render(self, note: Callable[[], object] = lambda: None) -> None:
        """Those that are missing. `note` is called after each.

        Raises ClipsError where the folder has clips of another recipe, or that other models derained.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_origin()
        stills = self._stills()
        for index in range(self.recipe.clips):
            if not self._path(index).exists():
                data = io.BytesIO()
                np.save(data, np.stack(list(self._windows(stills, index))))
                write_atomically(self._path(index), data.getvalue())
            note()

    def window(self, rng: np.random.Generator) -> Window:
        """A random one of those that are rendered, as it lies on the disk."""
        windows = np.load(self._path(int(rng.integers(self.recipe.clips))), mmap_mode="r")
        return np.asarray(windows[int(rng.integers(len(windows)))])

    @property
    def origin(self) -> dict[str, Any]:
        """What each clip depends on, beside its number."""
        return self.recipe.describe_clips() | {
            "frames_by": [engine.manifest.sha256 for engine in self.engines]
        }

    def _check_origin(self) -> None:
        note = self.folder / _MADE_FROM
        origin = json.dumps(self.origin, indent=2).encode()
        if note.exists() and note.read_bytes() != origin:
            raise ClipsError(f"{self.folder} has clips of another recipe or model: remove it")
        write_atomically(note, origin)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:05}.npy"

    def _stills(self) -> list[Image]:
        recipe = self.recipe
        leaves = [draw_leaves(_LEAVES, recipe.seed, number) for number in range(recipe.leaves_count)]
        return load_folder(PHOTOGRAPHS, recipe.photograph_count, recipe.seed) + leaves

    def _windows(self, stills: Sequence[Image], index: int) -> Iterator[Window]:
        recipe = self.recipe
        clean = draw_clip(stills, Motion(), recipe.clip_frames, recipe.side_px, recipe.seed, index)
        is_dry = generator(Purpose.CLIP, recipe.seed, index).random() < recipe.dry_share
        rainy = clean if is_dry else rain_on(clean, MIXED, recipe.seed, index)
        engine = self.engines[index % len(self.engines)]
        derained = [engine.examine(frame, force=True).image for frame in rainy]
        for_flow = [FlowImage(frame) for frame in derained]
        for middle in range(REACH, recipe.clip_frames - REACH):
            others = {place: for_flow[middle + place] for place in range(-REACH, REACH + 1) if place}
            movements = self._aligner.movements(for_flow[middle], others)
            places = range(-REACH, REACH + 1)
            moved: list[AnyImage] = [
                aligned(frames[middle + place], movements.get(place))
                for frames in (derained, rainy)
                for place in places
            ]
            yield np.stack([*moved, clean[middle]])


def crop(window: Window, patch_px: int, ends_share: float, rng: np.random.Generator) -> Window:
    """A square of a window, mirrored, turned in time, and with the clip's end in it, each by chance."""
    top, left = (int(rng.integers(side - patch_px + 1)) for side in window.shape[1:3])
    cut = window[:, top : top + patch_px, left : left + patch_px].copy()
    frames = cut[:-1].reshape(2, FRAMES, *cut.shape[1:])  # derained, rainy
    if rng.random() < ends_share:  # as at a clip's end: the frame itself stands in for what is not there
        missing = int(rng.integers(1, REACH + 1))
        frames[:, FRAMES - missing :] = frames[:, REACH : REACH + 1]
    if rng.random() < 0.5:
        frames[:] = frames[:, ::-1].copy()
    return cut[:, :, ::-1] if rng.random() < 0.5 else cut
