"""From a trained temporal network to `models/temporal`: ONNX, checked against PyTorch, with its manifest."""

from pathlib import Path
from typing import Any

import torch

from derain.files import write_atomically
from derain.video.choices import CELL_PX, CHANNELS
from derain.video.temporal import MANIFEST_NAME, TemporalManifest
from training.export.cost import multiply_adds
from training.export.onnx import Graph, write
from training.video.fusion import FusionNetwork

_FILE = "temporal.onnx"
_COSTED_PX = (360, 640)


def export_fusion(
    network: FusionNetwork, recipe: dict[str, Any], commit: str, folder: Path
) -> TemporalManifest:
    """Writes the ONNX file and a manifest without scores to the folder."""
    network.eval()
    graph = Graph(network, network.alignment, {"features": CHANNELS}, ("weights",))
    file, parity = write(graph, folder / _FILE)
    cells = torch.rand(1, CHANNELS, *(side // CELL_PX for side in _COSTED_PX))
    manifest = TemporalManifest(
        file=file,
        alignment=network.alignment,
        overlap=network.receptive_radius,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        kmac_per_pixel=round(multiply_adds(network, cells) / (_COSTED_PX[0] * _COSTED_PX[1]) / 1000, 1),
        parity=parity,
        recipe=recipe,
        commit=commit,
        scores={},
    )
    write_manifest(manifest, folder)
    return manifest


def write_manifest(manifest: TemporalManifest, folder: Path) -> None:
    write_atomically(folder / MANIFEST_NAME, (manifest.model_dump_json(indent=2) + "\n").encode())
