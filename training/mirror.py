"""Makes a model that runs another one on a picture and on its mirror images, and returns the mean.

    python -m training.mirror models/base --name best
    python -m training.mirror models/base --name best --enlarge 1.25

Nothing is trained. In a mirror rain is still rain, and a photograph a photograph; the mistakes of a network
differ from view to view, so the mean has less of them. Of an enlarged picture (training/enlarge.py) it takes
more of the rain off, and less of anything else. The new model stands beside the given one and is served like
any other. It costs as many times as much as it has views, and the square of what it enlarges by, which memory
grows by as well.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from derain.arrays import FloatArray
from derain.cli import at_least, run_command
from derain.errors import DerainError
from derain.manifest import InputContract, Manifest, Mirrored, Views, load_manifest
from training.enlarge import FACTORS, enlarge_around, enlarged, enlarged_contract, enlarged_overlap_px
from training.export import PARITY_CELLS, Compute, compare, computed_by, kmac_of_graph
from training.model_folder import make_of_another
from training.options import model_name

Axes = tuple[int, ...]

_ROWS, _COLUMNS = 2, 3  # of (N, 3, H, W)
# The axes along which each view is turned round.
VIEWS: dict[Views, tuple[Axes, ...]] = {
    1: ((),),
    2: ((), (_COLUMNS,)),
    4: ((), (_COLUMNS,), (_ROWS,), (_ROWS, _COLUMNS)),
}


class MirrorError(DerainError):
    """A model that cannot be mirrored, or not under that name."""


def mirrored(model: onnx.ModelProto, views: Sequence[Axes]) -> onnx.ModelProto:
    """The model's graph once a view, and the mean of what they return; all share the weights.

    The views run one after the other. As one batch they would need their inner tensors at the same time:
    three times the memory for four views, and no less time.
    """
    (clean,) = model.graph.output
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.value_info[:]
    nodes: list[onnx.NodeProto] = []
    results = []
    for number, axes in enumerate(views):
        prefix = f"view{number}."
        names = {"": ""} | {weights.name: weights.name for weights in model.graph.initializer}
        names |= {given.name: _turn(nodes, given.name, axes, prefix) for given in model.graph.input}
        for node in model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = prefix + node.name
            copy.input[:] = [names.get(name, prefix + name) for name in node.input]
            copy.output[:] = [names.get(name, prefix + name) for name in node.output]
            nodes.append(copy)
        results.append(_turn(nodes, prefix + clean.name, axes, prefix))
    nodes.append(helper.make_node("Sum", results, ["mirror.sum"]))
    nodes.append(helper.make_node("Mul", ["mirror.sum", "mirror.share"], [clean.name]))
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(_constants(len(views)))
    onnx.checker.check_model(made, full_check=True)
    return made


def _turn(nodes: list[onnx.NodeProto], name: str, axes: Axes, prefix: str) -> str:
    """Adds what turns a tensor round along the axes, its own inverse; the name of the result."""
    for axis in axes:
        turned = f"{prefix}{name.removeprefix(prefix)}.turned{axis}"
        steps = ["mirror.back", "mirror.end", f"mirror.axis{axis}", "mirror.back"]
        nodes.append(helper.make_node("Slice", [name, *steps], [turned]))
        name = turned
    return name


def _constants(count: int) -> list[onnx.TensorProto]:
    """From the last place (-1) to before the first, by -1; and the share of each of the views."""
    whole = {"back": -1, "end": np.iinfo(np.int64).min, f"axis{_ROWS}": _ROWS, f"axis{_COLUMNS}": _COLUMNS}
    numbers = {name: np.array([value], dtype=np.int64) for name, value in whole.items()}
    arrays = numbers | {"share": np.array(1 / count, dtype=np.float32)}
    return [numpy_helper.from_array(array, f"mirror.{name}") for name, array in arrays.items()]


def mean_of_views(compute: Compute, views: Sequence[Axes]) -> Compute:
    """The same by numpy, around the unchanged file: what a mirrored one is checked against."""

    def mean(*given: FloatArray) -> FloatArray:
        turned = [
            np.flip(compute(*(np.ascontiguousarray(np.flip(each, axes)) for each in given)), axes)
            for axes in views
        ]
        return np.asarray(np.mean(turned, axis=0), dtype=np.float32)

    return mean


def mirror(folder: Path, name: str, count: Views, overview_px: int | None = None, factor: float = 1) -> Path:
    """The mirrored model's folder, beside the given one; raises MirrorError, ModelError or ParityError.

    Its survey sees `overview_px` of a side at most; None is as much as the given one's, or a little less
    where that has to be a multiple of more. Pictures are enlarged by the factor, 1 or one of FACTORS.
    """
    source = load_manifest(folder)
    _check(source, count, factor)
    contract = _looks_at(source, overview_px, factor)

    def write(original: Path, path: Path) -> dict[str, Any]:
        views = VIEWS[count]
        graph, expected = onnx.load(original), computed_by(original)
        overlap_px, cells = source.overlap_px, list(PARITY_CELLS)
        if count > 1:
            graph, expected = mirrored(graph, views), mean_of_views(expected, views)
        if factor > 1:
            graph, expected = enlarged(graph, factor, source.input), enlarge_around(expected, factor)
            overlap_px = enlarged_overlap_px(overlap_px, source.input, factor)
            # About as many pixels as elsewhere.
            larger = contract.alignment_px // source.input.alignment_px
            cells = [(-(-rows // larger), -(-columns // larger)) for rows, columns in cells]
        onnx.save(graph, path)
        return {
            "kmac_per_pixel": round(kmac_of_graph(graph, contract), 1),
            "input": contract,
            "overlap_px": overlap_px,
            "parity": compare(path, expected, contract, cells=cells),
            "mirrored_from": Mirrored(
                name=source.name, sha256=source.file.sha256, views=count, enlarged=factor
            ),
        }

    return make_of_another(folder, source, name, write)


def _looks_at(source: Manifest, overview_px: int | None, factor: float) -> InputContract:
    contract = enlarged_contract(source.input, factor)
    overview = contract.overview
    if overview is None:
        if overview_px is not None:
            raise MirrorError(f"{source.name} has no survey that could see more of the picture")
        return contract
    if overview_px is None:
        overview_px = max(1, overview.longest_px // overview.alignment_px) * overview.alignment_px
    if overview_px % overview.alignment_px:
        raise MirrorError(f"--overview {overview_px} is no multiple of {overview.alignment_px}")
    return contract.model_copy(update={"overview": overview.model_copy(update={"longest_px": overview_px})})


def _check(source: Manifest, count: Views, factor: float) -> None:
    if count == 1 and factor == 1:
        raise MirrorError("--views 1 without --enlarge changes nothing")
    if (mirrored := source.mirrored_from) is not None:
        raise MirrorError(f"{source.name} is {mirrored.how} already: mirror {mirrored.name}")
    if source.quantised_from is not None:
        raise MirrorError(
            f"{source.name} is quantised: mirror {source.quantised_from.name}, and quantise that"
        )


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    folder = mirror(options.model, options.name, options.views, options.overview, options.enlarge)
    print(f"{folder} is ready:\n  DERAIN_MODEL={folder} make serve")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.mirror", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path, help="a model folder, such as models/base")
    parser.add_argument("--name", type=model_name, required=True, help="of the new model")
    parser.add_argument(
        "--views",
        type=int,
        choices=tuple(VIEWS),
        default=max(VIEWS),
        help="2: as it is and left to right; 4: both also upside down; 1: as it is, where it is enlarged "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--enlarge",
        type=float,
        choices=(1.0, *FACTORS),
        default=1.0,
        help="pictures before the model, so many times each side, and what it takes off made smaller again "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--overview",
        type=at_least(1),
        metavar="PX",
        help="how much of the picture tells what rain it is: so many pixels of each side of a window "
        "(default: as of the given model)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
