"""Runs a model: the only module that knows onnxruntime."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from threading import Event, Lock, Timer
from typing import Any, cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from derain.arrays import AnyPicture, FloatArray, SamePicture, quantise_to
from derain.batching import Batcher, NoteProgress
from derain.errors import ModelError, ProviderError
from derain.manifest import InputContract, Overview, load_manifest
from derain.tiling import Tile, cut, place, spread

logger = logging.getLogger(__name__)

DEFAULT_MODEL = Path(__file__).parent.parent / "models" / "base"

_MOST_THREADS = 16

# Larger tiles waste less on overlap and take more memory. Tiles that fill all threads may have this
# share of it; with 2 GB a core that is 2.4 million pixels a thread, a picture of 1920 x 1080 in one.
_BYTES_PER_PIXEL = 210  # while a tile is computed, at 32 channels of half resolution: measured
_SHARE_OF_MEMORY = 0.25
_MOST_TILE_PIXELS = 8 * 1024**2  # beyond, less than a tenth is left to gain
_GPU_TILE_PIXELS = 2 * 1024**2  # a GPU's memory is its own, and smaller
_ASSUMED_MEMORY = 4 * 1024**3  # where the system does not say

# What has no more pixels takes less time than another thread to be woken.
_SMALL_PIXELS = 64**2

# Starting a run costs a GPU a fixed time, and small tiles leave most of it idle. On a CPU one run of several
# tiles takes as long as a run of each: measured. The GPU's figure is a guess, for none was ever at hand.
_GPU_TILE_BATCH = 8

# onnxruntime keeps the memory of a run for the next one, which costs a tenth more time without.
# A service is idle more often than not: after so long it gives the memory back.
_IDLE_S = 2.0


class Provider(StrEnum):
    """What the network runs on; `auto` takes CUDA where it works, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


_ORT_NAMES = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.TENSORRT: "TensorrtExecutionProvider",
}


# Pictures come in all sizes, and an exhaustive search for the fastest convolution would start
# anew at each of them.
_GPU_OPTIONS = {Provider.CUDA: {"cudnn_conv_algo_search": "HEURISTIC"}}

_LOAD_ERRORS = (
    failures.EPFail,
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NotImplemented,
    failures.RuntimeException,
)


@dataclass(frozen=True)
class _Job:
    """A tile to read from one picture and to write to another of the same size."""

    rainy: AnyPicture
    tile: Tile
    derained: AnyPicture
    overview: FloatArray | None  # (3 x windows, height, width), where the network takes one

    def place(self, cell_px: int) -> FloatArray:
        height, width = self.rainy.shape[:2]
        return place(height, width, cell_px, self.tile)


