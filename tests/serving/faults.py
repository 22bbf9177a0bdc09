"""Model folders that cannot be served, each for a reason of its own."""

from pathlib import Path

import onnx

from tests.conftest import describe_model


def truncate(model: Path) -> None:
    data = (model / "model.onnx").read_bytes()
    (model / "model.onnx").write_bytes(data[: len(data) // 2])


def tamper(model: Path) -> None:
    data = bytearray((model / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (model / "model.onnx").write_bytes(data)


def break_contract(model: Path) -> None:
    """The manifest fits, but the file is no network."""
    (model / "model.onnx").write_bytes(b"rain" * 100)
    describe_model(model)


def fix_size(model: Path) -> None:
    """The manifest fits, but the network takes images of one size only."""
    network = onnx.load(model / "model.onnx")
    for side in network.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_value = 64
    onnx.save(network, model / "model.onnx")
    describe_model(model)


def lose_manifest(model: Path) -> None:
    (model / "manifest.json").unlink()


FAULTS = [truncate, tamper, break_contract, fix_size, lose_manifest]
