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
from numpy.typing import NDArray

from derain.arrays import AnyPicture, FloatArray, SamePicture, channels_first, padded, quantise_to
from derain.batching import Batcher, NoteProgress
from derain.context import context_windows
from derain.derained import Derained
from derain.errors import GivenUpError, ModelError, ProviderError
from derain.manifest import Estimator, load_manifest
from derain.places import shipped
from derain.scales import add_change, reduced, scales
from derain.tiling import Tile, cut

try:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as failures
except ModuleNotFoundError as error:
    wanted = "pip install 'derain[cpu]', or 'derain[gpu]' for NVIDIA GPUs"
    raise ModuleNotFoundError(f"onnxruntime is not installed: {wanted}", name="onnxruntime") from error

logger = logging.getLogger(__name__)

DEFAULT_MODEL = shipped("models") / "base"

_MOST_THREADS = 16

# Larger tiles waste less on overlap and take more memory. Tiles that fill all threads may have this
# share of it; with 2 GB a core that is 2.4 million pixels a thread, a picture of 1920 x 1080 in one.
_BYTES_PER_PIXEL = 210  # while a tile is computed, at 32 channels of half resolution: measured
_SHARE_OF_MEMORY = 0.25
_MOST_TILE_PIXELS = 8 * 1024**2  # beyond, less than a tenth is left to gain
_GPU_TILE_PIXELS = 2 * 1024**2  # a GPU's memory is its own, and smaller
_ASSUMED_MEMORY = 4 * 1024**3  # where the system does not say

# Of a whole picture, from its file to that of the result, besides the tiles in work.
_BYTES_PER_WHOLE_PIXEL = 32
_SHARE_OF_WHOLE = 0.5
_MOST_PIXELS = 2**30  # OpenCV decodes no more

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
    descriptor: FloatArray | None  # of the picture's rain, (numbers,), where the network takes one


