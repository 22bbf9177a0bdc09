"""From a trained network to a model folder: ONNX, checked against PyTorch, and its manifest."""

import logging
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from derain.errors import DerainError
from derain.inference.context import context_windows
from derain.manifest import Estimator, InputContract, Manifest, ModelFile, Parity, describe_file
from training.estimator import DESCRIPTOR, RainEstimator, describe
from training.model import DerainModel
from training.network import Ensemble
from training.recipes import ROOT, Recipe
from training.recipes import describe as describe_recipe

OPSET = 20
_COSTED_PX = (320, 480)  # of larger images the estimator is a smaller part
MODEL_FILE = "model.onnx"
ESTIMATOR_FILE = "estimator.onnx"
PARITY_CELLS = ((1, 1), (16, 16), (30, 17), (50, 83))  # height, width, in cells of the alignment
PARITY_TOLERANCE = 1e-4  # a fortieth of one level of 255


class ParityError(DerainError):
    """The exported file does not compute what the network computes."""


@dataclass(frozen=True)
class Graph:
    """A network to export: what it takes and returns."""

    network: nn.Module
    alignment_px: int  # images have sides that are multiples of it
    takes: tuple[str, ...]  # an image first, float (N, 3, H, W); then descriptors, (N, DESCRIPTOR)
    returns: tuple[str, ...]

    def inputs(self, count: int, rows: int, columns: int) -> list[Tensor]:
        """Random ones, of so many images of so many cells."""
        image = torch.rand(count, 3, rows * self.alignment_px, columns * self.alignment_px)
        return [image, *(torch.randn(count, DESCRIPTOR) for _ in self.takes[1:])]


class _Describing(nn.Module):
    """An estimator as its file has it: rain descriptors, and log-odds of any rain."""

    def __init__(self, estimator: RainEstimator) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.estimator(image)
        return describe(raw), raw[:, -1]


def export(model: DerainModel, recipe: Recipe, commit: str, folder: Path, name: str) -> Manifest:
    """Writes the ONNX files to the folder; the manifest to go with them, with no evaluations yet."""
    network = model.shape.network
    derainer = derainer_graph(model.derainer)
    file, parity = _write(derainer, folder / MODEL_FILE)
    estimator = None
    if model.estimator is not None:
        graph = estimator_graph(model.estimator)
        described, agreed = _write(graph, folder / ESTIMATOR_FILE)
        parity = Parity(sizes=parity.sizes, max_difference=max(parity.max_difference, agreed.max_difference))
        estimator = Estimator(
            file=described,
            alignment_px=graph.alignment_px,
            context_px=model.shape.context_px,
            numbers=DESCRIPTOR,
            dry_below=recipe.dry_below,
        )
    return Manifest(
        name=name,
        created=datetime.now(UTC).replace(microsecond=0),
        file=file,
        input=InputContract(alignment_px=network.alignment_px),
        estimator=estimator,
        longest_px=recipe.longest_px,
        overlap_px=network.receptive_radius_px,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        kmac_per_pixel=round(kmac_per_pixel(model), 1),
        parity=parity,
        recipe=describe_recipe(recipe),
        commit=commit,
        evaluations=[],
    )


def derainer_graph(derainer: Ensemble) -> Graph:
    takes = ("rainy", "descriptor") if derainer.shape.conditioned else ("rainy",)
    return Graph(derainer, derainer.shape.alignment_px, takes, ("clean",))


def estimator_graph(estimator: RainEstimator) -> Graph:
    graph = _Describing(estimator)
    return Graph(graph, estimator.shape.alignment_px, ("image",), ("descriptor", "log_odds"))


def _write(graph: Graph, path: Path) -> tuple[ModelFile, Parity]:
    write_onnx(graph, path)
    return describe_file(path, OPSET), measure_parity(graph, path)


def write_onnx(graph: Graph, path: Path) -> None:
    """One self-contained file; batch, height and width are free."""
    batch = torch.export.Dim("batch", min=1)
    sides = (graph.alignment_px * torch.export.Dim(name, min=1) for name in ("rows", "columns"))
    image = {0: batch, **dict(zip((2, 3), sides, strict=True))}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision; we do not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own insides
        program = torch.onnx.export(
            graph.network.eval(),
            tuple(graph.inputs(2, 16, 24)),
            input_names=list(graph.takes),
            output_names=list(graph.returns),
            dynamic_shapes=(image, *({0: batch} for _ in graph.takes[1:])),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
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


@torch.inference_mode()
def measure_parity(graph: Graph, path: Path) -> Parity:
    """The largest difference between file and network; raises ParityError beyond the tolerance."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    torch.manual_seed(0)
    sizes, largest = [], 0.0
    for rows, columns in PARITY_CELLS:
        given = graph.inputs(2, rows, columns)
        sizes.append((rows * graph.alignment_px, columns * graph.alignment_px))
        feed = {name: values.numpy() for name, values in zip(names, given, strict=True)}
        expected = graph.network(*given)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for computed, wanted in zip(session.run(None, feed), expected, strict=True):
            difference = np.abs(np.asarray(computed) - wanted.numpy()).max()
            largest = float(np.maximum(largest, difference))  # NaN stays NaN
    if not largest <= PARITY_TOLERANCE:
        raise ParityError(
            f"{path} differs from the network by {largest:.2e}, allowed: {PARITY_TOLERANCE:.0e}"
        )
    return Parity(sizes=sizes, max_difference=largest)


@torch.inference_mode()
def kmac_per_pixel(model: DerainModel) -> float:
    """Thousands of multiply-adds that an input pixel of 480 x 320 costs in the convolutions.

    Of 1x1 convolutions of what is the same everywhere too, though onnxruntime is done with those at once.
    """
    height, width = _COSTED_PX
    total = _macs(model.derainer, torch.rand(1, 3, height, width), torch.rand(1, DESCRIPTOR))
    if model.estimator is not None:
        windows = context_windows(np.zeros((height, width, 3), np.uint8), model.shape.context_px)
        shape = windows[0].shape[:2]
        total += _macs(model.estimator, torch.rand(len(windows), 3, *shape))
    return total / (height * width) / 1000


def _macs(network: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds in the convolutions."""
    total = 0

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += module.weight.numel() * output.shape[0] * output.shape[-2] * output.shape[-1]

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network(*inputs)
    for hook in hooks:
        hook.remove()
    return total


def current_commit() -> str:
    """The commit of the code that runs, marked where it has been changed since; or "unknown"."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
