"""Around a model: pictures are enlarged before it, and what it takes off them is made smaller again.

Enlarged, a photograph is smoother, and streaks are longer and wider: networks take more of the rain off and
less of anything else (docs/models/README.md has the figures). The picture itself is never made smaller, so
what is not changed comes back as sharp as it was.
"""

import math
from fractions import Fraction

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

from derain.arrays import FloatArray
from derain.manifest import InputContract
from training.export import SIDES, Compute, inputs_of

FACTORS = (1.25, 1.5, 2.0)  # whole cells of a model become whole cells, in steps of no more than four

# A cubic spline sees two pixels to each side; so does one that makes smaller, of the larger ones.
_SPLINE_PX = 2 + 2
_SLOPE = -0.75  # of the spline one pixel away; PyTorch and OpenCV have the same


def enlarged_contract(contract: InputContract, factor: float) -> InputContract:
    """What the enlarging model takes: sides whose enlarged ones the given model takes."""
    cells = Fraction(factor).denominator
    overview = contract.overview and contract.overview.model_copy(
        update={"alignment_px": cells * contract.overview.alignment_px}
    )
    return contract.model_copy(update={"alignment_px": cells * contract.alignment_px, "overview": overview})


def enlarged_overlap_px(overlap_px: int, contract: InputContract, factor: float) -> int:
    """How far the enlarging model sees, around one that sees `overlap_px` and takes what the contract says.

    Where it is told of places, it knows those half a cell of its own from a tile's border less well.
    """
    own_cell_px = enlarged_contract(contract, factor).alignment_px
    return math.ceil(overlap_px / factor) + _SPLINE_PX + (own_cell_px // 2 if contract.is_placed else 0)


def enlarged(model: onnx.ModelProto, factor: float, contract: InputContract) -> onnx.ModelProto:
    """The graph that enlarges what it is given for the given one, which takes what the contract says."""
    (clean,) = model.graph.output
    rainy = model.graph.input[0]
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.value_info[:]
    inner = {given.name: f"enlarged.{given.name}" for given in (*model.graph.input, clean)}
    cells = Fraction(factor)
    for given in model.graph.input[:2]:
        larger = f"{inner[given.name]}.spline"
        channels = given.type.tensor_type.shape.dim[1].dim_value
        _add_spline(made.graph, given.name, larger, channels, cells.denominator, cells.numerator)
        made.graph.node.append(
            helper.make_node("Clip", [larger, "enlarged.lowest", "enlarged.highest"], [inner[given.name]])
        )
    if contract.is_placed:
        place = model.graph.input[2].name
        made.graph.node.append(
            helper.make_node(
                "Resize",
                [place, "", "enlarged.cells"],
                [inner[place]],
                coordinate_transformation_mode="half_pixel",
                mode="linear",
            )
        )
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [inner.get(name, name) for name in node.input]
        copy.output[:] = [inner.get(name, name) for name in node.output]
        made.graph.node.append(copy)
    change, smaller = "enlarged.change", "enlarged.made_smaller"
    made.graph.node.append(helper.make_node("Sub", [inner[clean.name], inner[rainy.name]], [change]))
    _add_spline(made.graph, change, smaller, 3, cells.numerator, cells.denominator)
    made.graph.node.append(helper.make_node("Add", [rainy.name, smaller], [clean.name]))
    made.graph.initializer.extend(_constants(factor))
    _name_sides(made, enlarged_contract(contract, factor))
    onnx.checker.check_model(made, full_check=True)
    return made


def enlarge_around(compute: Compute, factor: float) -> Compute:
    """The same by PyTorch, around what computes the given model: what the graph is checked against."""

    def around(*given: FloatArray) -> FloatArray:
        pictures = [torch.from_numpy(each) for each in given[:2]]
        larger = [_spline(each, _sides(each, factor)).clamp(0, 1) for each in pictures]
        cells = Fraction(factor).numerator
        larger += [
            functional.interpolate(torch.from_numpy(each), scale_factor=float(cells), mode="bilinear")
            for each in given[2:]
        ]
        change = torch.from_numpy(compute(*(each.numpy() for each in larger))) - larger[0]
        return np.asarray((pictures[0] + _spline(change, _sides(pictures[0], 1))).numpy())

    return around


def _spline(pictures: torch.Tensor, sides: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(pictures, sides, mode="bicubic", align_corners=False)


def _sides(pictures: torch.Tensor, factor: float) -> tuple[int, int]:
    height, width = pictures.shape[2:]
    return round(height * factor), round(width * factor)


def _add_spline(graph: onnx.GraphProto, given: str, made: str, channels: int, old: int, new: int) -> None:
    """Adds what makes `new` pixels of each `old`, both ways, by a cubic spline (Keys 1981).

    Beyond a border goes on what is at it. A convolution makes all pixels of a square at once: onnxruntime's
    own resizing takes longer on a CPU than the networks do.
    """
    weights, first = _spline_weights(old, new)
    width = weights.shape[1]
    squares = np.einsum("ay,bx->abyx", weights, weights).reshape(-1, 1, width, width)
    kernel = np.tile(squares, (channels, 1, 1, 1)).astype(np.float32)
    pads = np.array([0, 0, first, first, 0, 0, *[width - old - first] * 2], dtype=np.int64)
    for name, array in (("kernel", kernel), ("pads", pads)):
        graph.initializer.append(numpy_helper.from_array(array, f"{made}.{name}"))
    padded, together = f"{made}.padded", f"{made}.squares"
    graph.node.extend(
        [
            helper.make_node("Pad", [given, f"{made}.pads"], [padded], mode="edge"),
            helper.make_node(
                "Conv", [padded, f"{made}.kernel"], [together], strides=[old, old], group=channels
            ),
            helper.make_node("DepthToSpace", [together], [made], blocksize=new, mode="CRD"),
        ]
    )


def _spline_weights(old: int, new: int) -> tuple[FloatArray, int]:
    """What each of the `new` pixels is of those around, (new, width), and how many of them lie before."""
    middles = (np.arange(new) + 0.5) * old / new - 0.5
    nearest = np.floor(middles).astype(int)
    first, last = int(nearest.min()) - 1, int(nearest.max()) + 2
    away = np.abs(np.arange(first, last + 1) - middles[:, None])
    near = (_SLOPE + 2) * away**3 - (_SLOPE + 3) * away**2 + 1
    far = _SLOPE * (away**3 - 5 * away**2 + 8 * away - 4)
    return np.asarray(np.where(away <= 1, near, np.where(away < 2, far, 0))), -first


def _constants(factor: float) -> list[onnx.TensorProto]:
    cells = Fraction(factor).numerator  # of a model's, in place of one of the enlarging one's
    numbers = {"cells": [1, 1, cells, cells], "lowest": 0, "highest": 1}
    arrays = {name: np.array(values, dtype=np.float32) for name, values in numbers.items()}
    return [numpy_helper.from_array(array, f"enlarged.{name}") for name, array in arrays.items()]


def _name_sides(model: onnx.ModelProto, contract: InputContract) -> None:
    """Sides of pictures by what they are multiples of, as the exporter names them."""
    rainy, *others = inputs_of(contract)
    described = zip((*model.graph.output, *model.graph.input), (rainy, rainy, *others), strict=True)
    for each, (prefix, _, multiple) in described:
        if multiple > 1:
            for axis, side in zip(each.type.tensor_type.shape.dim[2:], SIDES, strict=True):
                axis.dim_param = f"{multiple}*{prefix}{side}"
