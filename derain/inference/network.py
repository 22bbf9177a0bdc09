"""The network of a model: tiles in, tiles without rain out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from derain.arrays import AnyImage, FloatArray, to_levels
from derain.errors import ModelError
from derain.inference.sessions import Provider, host_value, run_options, start_session
from derain.inference.tiling import Tile
from derain.manifest import Manifest


@dataclass(frozen=True)
class TileJob:
    """A tile to read from one image and to write to another of the same size."""

    rainy: AnyImage
    tile: Tile
    derained: AnyImage
    descriptor: FloatArray | None  # of the image's rain, (numbers,), where the network takes one


class Network:
    """Loaded and ready. Safe to call from several threads at once.

    Raises ModelError where its inputs are not what its manifest says, and what `start_session` raises.
    """

    def __init__(self, folder: Path, manifest: Manifest, provider: Provider, device: int | None) -> None:
        self._manifest = manifest
        self.provider, self._session = start_session(folder / manifest.file.name, provider, device)
        self.input_names = [each.name for each in self._session.get_inputs()]
        self.output_name = self._session.get_outputs()[0].name
        self._check_inputs(folder)

    @property
    def takes_several(self) -> bool:
        """Whether the batch axis is free: then its length is a name, or None."""
        return not any(isinstance(length, int) for length in self._session.get_inputs()[0].shape[:1])

    def run(self, jobs: Sequence[TileJob]) -> None:
        """One run, of tiles of one shape."""
        fed = np.empty((len(jobs), 3, *jobs[0].tile.shape), np.float32)  # (N, 3, H, W)
        for job, values in zip(jobs, fed, strict=True):
            values[:] = job.tile.of(job.rainy).transpose(2, 0, 1)
            values /= np.iinfo(job.rainy.dtype).max
        feed = {self.input_names[0]: fed}
        descriptors = [job.descriptor for job in jobs if job.descriptor is not None]
        if descriptors:
            feed[self.input_names[1]] = np.stack(descriptors)
        (got,) = self._session.run(None, feed)
        for job, values in zip(jobs, np.asarray(got), strict=True):
            levels = to_levels(job.tile.inside(values).transpose(1, 2, 0), job.rainy.dtype)
            job.derained[job.tile.rows.kept, job.tile.columns.kept] = levels

    def release_memory(self) -> None:
        """onnxruntime does so only at the end of a run: the smallest one that the network takes."""
        cell_px = self._manifest.input.alignment_px
        inputs: list[FloatArray] = [np.zeros((1, 3, cell_px, cell_px), np.float32)]
        if (estimator := self._manifest.estimator) is not None:
            inputs.append(np.zeros((1, estimator.numbers), np.float32))
        # A result of onnxruntime's own would be in the very memory that is to be given back.
        binding = self._session.io_binding()
        for name, values in zip(self.input_names, inputs, strict=True):
            binding.bind_cpu_input(name, values)
        binding.bind_ortvalue_output(self.output_name, host_value(np.empty_like(inputs[0])))
        self._session.run_with_iobinding(binding, run_options(self.provider, gives_memory_back=True))

    def _check_inputs(self, folder: Path) -> None:
        estimator = self._manifest.estimator
        expected = 1 if estimator is None else 2
        if len(self.input_names) != expected:
            raise ModelError(f"{folder} takes {len(self.input_names)} inputs, its manifest says {expected}")
        if estimator is not None:
            numbers = self._session.get_inputs()[1].shape[1]
            if numbers != estimator.numbers:
                text = f"a descriptor of {numbers} numbers, its manifest says {estimator.numbers}"
                raise ModelError(f"{folder} takes {text}")
