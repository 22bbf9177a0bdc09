"""From a trained network to a model folder: ONNX, checked against PyTorch, and its manifest."""

import logging
import math
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from derain.engine import network_inputs
from derain.errors import DerainError
from derain.manifest import InputContract, Manifest, Parity, describe_file
from training.network import Network, input_contract
from training.recipes import ROOT, Recipe, describe

OPSET = 20
_SIDES = ("rows", "columns")
_COSTED_PX = (320, 480)  # of larger pictures an overview is a smaller part
MODEL_FILE = "model.onnx"
PARITY_CELLS = ((1, 1), (16, 16), (30, 17), (50, 83))  # height, width, in cells of the alignment
PARITY_TOLERANCE = 1e-4  # a fortieth of one level of 255


def _inputs_of(contract: InputContract) -> list[tuple[str, int, int]]:
    """Of each input, what its sides' names begin with, its channels, and what its sides are multiples of."""
    inputs = [("", 3, contract.alignment_px)]
    if (overview := contract.overview) is not None:
        inputs.append(("overview_", 3 * overview.windows, overview.alignment_px))
        if overview.is_placed:
            inputs.append(("", 2, 1))  # of as many cells as the first has
    return inputs


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
        input=input_contract(network),
        overlap_px=network.shape.receptive_radius_px,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        # As stored: what is the same everywhere the exporter computes once.
        kmac_per_pixel=round(kmac_of_graph(onnx.load(path), input_contract(network)), 1),
        parity=measure_parity(network, path),
        recipe=describe(recipe),
        commit=commit,
        evaluations=[],
    )


def write_onnx(network: Network, path: Path) -> None:
    """One self-contained file; batch, height and width are free."""
    contract = input_contract(network)
    batch = torch.export.Dim("batch", min=1)
    examples, shapes = [], []
    sides = {name: torch.export.Dim(name, min=1) for name in (*_SIDES, *(f"overview_{s}" for s in _SIDES))}
    for prefix, channels, alignment_px in _inputs_of(contract):
        height, width = (alignment_px * sides[prefix + name] for name in _SIDES)
        examples.append(torch.rand(2, channels, 16 * alignment_px, 24 * alignment_px))
        shapes.append({0: batch, 2: height, 3: width})
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision; we do not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own insides
        program = torch.onnx.export(
            network.eval(),
            tuple(examples),
            input_names=["rainy", "overview", "place"][: len(examples)],
            output_names=["clean"],
            dynamic_shapes=tuple(shapes),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    _pool(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _strip(message: Any) -> None:
    """Clears what the exporter says of a model's making, in place: it has this machine's paths in it.

    The message is an `onnx.ModelProto`, or any part of one. What is computed stays the same.
    """
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for part in value if isinstance(value, Sequence) else [value]:
                _strip(part)


_POOLS = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def _pool(model: onnx.ModelProto) -> None:
    """Means and maxima over whole pictures as poolings, in place.

    They are the same numbers, and onnxruntime has them within the blocked layout of its convolutions.
    """
    stored = {each.name: each for each in model.graph.initializer}
    for place, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type not in _POOLS or _axes(node, stored) != [2, 3] or _keeps_axes(node):
            continue
        pooled = f"{node.output[0]}_pooled"
        model.graph.node.remove(node)
        model.graph.node.insert(
            place, onnx.helper.make_node("Flatten", [pooled], node.output, f"{node.name}_flat", axis=1)
        )
        model.graph.node.insert(
            place, onnx.helper.make_node(_POOLS[node.op_type], node.input[:1], [pooled], node.name)
        )


def _axes(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> list[int]:
    if len(node.input) < 2 or node.input[1] not in stored:
        return []
    return [int(axis) for axis in onnx.numpy_helper.to_array(stored[node.input[1]])]


def _keeps_axes(node: onnx.NodeProto) -> bool:
    return all(given.i != 0 for given in node.attribute if given.name == "keepdims")


@torch.inference_mode()
def measure_parity(network: Network, path: Path) -> Parity:
    """The largest difference between file and network; raises ParityError beyond the tolerance."""
    contract = input_contract(network)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    rng = np.random.default_rng(0)
    sizes, largest = [], 0.0
    for rows, columns in PARITY_CELLS:
        given = [
            rng.random((2, channels, rows * cell_px, columns * cell_px), dtype=np.float32)
            for _, channels, cell_px in _inputs_of(contract)
        ]
        sizes.append((rows * contract.alignment_px, columns * contract.alignment_px))
        computed = np.asarray(session.run(None, dict(zip(names, given, strict=True)))[0])
        expected = network(*map(torch.from_numpy, given)).numpy()
        largest = float(np.maximum(largest, np.abs(computed - expected).max()))  # NaN stays NaN
    if not largest <= PARITY_TOLERANCE:
        raise ParityError(
            f"{path} differs from the network by {largest:.2e}, allowed: {PARITY_TOLERANCE:.0e}"
        )
    return Parity(sizes=sizes, max_difference=largest)


@torch.inference_mode()
def kmac_per_pixel(network: Network) -> float:
    """Thousands of multiply-adds that an input pixel of 480 x 320 costs in the convolutions."""
    height, width = _COSTED_PX
    total = 0

    def count(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += module.weight.numel() * output.shape[0] * output.shape[-2] * output.shape[-1]

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    blank = np.zeros((height, width, 3), np.uint8)
    network(*map(torch.from_numpy, network_inputs(blank, input_contract(network))))
    for hook in hooks:
        hook.remove()
    return total / (height * width) / 1000


def kmac_of_graph(model: onnx.ModelProto, contract: InputContract) -> float:
    """The same of a model as it is stored."""
    blank = np.zeros((*_COSTED_PX, 3), np.uint8)
    shaped = onnx.ModelProto()
    shaped.CopyFrom(model)
    for given, values in zip(shaped.graph.input, network_inputs(blank, contract), strict=True):
        for axis, length in zip(given.type.tensor_type.shape.dim, values.shape, strict=True):
            axis.dim_value = length
    inferred = onnx.shape_inference.infer_shapes(shaped, strict_mode=True, data_prop=True).graph
    inside = (*inferred.value_info, *inferred.output)
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in inside}
    weights = {stored.name: math.prod(stored.dims) for stored in model.graph.initializer}
    convolutions = (node for node in model.graph.node if node.op_type == "Conv")
    total = 0
    for node in convolutions:
        count, _channels, *sides = shapes[node.output[0]]
        total += weights[node.input[1]] * count * math.prod(sides)
    return float(total / math.prod(_COSTED_PX) / 1000)


def current_commit() -> str:
    """The commit of the code that runs, marked where it has been changed since; or "unknown"."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
