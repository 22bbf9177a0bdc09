"""Derains images of any size: coarse to fine, tile by tile, on all cores or a GPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from derain.arrays import AnyImage, Derained, FloatArray, SameImage, padded
from derain.errors import CancelledError
from derain.inference.estimator import RainEstimator
from derain.inference.idle import WhenIdle
from derain.inference.network import Network, TileJob
from derain.inference.resources import usable_cores, usable_memory
from derain.inference.scales import reduced, scales, with_coarser
from derain.inference.sessions import Provider
from derain.inference.tile_batcher import TileBatcher
from derain.inference.tiling import Cutter, Tile
from derain.manifest import load_manifest
from derain.pointer import promoted_model

NoteProgress = Callable[[int, int], object]  # pixels of all scales that are done, and of how many

_MAX_THREADS = 16

# Larger tiles waste less on overlap and take more memory. With 2 GB a core these figures allow tiles of
# 2.4 million pixels: an image of 1920 x 1080 is one tile.
_BYTES_PER_PIXEL = 210  # while a tile is computed, at 32 channels of half resolution: measured
_SHARE_OF_MEMORY = 0.25  # for the tiles of all threads together
_MAX_TILE_PIXELS = 8 * 1024**2  # beyond, less than a tenth is left to gain
_GPU_TILE_PIXELS = 2 * 1024**2  # a GPU's memory is its own, and smaller

# An image of no more pixels takes less time to compute than another thread takes to wake.
_SMALL_PIXELS = 64**2

# Starting a run costs a GPU a fixed time, and small tiles leave most of it idle. On a CPU one run of several
# tiles takes as long as a run of each: measured. The GPU's figure is a guess, for none was ever at hand.
_GPU_TILE_BATCH = 8

# onnxruntime keeps the memory of a run for the next one, which would take a tenth longer without it.
# A service is idle most of the time, and then the memory is better given back.
_IDLE_S = 2.0  # without an image, until the memory is given back


class Engine:
    """A model, loaded and ready. Safe to call from several threads at once.

    `folder` is a model folder; None: the promoted model.

    One run takes up to `tile_batch` tiles of one shape, from one image or several. Together they have no
    more pixels than the largest tile. None: 1 on the CPU, 8 elsewhere. A network that takes one image at a
    time gets one tile. The thread that made a run calls `note_run` with the number of its tiles.

    `device` is the number of a GPU. With `Provider.AUTO` it means CUDA.

    Raises ModelError for a folder that is no sound model, and ProviderError where the
    provider or device asked for is not there: the engine takes no other one in its place.
    """

    def __init__(
        self,
        folder: Path | None = None,
        provider: Provider = Provider.AUTO,
        threads: int | None = None,
        tile_pixels: int | None = None,
        tile_batch: int | None = None,
        note_run: Callable[[int], object] = lambda tiles: None,
        device: int | None = None,
    ) -> None:
        folder = folder or promoted_model()
        self.manifest = load_manifest(folder)
        self.network = Network(folder, self.manifest, provider, device)
        self.provider = self.network.provider
        self.device = device
        on_cpu = self.provider is Provider.CPU
        # Threads that share a convolution wait for one another; so each run has one thread.
        # A GPU takes one tile after the other.
        self.threads = (threads or min(usable_cores(), _MAX_THREADS)) if on_cpu else 1
        self.tile_pixels = tile_pixels or _affordable_tile_pixels(self.threads, on_cpu)
        if tile_batch is None:
            tile_batch = 1 if on_cpu else _GPU_TILE_BATCH
        self.tile_batch = tile_batch if self.network.takes_several else 1
        self._estimator: RainEstimator | None = None
        if (estimator := self.manifest.estimator) is not None:
            self._estimator = RainEstimator(folder, estimator, self.provider, device)
        self._note_run = note_run
        self._batcher = TileBatcher(self._run, self.threads, self.tile_batch, self.tile_pixels)
        self._lock = Lock()
        self._in_work = 0  # images
        self._idle = WhenIdle(self.network.release_memory, _IDLE_S)
        if on_cpu:
            # onnxruntime never gives its first allocation back. This makes the first one small.
            self.network.release_memory()

    def derain(self, image: SameImage) -> SameImage:
        """The derained image of `examine`, which has the contract."""
        return self.examine(image).image

    def examine(
        self,
        image: SameImage,
        force: bool = False,
        cancelled: Event | None = None,
        note_progress: NoteProgress = lambda done, pixels: None,
        tile_pixels: int | None = None,
    ) -> Derained[SameImage]:
        """Derains an image, RGB (height, width, 3), uint8 or uint16, of any size from 1 x 1 up.

        The result has the size and type of the image, and says whether rain was found. At each scale the
        estimator decides whether there is rain: without any, the image passes that scale unchanged. `force`
        derains it nevertheless.

        Raises CancelledError between two tiles once `cancelled` is set. `note_progress` is called with the
        number of pixels that are done, from 0 on, and with their total over all scales, after each tile;
        `tile_pixels` makes tiles smaller, and reports more frequent. The calling thread itself derains up to
        64 x 64 pixels.
        """
        has_known_type = image.dtype in (np.uint8, np.uint16)
        if not has_known_type or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                f"an image is uint8 or uint16 (height, width, 3), got {image.dtype} {image.shape}"
            )
        derained, rain_found = image, False
        evidence: list[float] = []  # at each scale
        with self._share_of_threads() as threads:
            coarse_to_fine = [
                self._scale(image, scale, threads, tile_pixels)
                for scale in scales(image.shape, self.manifest.longest_px)
            ]
            progress = _Progress([scale.pixels for scale in coarse_to_fine], note_progress)
            for scale in coarse_to_fine:
                if cancelled is not None and cancelled.is_set():
                    raise CancelledError("nobody waits for the image any more")
                coarser = derained if rain_found else None  # the result so far, if it differs from the image
                derained = reduced(image, scale.factor)
                rain = self._estimator.estimate(derained) if self._estimator is not None else None
                if rain is not None:
                    evidence.append(rain.evidence)
                if rain is not None and rain.is_none and not force:
                    progress.finish_scale()
                else:
                    rain_found = True
                    descriptor = None if rain is None else rain.descriptor
                    derained = self._derain(derained, scale.tiles, descriptor, cancelled, progress)
                if coarser is not None:
                    derained = with_coarser(derained, coarser)
        return Derained(derained, rain_found, max(evidence, default=None))

    def rain_evidence(self, image: AnyImage) -> float | None:
        """The log-odds of rain less those below which an image is dry, at the scale where they are highest.

        `image` is RGB, uint8 or uint16 (height, width, 3). None for a model without an estimator.
        """
        if self._estimator is None:
            return None
        factors = scales(image.shape, self.manifest.longest_px)
        return max(self._estimator.estimate(reduced(image, factor)).evidence for factor in factors)

    def _scale(self, image: AnyImage, factor: int, threads: int, tile_pixels: int | None) -> "_Scale":
        alignment_px = self.manifest.input.alignment_px
        rows, columns = (-(-side // (factor * alignment_px)) * alignment_px for side in image.shape[:2])
        most = min(self.tile_pixels, tile_pixels or self.tile_pixels)
        cutter = Cutter(self.manifest.overlap_px, alignment_px, most, threads)
        return _Scale(factor, rows * columns, cutter.cut(rows, columns))

    def _derain(
        self,
        image: SameImage,
        tiles: Sequence[Tile],
        descriptor: FloatArray | None,
        cancelled: Event | None,
        progress: "_Progress",
    ) -> SameImage:
        """Derains an image at its own scale; `tiles` are those of the image with its sides padded."""
        height, width = image.shape[:2]
        whole: NDArray[Any] = padded(image, self.manifest.input.alignment_px)
        derained: NDArray[Any] = np.empty_like(whole)
        # The tiles write to separate parts of the result.
        jobs = [TileJob(whole, tile, derained, descriptor) for tile in tiles]
        if len(jobs) == self.tile_batch == 1 and whole.shape[0] * whole.shape[1] <= _SMALL_PIXELS:
            self._run(jobs)
            progress.note(1, 1)
        else:
            self._batcher.run_all(jobs, tiles[0].shape, cancelled, progress.note)
        progress.finish_scale()
        return cast(SameImage, np.ascontiguousarray(derained[:height, :width]))

    def release_memory(self) -> None:
        """Gives back what onnxruntime keeps of a run for the next one, and of shapes that no longer come.

        The engine does so itself once it is idle. Images may be in work.
        """
        if self.provider is Provider.CPU:
            self.network.release_memory()

    def close(self) -> None:
        self._batcher.close()
        self._idle.close()

    def _run(self, jobs: Sequence[TileJob]) -> None:
        self.network.run(jobs)
        self._note_run(len(jobs))

    @contextmanager
    def _share_of_threads(self) -> Iterator[int]:
        """Counts an image as in work; yields the number of threads that its tiles are to fill.

        A single image is cut into tiles for all threads, although overlap is more work. Several images
        divide the threads: with an image for each thread none needs to be cut.
        """
        with self._lock:
            self._in_work += 1
            self._idle.stop()
            threads = max(1, self.threads // self._in_work)
        try:
            yield threads
        finally:
            with self._lock:
                self._in_work -= 1
                if not self._in_work and self.provider is Provider.CPU:
                    self._idle.start()


@dataclass(frozen=True)
class _Scale:
    """A scale that an image is derained at."""

    factor: int  # the image's sides are divided by it
    pixels: int
    tiles: list[Tile]


class _Progress:
    """Counts the pixels that are done over all scales, and reports each change."""

    def __init__(self, scales: Sequence[int], note: NoteProgress) -> None:
        self._to_come = list(scales)  # pixels of the scale in work and of those after it
        self._total = sum(scales)
        self._reported = -1
        self._note = note
        self.note(0, 1)

    def note(self, tiles: int, of: int) -> None:
        """So many tiles of the scale in work are done."""
        scale = self._to_come[0] if self._to_come else 0
        done = self._total - sum(self._to_come) + scale * tiles // of
        if done != self._reported:
            self._reported = done
            self._note(done, self._total)

    def finish_scale(self) -> None:
        """It is done, or was dry."""
        del self._to_come[0]
        self.note(0, 1)


def _affordable_tile_pixels(threads: int, on_cpu: bool) -> int:
    """The size of tiles of which one in each thread takes its share of the memory."""
    affordable = int(usable_memory() * _SHARE_OF_MEMORY) // _BYTES_PER_PIXEL // threads
    return min(affordable, _MAX_TILE_PIXELS if on_cpu else _GPU_TILE_PIXELS)