class Engine:
    """A model, loaded and ready. Safe to call from several threads at once.

    Up to `tile_batch` tiles of one shape go into one run, of whichever pictures, as long as they have no
    more pixels together than the largest tile; `note_run` is told how many did, by the thread that ran
    them. None: 1 on the CPU, 8 elsewhere. A network that takes one picture at a time is given no more.

    `device` is the number of the GPU to run on; where several providers might do, it asks for CUDA.

    Raises ModelError for a folder that is no sound model, and ProviderError where the
    provider or device asked for is not there: it never falls back to another one unasked.
    """

    def __init__(
        self,
        folder: Path = DEFAULT_MODEL,
        provider: Provider = Provider.AUTO,
        threads: int | None = None,
        tile_pixels: int | None = None,
        tile_batch: int | None = None,
        note_run: Callable[[int], object] = lambda tiles: None,
        device: int | None = None,
    ) -> None:
        self.manifest = load_manifest(folder)
        self.provider, self._session = _start(folder / self.manifest.file.name, provider, device)
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
        self._estimator: _RainEstimator | None = None
        if (estimator := self.manifest.estimator) is not None:
            self._estimator = _RainEstimator(folder, estimator, self.provider, device)
        self._run = partial(_run, self._session, self.input_names, note_run)
        self._batcher = Batcher(self._run, self.threads, self.tile_batch, tile_pixels)
        self._lock = Lock()
        self._in_work = 0  # pictures
        self._release: Timer | None = None
        if self.provider is Provider.CPU:
            # What onnxruntime takes first it never gives back, so let that be little.
            self._release_memory()

    def derain(self, picture: SamePicture) -> SamePicture:
        """As `examine`, whether rain was found or not."""
        return self.examine(picture).picture

    def examine(
        self,
        picture: SamePicture,
        force: bool = False,
        given_up: Event | None = None,
        note_progress: NoteProgress = lambda done, tiles: None,
        tile_pixels: int | None = None,
    ) -> Derained[SamePicture]:
        """The picture without rain, RGB (height, width, 3), any size from 1 x 1 up, and whether it had any.

        It is of uint8 or of uint16, and comes back in as many bits. One that looks dry to the model's
        estimator comes back as it is, at every scale, unless it is to be derained by `force`.
        Raises GivenUpError between two tiles once `given_up` is set. One of no more than 64 x 64 pixels is
        derained by the calling thread. `note_progress` is told how many tiles are done and how many there
        are at all scales, from 0 on. Tiles of no more than `tile_pixels` are told of more often.
        """
        is_known = picture.dtype in (np.uint8, np.uint16)
        if not is_known or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise ValueError(
                f"a picture is uint8 or uint16 (height, width, 3), got {picture.dtype} {picture.shape}"
            )
        derained, rain_found = picture, False
        evidence: list[float] = []  # at each scale
        with self._share_of_threads() as threads:
            coarse_to_fine = [
                _Scale(scale, self._tiles(picture, scale, threads, tile_pixels))
                for scale in scales(max(picture.shape), self.manifest.longest_px)
            ]
            progress = _Progress(sum(len(scale.tiles) for scale in coarse_to_fine), note_progress)
            progress.note(0)
            for scale in coarse_to_fine:
                if given_up is not None and given_up.is_set():
                    raise GivenUpError("nobody waits for the picture any more")
                seen = reduced(derained, scale.factor)
                rain = self._estimator.estimate(seen) if self._estimator is not None else None
                if rain is not None:
                    evidence.append(rain.evidence)
                if rain is not None and rain.is_none and not force:
                    progress.finish(len(scale.tiles))
                    continue
                rain_found = True
                descriptor = None if rain is None else rain.descriptor
                clean = self._derain(seen, scale.tiles, descriptor, given_up, progress)
                derained = clean if scale.factor == 1 else add_change(derained, seen, clean, scale.factor)
        return Derained(derained, rain_found, max(evidence, default=None))

    def rain_evidence(self, picture: AnyPicture) -> float | None:
        """How far the log-odds of rain are above those of a dry image, at the scale where they are highest.

        RGB, uint8 or uint16 (height, width, 3); None for a model that cannot tell.
        """
        if self._estimator is None:
            return None
        factors = scales(max(picture.shape), self.manifest.longest_px)
        return max(self._estimator.estimate(reduced(picture, factor)).evidence for factor in factors)

    def _tiles(self, picture: AnyPicture, scale: int, threads: int, tile_pixels: int | None) -> list[Tile]:
        alignment_px = self.manifest.input.alignment_px
        rows, columns = (-(-side // (scale * alignment_px)) * alignment_px for side in picture.shape[:2])
        most = min(self.tile_pixels, tile_pixels or self.tile_pixels)
        return cut(rows, columns, threads, most, self.manifest.overlap_px, alignment_px)

    def _derain(
        self,
        picture: SamePicture,
        tiles: Sequence[Tile],
        descriptor: FloatArray | None,
        given_up: Event | None,
        progress: "_Progress",
    ) -> SamePicture:
        """At its own scale."""
        height, width = picture.shape[:2]
        whole: NDArray[Any] = padded(picture, self.manifest.input.alignment_px)
        derained: NDArray[Any] = np.empty_like(whole)
        # The tiles write to separate parts of the result.
        jobs = [_Job(whole, tile, derained, descriptor) for tile in tiles]
        if len(jobs) == self.tile_batch == 1 and whole.shape[0] * whole.shape[1] <= _SMALL_PIXELS:
            self._run(jobs)
            progress.note(1)
        else:
            self._batcher.run_all(jobs, tiles[0].shape, given_up, progress.note)
        progress.finish(len(tiles))
        return cast(SamePicture, np.ascontiguousarray(derained[:height, :width]))

    def close(self) -> None:
        with self._lock:
            self._cancel_release()
        self._batcher.close()

    def _check_inputs(self, folder: Path) -> None:
        expected = 1 if self.manifest.estimator is None else 2
        if len(self.input_names) != expected:
            raise ModelError(f"{folder} takes {len(self.input_names)} inputs, its manifest says {expected}")
        if (estimator := self.manifest.estimator) is not None:
            numbers = self._session.get_inputs()[1].shape[1]
            if numbers != estimator.numbers:
                text = f"a descriptor of {numbers} numbers, its manifest says {estimator.numbers}"
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
        cell_px = self.manifest.input.alignment_px
        inputs: list[FloatArray] = [np.zeros((1, 3, cell_px, cell_px), np.float32)]
        if (estimator := self.manifest.estimator) is not None:
            inputs.append(np.zeros((1, estimator.numbers), np.float32))
        # A result of onnxruntime's own would be in the very memory that is to be given back.
        binding = self._session.io_binding()
        for name, values in zip(self.input_names, inputs, strict=True):
            binding.bind_cpu_input(name, values)
        result = ort.OrtValue.ortvalue_from_numpy(np.empty_like(inputs[0]))
        binding.bind_ortvalue_output(self.output_name, result)
        self._session.run_with_iobinding(binding, options)


@dataclass(frozen=True)
class _Scale:
    """A scale that a picture is derained at."""

    factor: int  # what the picture is reduced by
    tiles: list[Tile]


class _Progress:
    """Of the tiles of all scales."""

    def __init__(self, tiles: int, note: NoteProgress) -> None:
        self._before = 0  # tiles of the scales that are done
        self._told = -1
        self._tiles = tiles
        self._note = note

    def note(self, done: int, _of: int = 0) -> None:
        """How many tiles of the scale in work are done."""
        done += self._before
        if done != self._told:
            self._told = done
            self._note(done, self._tiles)

    def finish(self, tiles: int) -> None:
        """A scale of so many tiles is done, or has none to do."""
        self._before += tiles
        self.note(0)


@dataclass(frozen=True)
class _Rain:
    """What the estimator finds in a picture."""

    descriptor: FloatArray  # (numbers,)
    evidence: float  # log-odds above those of a dry image

    @property
    def is_none(self) -> bool:
        return self.evidence < 0


class _RainEstimator:
    """The estimator of a model, loaded and ready. Safe to call from several threads at once."""

    def __init__(self, folder: Path, contract: Estimator, provider: Provider, device: int | None) -> None:
        self._contract = contract
        path = folder / contract.file.name
        self._session = _open(path, provider, device)
        self._name = self._session.get_inputs()[0].name
        shapes = [each.shape for each in self._session.get_outputs()]
        if len(shapes) != 2 or shapes[0][1:] != [contract.numbers] or len(shapes[1]) != 1:
            raise ModelError(
                f"{path} returns {shapes}: not (N, {contract.numbers}) and (N,), as its manifest says"
            )
        self._options = ort.RunOptions()
        if provider is Provider.CPU:
            # It runs once where the network runs many times: its memory is better given back.
            self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def estimate(self, picture: AnyPicture) -> _Rain:
        alignment_px = self._contract.alignment_px
        windows = context_windows(picture, self._contract.context_px)
        fed = np.stack([channels_first(padded(window, alignment_px)) for window in windows])
        got = self._session.run(None, {self._name: fed}, self._options)
        descriptors, log_odds = (np.asarray(each) for each in got)
        return _Rain(descriptors.mean(axis=0), float(log_odds.mean()) - self._contract.dry_below)


def _run(
    session: ort.InferenceSession,
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
    descriptors = [job.descriptor for job in jobs if job.descriptor is not None]
    if descriptors:
        feed[names[1]] = np.stack(descriptors)
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


def affordable_pixels() -> int:
    """The largest picture that fits this machine's memory, one at a time."""
    return min(int(usable_memory() * _SHARE_OF_WHOLE) // _BYTES_PER_WHOLE_PIXEL, _MOST_PIXELS)


def _start(path: Path, provider: Provider, device: int | None) -> tuple[Provider, ort.InferenceSession]:
    """A session on the provider asked for, or on the best there is."""
    there = available_providers()
    if device is not None:
        if provider is Provider.CPU:
            raise ProviderError(f"device {device} was asked for, but the CPU has none: GPUs have numbers")
        provider = Provider.CUDA if provider is Provider.AUTO else provider
    if provider is not Provider.AUTO:
        if provider not in there:
            raise ProviderError(
                f"{provider} was asked for, but the installed onnxruntime has only: {', '.join(there)}"
            )
        return provider, _open(path, provider, device)
    if Provider.CUDA in there:
        # Built for CUDA, but that may be a machine without a GPU.
        try:
            return Provider.CUDA, _open(path, Provider.CUDA)
        except (ModelError, ProviderError) as error:
            logger.warning("running on the CPU: %s", error)
    return Provider.CPU, _open(path, Provider.CPU)


def _provider_options(name: Provider, device: int | None) -> dict[str, str]:
    """For onnxruntime; a device is a GPU's, whatever runs on it."""
    chosen = {} if device is None or name is Provider.CPU else {"device_id": str(device)}
    return _GPU_OPTIONS.get(name, {}) | chosen


def _open(path: Path, provider: Provider, device: int | None = None) -> ort.InferenceSession:
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
    providers = [(_ORT_NAMES[name], _provider_options(name, device)) for name in names]
    try:
        session = ort.InferenceSession(path, options, providers=providers)
    except _LOAD_ERRORS as error:
        if device is not None:
            raise ProviderError(f"{provider} does not start on device {device}: {error}") from error
        raise ModelError(f"{path} cannot be loaded: {error}") from error
    session.disable_fallback()  # or a GPU that fails would make it quietly start anew on the CPU
    if _ORT_NAMES[provider] not in session.get_providers():
        raise ProviderError(f"{provider} does not start here: is there a GPU and its driver?")
    return session
