"""A network to compare with: 3x3 convolutions and ReLUs in a row, of known cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

_OPSET = 20


@dataclass(frozen=True)
class PlainNetwork:
    """3 colours, so many layers of so many channels, 3 colours; on cells of `cell_px` x `cell_px`."""

    channels: int
    layers: int  # all convolutions, the first and the last included
    cell_px: int

    @property
    def widths(self) -> list[int]:
        """Channels before, between and after the convolutions."""
        outer = 3 * self.cell_px**2
        return [outer, *[self.channels] * (self.layers - 1), outer]

    @property
    def kmac_per_pixel(self) -> float:
        inner = (self.layers - 2) * self.channels**2
        outer = 2 * 3 * self.cell_px**2 * self.channels
        return 9 * (inner + outer) / self.cell_px**2 / 1000

    def __str__(self) -> str:
        scale = "full" if self.cell_px == 1 else f"1/{self.cell_px}"
        return f"plain, {self.layers} x {self.channels} channels at {scale} resolution"


# As near to 50 thousand multiply-adds as whole layers of 32 channels, or 64, come from below.
FULL_RESOLUTION = PlainNetwork(channels=32, layers=7, cell_px=1)
HALF_RESOLUTION = PlainNetwork(channels=64, layers=7, cell_px=2)


def write_plain(network: PlainNetwork, path: Path) -> None:
    """The network as an ONNX file, its weights random; float32 (N, 3, H, W) in and out."""
    rng = np.random.default_rng(0)
    blocks: dict[str, Any] = {"blocksize": network.cell_px}
    nodes = [helper.make_node("SpaceToDepth", ["rainy"], ["x0"], **blocks)] if network.cell_px > 1 else []
    weights: list[TensorProto] = []
    into = "x0" if nodes else "rainy"
    for number, (inputs, outputs) in enumerate(zip(network.widths, network.widths[1:], strict=False), 1):
        values = rng.normal(0, np.sqrt(2 / (9 * inputs)), (outputs, inputs, 3, 3))
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{number}"))
        weights.append(numpy_helper.from_array(np.zeros(outputs, np.float32), f"b{number}"))
        last = number == network.layers
        nodes += _layer(number, into, with_relu=not last)
        into = f"x{number}"
    if network.cell_px > 1:
        nodes.append(helper.make_node("DepthToSpace", [into], ["clean"], **blocks))
        into = "clean"
    shape: list[str | int | None] = ["N", 3, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("rainy", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(into, TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _layer(number: int, into: str, with_relu: bool) -> list[NodeProto]:
    """From `into` to the name x<number>, same size."""
    same: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    out = f"x{number}"
    conv_out = f"{out}_sum" if with_relu else out
    conv = helper.make_node("Conv", [into, f"w{number}", f"b{number}"], [conv_out], **same)
    return [conv, helper.make_node("Relu", [conv_out], [out])] if with_relu else [conv]
