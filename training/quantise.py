"""Makes a model that computes another one in 8-bit integers: half of the file, and faster on CPUs.

    python -m training.quantise models/base --name base-int8
    python -m training.gate models/base-int8 models/base

Nothing is trained. Inner convolutions have weights of 8 bits for each channel, and activations of 8 bits
whose ranges are found on windows in procedural rain (quantise and dequantise around each, "QDQ": Jacob et
al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018).
The survey, what it tells, each network's first and last layer, and what enlarges pictures stay as they are:
what they see and say is a picture, or decides about all of it. The new model stands beside the given one and
is served like any other. Clean pictures lose some of their fidelity, so look at what the gate says before it
is promoted.
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from derain.arrays import FloatArray, Picture
from derain.cli import at_least, run_command
from derain.engine import network_inputs
from derain.errors import DerainError
from derain.manifest import InputContract, Quantised, load_manifest
from training.export import compare, computed_by, strip
from training.model_folder import make_of_another
from training.options import model_name
from training.recipes import base
from training.samples import SurveySamples

_WINDOWS = 48
_SEED = 500_009  # no recipe's
_EXACT_PARTS = frozenset(("survey", "know", "scale", "shift", "head", "tail", "enlarged"))
# Noise is nothing that the ranges were found for: what is caught is a file that computes something else.
_TOLERANCE = 0.25


class QuantiseError(DerainError):
    """A model that cannot be quantised."""


def quantised(source: Path, target: Path, windows: list[Picture], contract: InputContract) -> None:
    """Writes the ONNX file `target`: what `source` computes, its inner convolutions in 8-bit integers."""
    graph = onnx.load(source).graph
    names = [given.name for given in graph.input]
    with _silenced():
        quantize_static(
            source,
            target,
            _Windows(windows, contract, names),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[node.name for node in graph.node if _is_exact(node)],
            per_channel=True,
            reduce_range=True,  # AVX2 adds pairs of products in 16 bits, and would saturate
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"WeightSymmetric": True},
        )
    made = onnx.load(target)
    strip(made)
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, target)


@contextmanager
def _silenced() -> Iterator[None]:
    """It warns that the graph should have been pre-processed, which gained nothing."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_exact(node: onnx.NodeProto) -> bool:
    return any(_EXACT_PARTS & set(name.split(".")) for name in node.input)


class _Windows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Rainy windows as the network takes them, one after the other."""

    def __init__(self, windows: list[Picture], contract: InputContract, names: list[str]) -> None:
        self._given: Iterator[dict[str, FloatArray]] = (
            dict(zip(names, network_inputs(window, contract), strict=True)) for window in windows
        )

    def get_next(self) -> dict[str, FloatArray] | None:
        return next(self._given, None)


def draw_windows(count: int) -> list[Picture]:
    """Of the rain and the backgrounds that models are trained on, uint8 (224, 224, 3)."""
    samples = SurveySamples(replace(base(), seed=_SEED).of_survey())
    return [np.ascontiguousarray(samples[index][0].numpy().transpose(1, 2, 0)) for index in range(count)]


def quantise(folder: Path, name: str, windows: int = _WINDOWS) -> Path:
    """The quantised model's folder, beside the given one; raises QuantiseError, ModelError or ParityError."""
    source = load_manifest(folder)
    if source.quantised_from is not None:
        raise QuantiseError(f"{source.name} is quantised already: quantise {source.quantised_from.name}")

    def write(original: Path, path: Path) -> dict[str, Any]:
        quantised(original, path, draw_windows(windows), source.input)
        return {
            "parity": compare(path, computed_by(original), source.input, _TOLERANCE),
            "quantised_from": Quantised(name=source.name, sha256=source.file.sha256, windows=windows),
        }

    return make_of_another(folder, source, name, write)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    folder = quantise(options.model, options.name, options.windows)
    print(f"{folder} is ready. Is it good enough?\n  python -m training.gate {folder} {options.model}")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.quantise", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path, help="a model folder, such as models/base")
    parser.add_argument("--name", type=model_name, required=True, help="of the new model")
    parser.add_argument(
        "--windows",
        type=at_least(1),
        default=_WINDOWS,
        help="rainy pictures by which the ranges of activations are found (default: %(default)s)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