class Engine:
    """A model, loaded and ready. Safe to call from several threads at once.

    Up to `tile_batch` tiles of one shape go into one run, of whichever pictures, as long as they have no
    more pixels together than the largest tile; `note_run` is told how many did, by the thread that ran
    them. None: 1 on the CPU, 8 elsewhere. A network that takes one picture at a time is given no more.

    Raises ModelError for a folder that is no sound model, and ProviderError where the
    provider asked for is not there: it never falls back to another one unasked.
    """

    def __init__(
        self,
        folder: Path = DEFAULT_MODEL,
        provider: Provider = Provider.AUTO,
        threads: int | None = None,
        tile_pixels: int | None = None,
        tile_batch: int | None = None,
        note_run: Callable[[int], object] = lambda tiles: None,
    ) -> None:
        self.manifest = load_manifest(folder)
        self.provider, self._session = _start(folder / self.manifest.file.name, provider)
        # Threads that share a convolution wait for one another; so each run has one thread.
        # A GPU takes one tile after the other.
        cores = min(usable_cores(), _MOST_THREADS)
        self.threads = (threads or cores) if self.provider is Provider.CPU else 1
        if tile_pixels is None:
            tile_pixels = _affordable_tile_pixels(self.threads)
            if self.provider is not Provider.CPU:
                tile_pixels = min(tile_pixels, _GPU_TILE_PIXELS)
        self.tile_pixels = tile_pixels
        if tile_batch is None:
            tile_batch = 1 if self.provider is Provider.CPU else _GPU_TILE_BATCH
        self.tile_batch = tile_batch if _takes_several(self._session) else 1
        self.input_names = [each.name for each in self._session.get_inputs()]
        self.output_name = self._session.get_outputs()[0].name
        self._check_inputs(folder)
        self._run = partial(_run, self._session, self.manifest.input, self.input_names, note_run)
        self._batcher = Batcher(self._run, self.threads, self.tile_batch, tile_pixels)
        self._lock = Lock()
        self._in_work = 0  # pictures
        self._release: Timer | None = None
        if self.provider is Provider.CPU:
            # What onnxruntime takes first it never gives back, so let that be little.
            self._release_memory()

    def derain(
        self,
        picture: SamePicture,
        given_up: Event | None = None,
        note_progress: NoteProgress = lambda done, tiles: None,
        tile_pixels: int | None = None,
    ) -> SamePicture:
        """The picture without rain, RGB (height, width, 3), any size from 1 x 1 up.

        It is of uint8 or of uint16, and comes back in as many bits. Raises GivenUpError between two
        tiles once `given_up` is set. One of no more than 64 x 64 pixels is derained by the calling thread.
        `note_progress` is told how many tiles are done and how many there are, from 0 on; smaller tiles, at
        most of `tile_pixels`, tell it more often and take more work.
        """
        is_known = picture.dtype in (np.uint8, np.uint16)
        if not is_known or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise ValueError(
                f"a picture is uint8 or uint16 (height, width, 3), got {picture.dtype} {picture.shape}"
            )
        height, width = picture.shape[:2]
        alignment_px = self.manifest.input.alignment_px
        padded: NDArray[Any] = _pad(picture, alignment_px)
        overview = _overview(picture, self.manifest.input.overview)
        derained: NDArray[Any] = np.empty_like(padded)
        with self._share_of_threads() as threads:
            rows, columns = padded.shape[:2]
            most = min(self.tile_pixels, tile_pixels or self.tile_pixels)
            tiles = cut(rows, columns, threads, most, self.manifest.overlap_px, alignment_px)
            # The tiles write to separate parts of the result.
            jobs = [_Job(padded, tile, derained, overview) for tile in tiles]
            if len(jobs) == self.tile_batch == 1 and rows * columns <= _SMALL_PIXELS:
                note_progress(0, 1)
                self._run(jobs)
                note_progress(1, 1)
            else:
                shape = tiles[0].shape if overview is None else (*tiles[0].shape, *overview.shape[1:])
                self._batcher.run_all(jobs, shape, given_up, note_progress)
        return cast(SamePicture, np.ascontiguousarray(derained[:height, :width]))

    def close(self) -> None:
        with self._lock:
            self._cancel_release()
        self._batcher.close()

    def _check_inputs(self, folder: Path) -> None:
        overview = self.manifest.input.overview
        expected = 1 if overview is None else 3 if overview.is_placed else 2
        if len(self.input_names) != expected:
            raise ModelError(f"{folder} takes {len(self.input_names)} inputs, its manifest says {expected}")
        if overview is not None:
            channels, expected = self._session.get_inputs()[1].shape[1], 3 * overview.windows
            if channels != expected:
                text = f"an overview of {channels} channels, its manifest says {expected}"
                raise ModelError(f"{folder} takes {text}")

    @contextmanager
    def _share_of_threads(self) -> Iterator[int]:
        """For the time that a picture is in work: how many threads it should be cut for.

        A picture alone is cut for all of them, though its tiles overlap. Of several, each has its
        share: where there are enough to fill the threads, cutting would only be more work.
        """
        with self._lock:
            self._in_work += 1
            self._cancel_release()
            threads = max(1, self.threads // self._in_work)
        try:
            yield threads
        finally:
            with self._lock:
                self._in_work -= 1
                if not self._in_work and self.provider is Provider.CPU:
                    self._release = Timer(_IDLE_S, self._release_memory)
                    self._release.daemon = True
                    self._release.start()

    def _cancel_release(self) -> None:
        if self._release is not None:
            self._release.cancel()

    def _release_memory(self) -> None:
        """onnxruntime does so only at the end of a run: the smallest one that the model takes."""
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        inputs = network_inputs(np.zeros((1, 1, 3), np.uint8), self.manifest.input)
        # A result of onnxruntime's own would be in the very memory that is to be given back.
        binding = self._session.io_binding()
        for name, values in zip(self.input_names, inputs, strict=True):
            binding.bind_cpu_input(name, values)
        result = ort.OrtValue.ortvalue_from_numpy(np.empty_like(inputs[0]))
        binding.bind_ortvalue_output(self.output_name, result)
        self._session.run_with_iobinding(binding, options)


def _pad(picture: AnyPicture, alignment_px: int) -> AnyPicture:
    """To sides that are multiples. Repeating the last row and column is as good as anything."""
    height, width = picture.shape[:2]
    missing = [(0, -height % alignment_px), (0, -width % alignment_px), (0, 0)]
    if not any(after for _, after in missing):
        return picture
    return cast(AnyPicture, np.pad(picture, missing, mode="edge"))


def network_inputs(picture: AnyPicture, contract: InputContract) -> list[FloatArray]:
    """A whole picture as a network takes it.

    (1, 3, H, W); of its overview (1, 3 x windows, H, W); and where that is placed, (1, 2, rows, columns).
    """
    padded = _channels_first(_pad(picture, contract.alignment_px))
    inputs = [padded]
    if (overview := _overview(picture, contract.overview)) is not None:
        inputs.append(overview)
    if contract.is_placed:
        _, height, width = padded.shape
        inputs.append(place(height, width, contract.alignment_px))
    return [each[None] for each in inputs]


def _overview(picture: AnyPicture, contract: Overview | None) -> FloatArray | None:
    """Windows of the picture, (3 x windows, H, W), where the network takes them."""
    if contract is None:
        return None
    windows = spread(picture, contract.windows, contract.longest_px, contract.longest_px)
    seen: NDArray[Any] = np.concatenate(windows, axis=2)  # (H, W, 3 x windows)
    return _channels_first(_pad(seen, contract.alignment_px))


def _channels_first(picture: AnyPicture) -> FloatArray:
    """From 0 to 1."""
    values = picture.transpose(2, 0, 1)
    return np.divide(values, np.iinfo(picture.dtype).max, dtype=np.float32, order="C")


def _run(
    session: ort.InferenceSession,
    contract: InputContract,
    names: Sequence[str],
    note_run: Callable[[int], object],
    jobs: Sequence[_Job],
) -> None:
    """One run of the network, of tiles of one shape."""
    fed = np.empty((len(jobs), 3, *jobs[0].tile.shape), np.float32)  # (N, 3, H, W)
    for job, values in zip(jobs, fed, strict=True):
        values[:] = job.tile.of(job.rainy).transpose(2, 0, 1)
        values /= np.iinfo(job.rainy.dtype).max
    feed = {names[0]: fed}
    overviews = [job.overview for job in jobs if job.overview is not None]
    if overviews:
        feed[names[1]] = np.stack(overviews)
    if contract.is_placed:
        feed[names[2]] = np.stack([job.place(contract.alignment_px) for job in jobs])
    (got,) = session.run(None, feed)
    for job, values in zip(jobs, np.asarray(got), strict=True):
        rows, columns = job.tile.rows, job.tile.columns
        inside = values[
            :,
            rows.keep_start - rows.start : rows.keep_stop - rows.start,
            columns.keep_start - columns.start : columns.keep_stop - columns.start,
        ]
        levels = quantise_to(inside.transpose(1, 2, 0), job.rainy.dtype)
        job.derained[rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop] = levels
    note_run(len(jobs))


def _takes_several(session: ort.InferenceSession) -> bool:
    """Whether the batch axis of the network is free: then its length is a name, or None."""
    return not any(isinstance(length, int) for length in session.get_inputs()[0].shape[:1])


def available_providers() -> list[Provider]:
    """What the installed onnxruntime was built for; a missing driver shows only at start."""
    built_in = ort.get_available_providers()
    return [provider for provider, name in _ORT_NAMES.items() if name in built_in]


def usable_cores() -> int:
    """The cores this process may use: its affinity, capped by the container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_cores()
    return max(1, min(cores, round(quota))) if quota else cores


def _quota_cores() -> float | None:
    """The cgroup's CPU quota in cores, version 2 or 1; None where there is none."""
    two = Path("/sys/fs/cgroup/cpu.max")
    one = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    if two.exists():
        quota, period = two.read_text().split()
        return None if quota == "max" else float(quota) / float(period)
    if one.exists():
        quota_us = int(one.read_text())
        period_us = int(one.with_name("cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 else None
    return None


def usable_memory() -> int:
    """The bytes this process may use: the machine's, capped by the container's limit."""
    limits = [_ASSUMED_MEMORY]
    if hasattr(os, "sysconf"):
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    # The cgroup's limit, version 2 or 1.
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup") / name
        if path.exists() and (limit := path.read_text().strip()) != "max":
            limits.append(int(limit))
    return min(limits)


def _affordable_tile_pixels(threads: int) -> int:
    """How large tiles may be, so that one in each thread leaves the memory to others as well."""
    affordable = int(usable_memory() * _SHARE_OF_MEMORY) // _BYTES_PER_PIXEL // threads
    return min(affordable, _MOST_TILE_PIXELS)


def _start(path: Path, provider: Provider) -> tuple[Provider, ort.InferenceSession]:
    """A session on the provider asked for, or on the best there is."""
    there = available_providers()
    if provider is not Provider.AUTO:
        if provider not in there:
            raise ProviderError(
                f"{provider} was asked for, but the installed onnxruntime has only: {', '.join(there)}"
            )
        return provider, _open(path, provider)
    if Provider.CUDA in there:
        # Built for CUDA, but that may be a machine without a GPU.
        try:
            return Provider.CUDA, _open(path, Provider.CUDA)
        except (ModelError, ProviderError) as error:
            logger.warning("running on the CPU: %s", error)
    return Provider.CPU, _open(path, Provider.CPU)


def _open(path: Path, provider: Provider) -> ort.InferenceSession:
    """A session with the provider in front; raises ModelError or ProviderError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # A pattern holds for one shape, and takes its memory a second time: 330 bytes a pixel, not 200.
    options.enable_mem_pattern = False
    names = [Provider.CPU]
    if provider is not Provider.CPU:
        ort.preload_dlls()  # CUDA and cuDNN may have come as Python packages
        # The CPU stays behind for what a GPU cannot run, and CUDA behind TensorRT.
        names = list(dict.fromkeys([provider, Provider.CUDA, Provider.CPU]))
    providers = [(_ORT_NAMES[name], _GPU_OPTIONS.get(name, {})) for name in names]
    try:
        session = ort.InferenceSession(path, options, providers=providers)
    except _LOAD_ERRORS as error:
        raise ModelError(f"{path} cannot be loaded: {error}") from error
    session.disable_fallback()  # or a GPU that fails would make it quietly start anew on the CPU
    if _ORT_NAMES[provider] not in session.get_providers():
        raise ProviderError(f"{provider} does not start here: is there a GPU and its driver?")
    return session
