"""From a trained network to a model folder: ONNX, checked against PyTorch, and its manifest."""

import logging
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
from derain.manifest import Estimator, InputContract, Manifest, ModelFile, Parity, describe_file
from training.export.cost import kmac_per_pixel
from training.model.derain_model import DerainModel
from training.model.rain_estimator import RainEstimator, describe
from training.model.unet import Ensemble
from training.rain.descriptor import DESCRIPTOR
from training.recipes import Recipe
from training.recipes import describe as describe_recipe

OPSET = 20
MODEL_FILE = "model.onnx"
ESTIMATOR_FILE = "estimator.onnx"
PARITY_CELLS = ((1, 1), (16, 16), (30, 17), (50, 83))  # height, width, in cells of the alignment
PARITY_TOLERANCE = 1e-4  # a fortieth of one level of 255


class ParityError(DerainError):
    """The exported file does not compute what the network computes."""


@dataclass(frozen=True)
class Graph:
    """A network to export: what it takes and returns, by the names that its file has for it."""

    network: nn.Module
    alignment_px: int  # images have sides that are multiples of it
    images: dict[str, int]  # with their channels: float (N, channels, H, W) each
    returns: tuple[str, ...]
    descriptors: tuple[str, ...] = ()  # taken after the images, (N, DESCRIPTOR) each

    @property
    def takes(self) -> list[str]:
        return [*self.images, *self.descriptors]

    def inputs(self, count: int, rows: int, columns: int) -> list[Tensor]:
        """Random ones, of so many images of so many cells."""
        sides = rows * self.alignment_px, columns * self.alignment_px
        images = [torch.rand(count, channels, *sides) for channels in self.images.values()]
        return [*images, *(torch.randn(count, DESCRIPTOR) for _ in self.descriptors)]


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
    file, parity = write(derainer, folder / MODEL_FILE)
    estimator = None
    if model.estimator is not None:
        graph = estimator_graph(model.estimator)
        described, agreed = write(graph, folder / ESTIMATOR_FILE)
        parity = Parity(sizes=parity.sizes, max_difference=max(parity.max_difference, agreed.max_difference))
        estimator = Estimator(
            file=described,
            alignment_px=graph.alignment_px,
            context_px=model.shape.context_px,
            numbers=DESCRIPTOR,
            dry_below=recipe.inference.dry_below,
        )
    return Manifest(
        name=name,
        created=datetime.now(UTC).replace(microsecond=0),
        file=file,
        input=InputContract(alignment_px=network.alignment_px),
        estimator=estimator,
        longest_px=recipe.inference.longest_px,
        overlap_px=network.receptive_radius_px,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        kmac_per_pixel=round(kmac_per_pixel(model), 1),
        parity=parity,
        recipe=describe_recipe(recipe),
        commit=commit,
        evaluations=[],
    )


def derainer_graph(derainer: Ensemble) -> Graph:
    descriptors = ("descriptor",) if derainer.shape.conditioned else ()
    return Graph(derainer, derainer.shape.alignment_px, {"rainy": 3}, ("clean",), descriptors)


def estimator_graph(estimator: RainEstimator) -> Graph:
    graph = _Describing(estimator)
    return Graph(graph, estimator.shape.alignment_px, {"image": 3}, ("descriptor", "log_odds"))


def write(graph: Graph, path: Path) -> tuple[ModelFile, Parity]:
    """Writes the file, and checks it against the network; raises ParityError where they differ."""
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
            input_names=graph.takes,
            output_names=list(graph.returns),
            dynamic_shapes=(*(image for _ in graph.images), *({0: batch} for _ in graph.descriptors)),
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
