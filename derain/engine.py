"""Runs a model: the only module that knows onnxruntime."""

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from math import isqrt
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from derain.arrays import Picture, quantise
from derain.errors import ModelError, ProviderError
from derain.manifest import load_manifest
from derain.tiling import Tile, cut, smallest_tile_px

logger = logging.getLogger(__name__)

DEFAULT_MODEL = Path(__file__).parent.parent / "models" / "base"

# Larger tiles waste less on overlap and take more memory: about 160 bytes a pixel. So that many
# cores do not take many gigabytes, the tiles in work at once have this many pixels together.
_PIXELS_IN_WORK = 4 * 1024**2
_LARGEST_TILE_PX = 1024
_MOST_THREADS = 16


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


class Engine:
    """A model, loaded and ready. Safe to call from several threads at once.

    Raises ModelError for a folder that is no sound model, and ProviderError where the
    provider asked for is not there: it never falls back to another one unasked.
    """

    def __init__(
        self,
        folder: Path = DEFAULT_MODEL,
        provider: Provider = Provider.AUTO,
        threads: int | None = None,
        tile_px: int | None = None,
    ) -> None:
        self.manifest = load_manifest(folder)
        self.provider, self._session = _start(folder / self.manifest.file.name, provider)
        # Convolutions gain less from a second thread than tiles do, so each run has one thread.
        # A GPU takes one tile after the other.
        cores = min(usable_cores(), _MOST_THREADS)
        self.threads = (threads or cores) if self.provider is Provider.CPU else 1
        self.tile_px = tile_px or min(_LARGEST_TILE_PX, isqrt(_PIXELS_IN_WORK // self.threads))
        smallest_px = smallest_tile_px(self.manifest.overlap_px, self.manifest.input.alignment_px)
        if self.tile_px < smallest_px:
            raise ModelError(
                f"tiles of {self.tile_px} px are too small for this model: {smallest_px} at least"
            )
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="derain-tile")
        self._input_name = self._session.get_inputs()[0].name

    def derain(self, picture: Picture) -> Picture:
        """The picture without rain, uint8 RGB (height, width, 3), any size from 1 x 1 up."""
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise ValueError(f"a picture is uint8 (height, width, 3), got {picture.dtype} {picture.shape}")
        height, width = picture.shape[:2]
        alignment_px = self.manifest.input.alignment_px
        # Repeating the last row and column is as good as anything: it is cut off again.
        missing = [(0, -height % alignment_px), (0, -width % alignment_px), (0, 0)]
        padded = np.pad(picture, missing, mode="edge") if any(after for _, after in missing) else picture
        derained = np.empty_like(padded)
        tiles = cut(padded.shape[0], padded.shape[1], self.tile_px, self.manifest.overlap_px, alignment_px)
        # The tiles write to separate parts of the result.
        self._run_all((padded, tile, derained) for tile in tiles)
        return np.ascontiguousarray(derained[:height, :width])

    def close(self) -> None:
        self._pool.shutdown()

    def _run_all(self, jobs: Iterable[tuple[Picture, Tile, Picture]]) -> None:
        futures = [self._pool.submit(self._run_tile, *job) for job in jobs]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()

    def _run_tile(self, rainy: Picture, tile: Tile, derained: Picture) -> None:
        rows, columns = tile.rows, tile.columns
        window = rainy[rows.start : rows.stop, columns.start : columns.stop]
        fed = np.ascontiguousarray(window.transpose(2, 0, 1)[None], dtype=np.float32)  # (1, 3, H, W)
        fed /= 255
        options = ort.RunOptions()
        if self.provider is Provider.CPU:
            # Give the memory back: a service is idle more often than not.
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        (got,) = self._session.run(None, {self._input_name: fed}, options)
        inside = np.asarray(got)[
            0,
            :,
            rows.keep_start - rows.start : rows.keep_stop - rows.start,
            columns.keep_start - columns.start : columns.keep_stop - columns.start,
        ]
        levels = quantise(inside.transpose(1, 2, 0))
        derained[rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop] = levels


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
