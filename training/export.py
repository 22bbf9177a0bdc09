"""From a trained network to a model folder: ONNX, checked against PyTorch, and its manifest."""

import logging
import subprocess
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from derain.arrays import FloatArray
from derain.errors import DerainError
from derain.manifest import InputContract, Manifest, Parity, describe_file
from training.network import Network
from training.recipes import ROOT, Recipe, describe

OPSET = 20
MODEL_FILE = "model.onnx"
PARITY_CELLS = ((1, 1), (16, 16), (30, 17), (50, 83))  # height, width, in cells of the alignment
PARITY_TOLERANCE = 1e-4  # a fortieth of one level of 255

Compute = Callable[[FloatArray], FloatArray]  # rainy to clean pictures, (N, 3, H, W) in [0, 1]


class ParityError(DerainError):
    """The exported file does not compute what the network computes."""


def export(network: Network, recipe: Recipe, commit: str, folder: Path, name: str) -> Manifest:
    """Writes `model.onnx` to the folder; the manifest to go with it, with no evaluations yet."""
    path = folder / MODEL_FILE
    write_onnx(network, path)
    return Manifest(
        name=name,
        created=datetime.now(UTC).replace(microsecond=0),
        file=describe_file(path, OPSET),
        input=InputContract(alignment_px=network.shape.alignment_px),
        overlap_px=network.shape.receptive_radius_px,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        kmac_per_pixel=round(kmac_per_pixel(network), 1),
        parity=measure_parity(network, path),
        recipe=describe(recipe),
        commit=commit,
        evaluations=[],
    )


def write_onnx(network: Network, path: Path) -> None:
    """One self-contained file; batch, height and width are free."""
    alignment_px = network.shape.alignment_px
    height, width = (alignment_px * torch.export.Dim(name, min=1) for name in ("rows", "columns"))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision; we do not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own insides
        program = torch.onnx.export(
            network.eval(),
            (torch.rand(2, 3, 16 * alignment_px, 24 * alignment_px),),
            input_names=["rainy"],
            output_names=["clean"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1), 2: height, 3: width},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    strip(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def strip(message: Any) -> None:
    """Clears what the exporter says of a model's making, in place: it has this machine's paths in it.

    The message is an `onnx.ModelProto`, or any part of one. What is computed stays the same.
    """
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for part in value if isinstance(value, Sequence) else [value]:
                strip(part)


@torch.inference_mode()
def measure_parity(network: Network, path: Path) -> Parity:
    """The largest difference between file and network; raises ParityError beyond the tolerance."""
    return compare(path, lambda rainy: network(torch.from_numpy(rainy)).numpy(), network.shape.alignment_px)


def compare(path: Path, expected: Compute, cell_px: int) -> Parity:
    """The largest difference between a file and what it is to compute; raises ParityError."""
    compute = computed_by(path)
    sizes = [(rows * cell_px, columns * cell_px) for rows, columns in PARITY_CELLS]
    rng = np.random.default_rng(0)
    largest = 0.0
    for height, width in sizes:
        rainy = rng.random((2, 3, height, width), dtype=np.float32)
        # NaN stays NaN
        largest = float(np.maximum(largest, np.abs(compute(rainy) - expected(rainy)).max()))
    if not largest <= PARITY_TOLERANCE:
        raise ParityError(
            f"{path} differs from the network by {largest:.2e}, allowed: {PARITY_TOLERANCE:.0e}"
        )
    return Parity(sizes=sizes, max_difference=largest)


def computed_by(path: Path) -> Compute:
    """What an ONNX file of ours computes, on the CPU."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda rainy: np.asarray(session.run(None, {name: rainy})[0])


@torch.inference_mode()
def kmac_per_pixel(network: Network) -> float:
    """Thousands of multiply-adds that an input pixel costs in the convolutions."""
    side = 16 * network.shape.alignment_px
    total = 0

    def count(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += module.weight.numel() * output.shape[-2] * output.shape[-1]

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return total / side**2 / 1000


def current_commit() -> str:
    """The commit of the code that runs, marked where it has been changed since; or "unknown"."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
