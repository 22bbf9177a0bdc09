"""Runs a stranger's deraining network from an ONNX file, fed as it was made to be fed.

What the graph says for certain is read from it: where the channels are, the type of the
numbers, a fixed size or batch. What it cannot say, its maker has to: the range of the values,
the order of the channels, and whether the picture or the rain comes back. A guess that the
first result contradicts is an error which says what to name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from derain.arrays import Image
from derain.errors import ModelError, ProviderError
from derain.inference.resources import usable_cores
from derain.inference.sessions import Provider, available_providers
from derain.inference.tiling import Span

Layout = Literal["NCHW", "NHWC"]
Range = Literal["0..1", "0..255", "signed"]
Returns = Literal["clean", "rain"]
Values = NDArray[np.float64]  # (..., height, width, 3)
Array = NDArray[np.generic]
Shape = tuple[int, ...]

RANGES: dict[Range, tuple[float, float]] = {"0..1": (0, 1), "0..255": (0, 255), "signed": (-1, 1)}

_TYPES: dict[str, np.dtype[np.generic]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(uint8)": np.dtype(np.uint8),
}
_ORT_NAMES = {
    Provider.CPU: ["CPUExecutionProvider"],
    Provider.CUDA: ["CUDAExecutionProvider", "CPUExecutionProvider"],
}
_FAILURES = tuple(
    value for value in vars(failures).values() if isinstance(value, type) and issubclass(value, Exception)
)


class ConventionError(ModelError):
    """A network that is fed otherwise than was said or guessed."""


@dataclass(frozen=True)
class Convention:
    """How a network wants to be fed and read; None is read from the graph, or else guessed."""

    value_range: Range | None = None  # guessed: 0..255 for whole numbers, else 0..1
    output_range: Range | None = None  # guessed: the same
    layout: Layout | None = None
    channels: Literal["RGB", "BGR"] = "RGB"
    returns: Returns | None = None  # guessed: the clean picture
    output: str | None = None  # its name, where there are several
    multiple_px: int = 1  # sides are padded to a multiple of it, by reflection, and cropped after


@dataclass(frozen=True)
class _Window:
    """What goes through the network at once: where it is read, and what of it is kept."""

    rows: Span
    columns: Span


class ForeignNetwork:
    """A network that is ready to derain; raises ModelError or ProviderError.

    A side that the graph fixes is cut into overlapping windows of that size, a quarter shared;
    a shorter one is padded. A fixed batch is filled with windows, the last one repeated.
    """

    def __init__(
        self,
        path: Path,
        convention: Convention,
        provider: Provider = Provider.AUTO,
        threads: int | None = None,
    ) -> None:
        self.path = path
        self.threads = threads or usable_cores()
        self.provider, self._session = _open(path, provider, self.threads)
        self._convention = convention
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(given.name for given in inputs)
            raise ConventionError(f"{path} takes {len(inputs)} inputs ({names}): a picture alone will not do")
        self._input = inputs[0].name
        shape: list[int | str | None] = list(inputs[0].shape)
        self._dtype = _dtype(path, inputs[0].type)
        self._layout = _layout(path, shape, convention.layout)
        batch, height, width = (shape[i] for i in ((0, 2, 3) if self._layout == "NCHW" else (0, 1, 2)))
        self._batch = batch if isinstance(batch, int) and batch > 0 else 1
        self._height_px, self._width_px = (
            side if isinstance(side, int) and side > 0 else None for side in (height, width)
        )
        self._range = _range(path, self._dtype, convention.value_range)
        self._outputs = [output.name for output in self._session.get_outputs()]
        if convention.output is not None and convention.output not in self._outputs:
            raise ConventionError(f"{path} has no output {convention.output!r}: {', '.join(self._outputs)}")
        self._returned_range = convention.output_range or self._range
        self._is_checked = False

    def __str__(self) -> str:
        """How it is fed, for people."""
        sides = [f"{side} px" if side else "free" for side in (self._height_px, self._width_px)]
        batch = f", batch {self._batch}" if self._batch > 1 else ""
        multiple = (
            f", padded to {self._convention.multiple_px} px" if self._convention.multiple_px > 1 else ""
        )
        return (
            f"{self.path.name}: {self._dtype} {self._layout} {self._convention.channels} in {self._range}, "
            f"height {sides[0]}, width {sides[1]}{batch}{multiple}; returns the "
            f"{'rain' if self._convention.returns == 'rain' else 'clean picture'}"
        )

    def derain(self, picture: Image) -> Image:
        """The picture without rain, uint8 RGB (height, width, 3), as it would be saved.

        Raises ModelError when the network fails, returns another size or what is no number.
        """
        height, width = picture.shape[:2]
        multiple_px = self._convention.multiple_px
        padded = np.pad(
            picture,
            [
                (0, _missing(height, self._height_px, multiple_px)),
                (0, _missing(width, self._width_px, multiple_px)),
                (0, 0),
            ],
            mode="reflect",
        )
        windows = [
            _Window(rows, columns)
            for rows in _spans(padded.shape[0], self._height_px)
            for columns in _spans(padded.shape[1], self._width_px)
        ]
        returned = np.empty(padded.shape, dtype=np.float64)
        for first in range(0, len(windows), self._batch):
            some = windows[first : first + self._batch]
            for window, values in zip(some, self._run(padded, some), strict=False):
                rows, columns = window.rows, window.columns
                returned[rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop] = values[
                    rows.keep_start - rows.start : rows.keep_stop - rows.start,
                    columns.keep_start - columns.start : columns.keep_stop - columns.start,
                ]
        returned = returned[:height, :width]
        if not np.isfinite(returned).all():
            share = 1 - np.isfinite(returned).mean()
            raise ModelError(
                f"{self.path} returns NaN or infinity for {share:.1%} of the values of a picture of "
                f"{width} x {height}"
            )
        if not self._is_checked:
            self._check_guesses(picture, returned)
            self._is_checked = True
        clean = picture - returned if self._convention.returns == "rain" else returned
        return np.rint(np.clip(clean, 0, 255)).astype(np.uint8)

    def _run(self, padded: Image, windows: Sequence[_Window]) -> Values:
        """What comes back of each window, (N, height, width, 3) RGB, in levels of 0 to 255."""
        cut = [padded[w.rows.start : w.rows.stop, w.columns.start : w.columns.stop] for w in windows]
        cut += [cut[-1]] * (self._batch - len(cut))
        given = self._feed(np.stack(cut))
        try:
            results = self._session.run(None, {self._input: given})
        except _FAILURES as error:
            raise ModelError(
                f"{self.path} fails on an input of {given.shape}; if it wants sides that are multiples of "
                f"some number, say so: --multiple 8, 16, ... (onnxruntime says: {_reason(error)})"
            ) from error
        arrays = {name: np.asarray(result) for name, result in zip(self._outputs, results, strict=True)}
        return self._read(self._choose(arrays, given.shape), given.shape)

    def _feed(self, pictures: Image) -> Array:
        """(N, height, width, 3) levels in the layout, order, range and type of the input."""
        if self._convention.channels == "BGR":
            pictures = pictures[..., ::-1]
        if self._layout == "NCHW":
            pictures = pictures.transpose(0, 3, 1, 2)
        lowest, highest = RANGES[self._range]
        if self._dtype == np.uint8:
            return np.ascontiguousarray(pictures)
        return np.ascontiguousarray(pictures / 255 * (highest - lowest) + lowest, dtype=self._dtype)

    def _choose(self, arrays: dict[str, Array], given: Shape) -> Array:
        """The output that was named, or the only one that can be a picture."""
        named = self._convention.output
        shapes = (_nchw(given, self._layout), _nhwc(given, self._layout))
        fitting = [name for name, array in arrays.items() if array.shape in shapes and named in (None, name)]
        if len(fitting) == 1:
            return arrays[fitting[0]]
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        if fitting:
            raise ConventionError(
                f"{self.path} returns {len(fitting)} pictures: {found}; name the one to score with --output"
            )
        advice = _advice(arrays[named or self._outputs[0]].shape, _nchw(given, self._layout))
        raise ConventionError(f"{self.path} returns {found} for an input of {given}: {advice}")

    def _read(self, array: Array, given: Shape) -> Values:
        is_nchw = array.shape == _nchw(given, self._layout)
        if is_nchw and array.shape == _nhwc(given, self._layout):  # three pixels wide
            is_nchw = self._layout == "NCHW"
        values = array.astype(np.float64)
        values = values.transpose(0, 2, 3, 1) if is_nchw else values
        if self._convention.channels == "BGR":
            values = values[..., ::-1]
        self._returned_range = self._convention.output_range or (
            "0..255" if np.issubdtype(array.dtype, np.integer) else self._range
        )
        lowest, highest = RANGES[self._returned_range]
        offset = 0 if self._convention.returns == "rain" else lowest
        return (values - offset) * (255 / (highest - lowest))

    def _check_guesses(self, picture: Image, returned: Values) -> None:
        """Raises ConventionError where what comes back is not what was taken for granted."""
        lowest, highest = RANGES[self._returned_range]
        offset = 0 if self._convention.returns == "rain" else lowest
        raw = returned / 255 * (highest - lowest) + offset
        low, high = (float(value) for value in np.percentile(raw, (1, 99)))
        found = f"{self.path} returns values from {low:.3g} to {high:.3g}"
        span = highest - lowest
        range_is_guessed = self._convention.value_range is None and self._convention.output_range is None
        if range_is_guessed and (high > highest + span or low < lowest - span):
            raise ConventionError(
                f"{found}, not {self._returned_range} as was guessed: name the range with --range 0..255 or "
                "--range signed (-1 to 1), or that of its output alone with --output-range"
            )
        likeness, strength = _likeness(picture, returned), float(returned.std() / max(1, picture.std()))
        if self._convention.returns == "rain":
            if likeness > 0.95 and strength > 0.7:
                raise ConventionError(
                    f"{found}, a picture much like its input and not the rain: leave out --returns rain"
                )
            return
        is_dark = abs(raw.mean()) < 0.25 * span  # as rain is: next to nothing in most places
        if self._convention.returns is None and is_dark and likeness < 0.6 and strength < 0.7:
            raise ConventionError(
                f"{found}, which looks like rain and not like a picture: --returns rain, or --returns clean "
                "if that is how bad it is"
            )
        if range_is_guessed and low < lowest - 0.25 * span:
            raise ConventionError(
                f"{found}, not {self._returned_range} as was guessed: try --range signed (-1 to 1)"
            )


def _open(path: Path, provider: Provider, threads: int) -> tuple[Provider, ort.InferenceSession]:
    """On CUDA where it was asked for, or where it starts; raises ModelError or ProviderError."""
    there = available_providers()
    if provider is Provider.AUTO and Provider.CUDA in there:
        try:
            return _open(path, Provider.CUDA, threads)
        except ProviderError:
            pass  # built for CUDA, on a machine without a GPU
    if provider is Provider.AUTO:
        provider = Provider.CPU
    if provider not in there or provider not in _ORT_NAMES:
        usable = ", ".join(name for name in _ORT_NAMES if name in there)
        raise ProviderError(f"a foreign network runs on {usable} here, not on {provider}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised; the rest is its maker's concern
    if provider is Provider.CUDA:
        ort.preload_dlls()
    try:
        session = ort.InferenceSession(path, options, providers=_ORT_NAMES[provider])
    except _FAILURES as error:
        raise ModelError(f"{path} cannot be loaded: {_reason(error)}") from error
    session.disable_fallback()
    if _ORT_NAMES[provider][0] not in session.get_providers():
        raise ProviderError(f"{provider} does not start here: is there a GPU and its driver?")
    return provider, session


def _dtype(path: Path, declared: str) -> np.dtype[np.generic]:
    if declared not in _TYPES:
        raise ConventionError(f"{path} takes {declared}, not one of {', '.join(_TYPES)}")
    return _TYPES[declared]


def _layout(path: Path, shape: list[int | str | None], asked: Layout | None) -> Layout:
    """Where the channels are: what was said, if the graph allows it, or where the graph has a 3."""
    if len(shape) != 4:
        raise ConventionError(
            f"{path} takes {_text(shape)}: it should have four sides, one of them 3 channels"
        )
    places: dict[Layout, int | str | None] = {"NCHW": shape[1], "NHWC": shape[3]}
    sure: list[Layout] = [layout for layout, channels in places.items() if channels == 3]
    possible: list[Layout] = [
        layout for layout, found in places.items() if not isinstance(found, int) or found == 3
    ]
    if not possible or (asked is None and not sure and len(possible) == 1):
        fixed = next(found for found in places.values() if isinstance(found, int))
        raise ConventionError(
            f"{path} takes {_text(shape)}, with {fixed} channels: only networks of 3 can be scored"
        )
    if asked is not None:
        if asked not in (sure or possible):
            raise ConventionError(f"{path} takes {_text(shape)}: it is not {asked}; leave out --layout")
        return asked
    if len(sure) != 1:
        raise ConventionError(
            f"{path} takes {_text(shape)}: say where the channels are, --layout NCHW or NHWC"
        )
    return sure[0]


def _range(path: Path, dtype: np.dtype[np.generic], asked: Range | None) -> Range:
    if dtype != np.uint8:
        return asked or "0..1"
    if asked not in (None, "0..255"):
        raise ConventionError(f"{path} takes whole numbers (uint8), which are 0..255 and not {asked}")
    return "0..255"


def _missing(length_px: int, fixed_px: int | None, multiple_px: int) -> int:
    """What padding has to add to a side."""
    return -length_px % multiple_px if fixed_px is None else max(0, fixed_px - length_px)


def _spans(length_px: int, size_px: int | None) -> list[Span]:
    """Windows of just this size along a side, evenly spread; they meet in the middle of what they share."""
    if size_px is None or length_px <= size_px:
        return [Span(0, length_px, 0, length_px)]
    shared_px = size_px // 4
    count = -(-(length_px - shared_px) // (size_px - shared_px))
    starts = [number * (length_px - size_px) // (count - 1) for number in range(count)]
    seams = [0, *((a + size_px + b) // 2 for a, b in pairwise(starts)), length_px]
    return [
        Span(start, start + size_px, first, last)
        for start, (first, last) in zip(starts, pairwise(seams), strict=True)
    ]


def _nchw(shape: Shape, layout: Layout) -> Shape:
    return shape if layout == "NCHW" else tuple(shape[i] for i in (0, 3, 1, 2))


def _nhwc(shape: Shape, layout: Layout) -> Shape:
    return shape if layout == "NHWC" else tuple(shape[i] for i in (0, 2, 3, 1))


def _advice(returned: Shape, given_nchw: Shape) -> str:
    """Why no picture of the same size came back, and what may help."""
    if len(returned) != 4 or 3 not in (returned[1], returned[3]):
        return "that is no picture of 3 channels"
    sides, given = (returned[2:] if returned[1] == 3 else returned[1:3]), given_nchw[2:]
    for multiple_px in (2, 4, 8, 16, 32, 64, 128):
        down = tuple(side // multiple_px * multiple_px for side in given)
        up = tuple(-(-side // multiple_px) * multiple_px for side in given)
        if sides in (down, up):
            return f"sides that are multiples would come back whole: --multiple {multiple_px}"
    return "a network that changes the size of a picture cannot be scored"


def _likeness(picture: Image, returned: Values) -> float:
    """The correlation of the two; 1 where one of them is flat, which says nothing."""
    a, b = picture - picture.mean(), returned - returned.mean()
    energy = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / energy if energy else 1.0


def _text(shape: list[int | str | None]) -> str:
    return f"({', '.join('?' if side is None else str(side) for side in shape)})"


def _reason(error: Exception) -> str:
    """What onnxruntime says, without the place in its own source."""
    return str(error).split("Status Message: ")[-1].strip().splitlines()[0][-200:]
