"""Strangers' networks, each built here around a known function, fed in all the ways there are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from derain.arrays import Image
from derain.errors import ModelError, ProviderError
from derain.inference.sessions import Provider
from tests.conftest import noise, scene
from training.foreign_network import Convention, ConventionError, ForeignNetwork

Side = str | int | None

FREE: list[Side] = ["N", 3, "H", "W"]
_NUMPY: dict[int, type] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
    TensorProto.UINT8: np.float32,
}


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[Side] = FREE,
    dtype: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("clean",),
    constants: dict[str, Any] | None = None,
    inputs: Sequence[str] = ("rainy",),
) -> Path:
    """A graph from `rainy` to its outputs; constants, but for whole numbers, are cast to its type."""
    arrays = {name: np.asarray(value) for name, value in (constants or {}).items()}
    kept = [
        numpy_helper.from_array(array if array.dtype.kind == "i" else array.astype(_NUMPY[dtype]), name)
        for name, array in arrays.items()
    ]
    out = TensorProto.FLOAT if dtype == TensorProto.UINT8 else dtype
    graph = helper.make_graph(
        list(nodes),
        "known",
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name in inputs],
        [helper.make_tensor_value_info(name, out, None) for name in outputs],
        kept,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def reddener(
    path: Path,
    highest: float = 1,
    lowest: float = 0,
    shape: Sequence[Side] = FREE,
    dtype: int = TensorProto.FLOAT,
    red: int = 0,
    returns: str = "clean",
) -> Path:
    """Takes 20 levels from red, in its own range, layout and order; or returns those 20 as the rain."""
    rain = np.zeros(3)
    rain[red] = 20 * (highest - lowest) / 255
    sides = (1, 3, 1, 1) if shape[1] == 3 else (1, 1, 1, 3)
    nodes = [helper.make_node("Identity", ["rainy"], ["float"])]
    if dtype == TensorProto.UINT8:
        nodes = [helper.make_node("Cast", ["rainy"], ["float"], to=TensorProto.FLOAT)]
    if returns == "clean":
        nodes.append(helper.make_node("Sub", ["float", "rain"], ["clean"]))
    else:
        nodes += [
            helper.make_node("Mul", ["float", "nothing"], ["dark"]),
            helper.make_node("Add", ["dark", "rain"], ["clean"]),
        ]
    return save(path, nodes, shape, dtype, constants={"rain": rain.reshape(sides), "nothing": 0.0})


def without_red(picture: Image) -> Image:
    """What `reddener` should make of it."""
    expected = picture.astype(int)
    expected[..., 0] -= 20
    return expected.clip(0, 255).astype(np.uint8)


def run(path: Path, picture: Image, **convention: Any) -> Image:
    return ForeignNetwork(path, Convention(**convention), Provider.CPU, threads=1).derain(picture)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "theirs.onnx"


NHWC: list[Side] = [1, None, None, 3]


@pytest.mark.parametrize(
    ("network", "convention"),
    [
        ({}, {}),
        ({"highest": 255}, {"value_range": "0..255"}),
        ({"lowest": -1}, {"value_range": "signed"}),
        ({"shape": NHWC}, {}),
        ({"shape": NHWC, "highest": 255, "red": 2}, {"value_range": "0..255", "channels": "BGR"}),
        ({"red": 2}, {"channels": "BGR"}),
        ({"returns": "rain"}, {"returns": "rain"}),
        ({"returns": "rain", "lowest": -1}, {"returns": "rain", "value_range": "signed"}),
        (
            {"returns": "rain", "red": 2, "highest": 255},
            {"returns": "rain", "value_range": "0..255", "channels": "BGR"},
        ),
        ({"dtype": TensorProto.FLOAT16}, {}),
        ({"dtype": TensorProto.FLOAT16, "shape": [1, 3, 64, 64]}, {}),
        ({"dtype": TensorProto.DOUBLE}, {}),
        ({"dtype": TensorProto.UINT8, "highest": 255}, {"output_range": "0..255"}),
        ({"dtype": TensorProto.UINT8, "highest": 255, "shape": NHWC}, {}),
        ({"shape": [1, 3, 64, 64]}, {}),
        ({"shape": [1, 64, 48, 3]}, {}),
        ({"shape": [1, 3, 64, "W"]}, {}),
        ({"shape": [4, 3, 32, 32]}, {}),
        ({"shape": [4, 3, "H", "W"]}, {}),
        ({}, {"multiple_px": 16}),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(75, 110), (40, 30)], ids=["larger", "smaller"])
def test_a_known_function_gives_the_known_picture(
    path: Path, network: dict[str, Any], convention: dict[str, Any], size: tuple[int, int]
) -> None:
    picture = scene(*size)
    np.testing.assert_array_equal(run(reddener(path, **network), picture, **convention), without_red(picture))


def test_layout_is_what_was_said_where_the_graph_is_silent(path: Path) -> None:
    nodes = [helper.make_node("Sub", ["rainy", "rain"], ["clean"])]
    rain = np.array([20 / 255, 0, 0])
    save(path, nodes, ["N", "H", "W", "C"], constants={"rain": rain})
    picture = scene(20, 30)
    np.testing.assert_array_equal(run(path, picture, layout="NHWC"), without_red(picture))
    with pytest.raises(ConventionError, match=r"takes \(N, H, W, C\): say .*--layout NCHW or NHWC"):
        run(path, picture)


def test_another_range_and_layout_may_come_back_than_went_in(path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["rainy"], ["turned"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["turned", "levels"], ["clean"]),
    ]
    save(path, nodes, constants={"levels": 255.0})
    picture = scene(20, 30)
    np.testing.assert_array_equal(run(path, picture, output_range="0..255"), picture)


def blurrer(path: Path, shape: Sequence[Side]) -> Path:
    """Sees 8 pixels around each, and mirrors none."""
    pool = helper.make_node("AveragePool", ["rainy"], ["clean"], kernel_shape=[17, 17], pads=[8] * 4)
    return save(path, [pool], shape)


def test_windows_of_a_fixed_size_give_what_the_whole_picture_gives(path: Path) -> None:
    picture = noise(150, 131)
    whole = run(blurrer(path, FREE), picture)
    for shape in ([1, 3, 64, 64], [3, 3, 64, 96], [1, 3, 150, 64]):
        np.testing.assert_array_equal(run(blurrer(path, shape), picture), whole)


def test_padding_mirrors_and_is_cropped(path: Path) -> None:
    picture = noise(30, 61)
    padded = np.pad(picture, [(0, 2), (0, 3), (0, 0)], mode="reflect")
    blurrer(path, FREE)
    np.testing.assert_array_equal(run(path, picture, multiple_px=32), run(path, padded)[:30, :61])


def test_the_output_is_the_only_picture_or_the_one_named(path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["rainy", "axes"], ["mask"]),
        helper.make_node("Sub", ["rainy", "rain"], ["stage1"]),
        helper.make_node("Identity", ["rainy"], ["stage2"]),
    ]
    rain = np.array([20 / 255, 0, 0]).reshape(1, 3, 1, 1)
    constants = {"rain": rain, "axes": np.array([1])}
    picture = scene(20, 30)
    save(path, nodes[:2], outputs=("mask", "stage1"), constants=constants)
    np.testing.assert_array_equal(run(path, picture), without_red(picture))
    save(path, nodes, outputs=("mask", "stage1", "stage2"), constants=constants)
    np.testing.assert_array_equal(run(path, picture, output="stage1"), without_red(picture))
    with pytest.raises(ConventionError, match=r"2 pictures: mask \(1, 1, 20, 30\), stage1 .*with --output"):
        run(path, picture)
    with pytest.raises(ConventionError, match="has no output 'stage3': mask, stage1, stage2"):
        run(path, picture, output="stage3")
    with pytest.raises(ConventionError, match="no picture of 3 channels"):
        run(path, picture, output="mask")


def one(operator: str, **attributes: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(operator, ["rainy"], ["clean"], **attributes)]


def scaled(by: str = "factor", plus: str = "offset") -> list[onnx.NodeProto]:
    return [helper.make_node("Mul", ["rainy", by], ["x"]), helper.make_node("Add", ["x", plus], ["clean"])]


CELLS = [
    helper.make_node("AveragePool", ["rainy"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
    helper.make_node("Resize", ["cells", "", "scales"], ["clean"], mode="nearest"),
]


@pytest.mark.parametrize(
    ("graph", "convention", "message"),
    [
        (
            {"nodes": scaled(), "constants": {"factor": 255.0, "offset": 0.0}},
            {},
            "values from .*--range 0..255",
        ),
        (
            {"nodes": scaled(), "constants": {"factor": 2.0, "offset": -1.0}},
            {},
            "values from -0.8.*--range signed",
        ),
        (
            {"nodes": scaled(), "constants": {"factor": 0.0, "offset": 0.1}},
            {},
            None,
        ),  # flat: nothing to tell by
        (
            {"nodes": scaled(), "constants": {"factor": -0.2, "offset": 0.2}},
            {},
            "looks like rain.*--returns rain",
        ),
        (
            {"nodes": one("Identity")},
            {"returns": "rain"},
            "much like its input and not the rain: leave out --returns rain",
        ),
        ({"nodes": one("Identity"), "shape": ["N", 1, "H", "W"]}, {}, r"\(N, 1, H, W\), with 1 channels"),
        ({"nodes": one("Identity"), "shape": [1, None, None, 6]}, {}, r"\(1, \?, \?, 6\), with 6 channels"),
        ({"nodes": one("Identity"), "shape": ["H", "W", 3]}, {}, r"\(H, W, 3\): it should have four sides"),
        ({"nodes": one("Identity")}, {"layout": "NHWC"}, None),
        (
            {"nodes": one("Identity"), "shape": [1, 3, 64, 64]},
            {"layout": "NHWC"},
            "it is not NHWC; leave out",
        ),
        ({"nodes": one("Identity"), "shape": [1, 3, "H", 3]}, {}, "say where the channels are"),
        (
            {"nodes": scaled("rainy", "other"), "inputs": ("rainy", "other")},
            {},
            r"2 inputs \(rainy, other\): a picture alone will not do",
        ),
        (
            {"nodes": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2])},
            {},
            r"clean \(1, 3, 15, 22\) for an input of \(1, 3, 30, 45\): a network that changes the size",
        ),
        (
            {"nodes": CELLS, "constants": {"scales": np.array([1, 1, 8, 8], np.float32)}},
            {},
            r"\(1, 3, 24, 40\).*--multiple 8",
        ),
        (
            {
                "nodes": [helper.make_node("Reshape", ["rainy", "shape"], ["clean"])],
                "constants": {"shape": np.array([1, 3, 32, 32])},
            },
            {},
            r"fails on an input of \(1, 3, 30, 45\);.*--multiple 8",
        ),
        (
            {"nodes": one("Log"), "constants": {}},
            {"returns": "rain"},
            "NaN or infinity for .*% of .* 45 x 30",
        ),
        (
            {"nodes": one("Cast", to=TensorProto.FLOAT), "dtype": TensorProto.UINT8},
            {"value_range": "0..1"},
            "0..255 and not 0..1",
        ),
    ],
)
def test_what_cannot_be_is_said(
    path: Path, graph: dict[str, Any], convention: dict[str, Any], message: str | None
) -> None:
    picture = scene(30, 45)
    picture[0, 0] = 0
    if convention.get("layout") == "NHWC" and "shape" not in graph:
        graph = graph | {"shape": ["N", "H", "W", "C"]}
    save(path, **graph)
    if message is None:
        run(path, picture, **convention)
        return
    with pytest.raises(ModelError, match=message):
        run(path, picture, **convention)


def test_files_that_are_no_network(path: Path) -> None:
    path.write_bytes(b"not a network")
    with pytest.raises(ModelError, match=r"theirs\.onnx cannot be loaded"):
        run(path, scene(8, 8))
    save(path, one("Identity"), dtype=TensorProto.FLOAT)
    with pytest.raises(ProviderError, match="runs on cpu here, not on tensorrt"):
        ForeignNetwork(path, Convention(), Provider.TENSORRT)
    with pytest.raises(ConventionError, match=r"takes tensor\(int64\), not one of"):
        graph = helper.make_graph(
            one("Identity"),
            "whole",
            [helper.make_tensor_value_info("rainy", TensorProto.INT64, FREE)],
            [helper.make_tensor_value_info("clean", TensorProto.INT64, None)],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
        run(path, scene(8, 8))


def test_how_it_is_fed_is_said(path: Path) -> None:
    network = ForeignNetwork(
        reddener(path, shape=[2, 3, 64, "W"]), Convention(multiple_px=8), Provider.CPU, threads=1
    )
    assert str(network) == (
        "theirs.onnx: float32 NCHW RGB in 0..1, height 64 px, width free, batch 2, padded to 8 px; "
        "returns the clean picture"
    )
