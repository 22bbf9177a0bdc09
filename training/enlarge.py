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
from training.export import Compute

FACTORS = (1.25, 1.5, 2.0)  # whole cells of a model become whole cells, in steps of no more than four

# A cubic spline sees two pixels to each side; so does one that makes smaller, of the larger ones.
_SPLINE_PX = 2 + 2
_CUBIC_A = -0.75  # PyTorch's and OpenCV's bicubic too


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
    for given in model.graph.input[: 1 if contract.overview is None else 2]:
        larger = f"{inner[given.name]}.spline"
        made.graph.node.append(_resize("cubic", given.name, larger, scales="enlarged.scales"))
        made.graph.node.append(
            helper.make_node("Clip", [larger, "enlarged.lowest", "enlarged.highest"], [inner[given.name]])
        )
    if contract.is_placed:
        place = model.graph.input[2].name
        made.graph.node.append(_resize("linear", place, inner[place], scales="enlarged.cells"))
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [inner.get(name, name) for name in node.input]
        copy.output[:] = [inner.get(name, name) for name in node.output]
        made.graph.node.append(copy)
    made.graph.node.extend(
        [
            helper.make_node("Sub", [inner[clean.name], inner[rainy.name]], ["enlarged.change"]),
            helper.make_node("Shape", [rainy.name], ["enlarged.sizes"]),
            _resize("cubic", "enlarged.change", "enlarged.made_smaller", sizes="enlarged.sizes"),
            helper.make_node("Add", [rainy.name, "enlarged.made_smaller"], [clean.name]),
        ]
    )
    made.graph.initializer.extend(_constants(factor))
    _name_sides(made, enlarged_contract(contract, factor))
    onnx.checker.check_model(made, full_check=True)
    return made


def enlarge_around(compute: Compute, factor: float) -> Compute:
    """The same by PyTorch, around what computes the given model: what the graph is checked against."""

    def around(*given: FloatArray) -> FloatArray:
        pictures = [torch.from_numpy(each) for each in given[:2]]
        larger = [_spline(each, _sides(each, factor)).clamp(0, 1) for each in pictures]
        places = [torch.from_numpy(each) for each in given[2:]]
        cells = Fraction(factor).numerator
        larger += [
            functional.interpolate(each, _sides(each, cells), mode="bilinear", align_corners=False)
            for each in places
        ]
        change = torch.from_numpy(compute(*(each.numpy() for each in larger))) - larger[0]
        return np.asarray((pictures[0] + _spline(change, _sides(pictures[0], 1))).numpy())

    return around


def _spline(pictures: torch.Tensor, sides: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(pictures, sides, mode="bicubic", align_corners=False)


def _sides(pictures: torch.Tensor, factor: float) -> tuple[int, int]:
    height, width = pictures.shape[2:]
    return round(height * factor), round(width * factor)


def _resize(mode: str, given: str, made: str, scales: str = "", sizes: str = "") -> onnx.NodeProto:
    """By pixels that are squares; beyond a border goes on what is at it."""
    return helper.make_node(
        "Resize",
        [given, "", scales, sizes] if sizes else [given, "", scales],
        [made],
        coordinate_transformation_mode="half_pixel",
        mode=mode,
        cubic_coeff_a=_CUBIC_A,
    )


def _constants(factor: float) -> list[onnx.TensorProto]:
    cells = Fraction(factor).numerator  # of a model's, in place of one of the enlarging one's
    numbers = {
        "scales": [1, 1, factor, factor],
        "cells": [1, 1, cells, cells],
        "lowest": 0,
        "highest": 1,
    }
    arrays = {name: np.array(values, dtype=np.float32) for name, values in numbers.items()}
    return [numpy_helper.from_array(array, f"enlarged.{name}") for name, array in arrays.items()]


def _name_sides(model: onnx.ModelProto, contract: InputContract) -> None:
    """Sides of pictures by what they are multiples of, as the exporter names them."""
    multiples = {"rainy": (contract.alignment_px, ""), "clean": (contract.alignment_px, "")}
    if contract.overview is not None:
        multiples["overview"] = (contract.overview.alignment_px, "overview_")
    for each in (*model.graph.input, *model.graph.output):
        if each.name in multiples:
            multiple, prefix = multiples[each.name]
            for axis, side in zip(each.type.tensor_type.shape.dim[2:], ("rows", "columns"), strict=True):
                axis.dim_param = f"{multiple}*{prefix}{side}"
