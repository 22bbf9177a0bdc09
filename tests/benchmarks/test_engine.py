"""The benchmark runs, and its plain networks cost what they claim. How fast anything is, is not tested."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks.engine import main
from benchmarks.plain import FULL_RESOLUTION, HALF_RESOLUTION, PlainNetwork, write_plain

NETWORKS = [FULL_RESOLUTION, HALF_RESOLUTION, PlainNetwork(channels=5, layers=2, cell_px=4)]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_multiply_adds_are_those_of_the_file(network: PlainNetwork, tmp_path: Path) -> None:
    """Of each convolution: its weights, once for each cell that it works on."""
    write_plain(network, tmp_path / "plain.onnx")
    graph = onnx.load(tmp_path / "plain.onnx").graph
    assert sum(node.op_type == "Conv" for node in graph.node) == network.layers
    weights = sum(int(np.prod(stored.dims)) for stored in graph.initializer if len(stored.dims) == 4)
    assert weights / network.cell_px**2 / 1000 == pytest.approx(network.kmac_per_pixel)


@pytest.mark.parametrize("network", [FULL_RESOLUTION, HALF_RESOLUTION], ids=str)
def test_plain_networks_cost_about_fifty_thousand(network: PlainNetwork) -> None:
    assert 47 < network.kmac_per_pixel <= 50


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_plain_networks_return_a_picture(network: PlainNetwork, tmp_path: Path) -> None:
    write_plain(network, tmp_path / "plain.onnx")
    session = ort.InferenceSession(tmp_path / "plain.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"rainy": np.full((1, 3, 16, 24), 0.5, np.float32)})
    values = np.asarray(got)
    assert values.shape == (1, 3, 16, 24)
    assert values.std() > 0


@pytest.mark.slow
def test_it_prints_two_tables(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.engine._PIXELS_A_TURN", 3000)
    tiny = ["--threads", "2", "--repeats", "1", "--sizes", "40x30", "47x33", "--plain-size", "32x24"]
    assert main([str(model), str(model), *tiny]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    engine, networks = rows[:4], rows[4:]
    assert [row[0] for row in engine[2:]] == ["| 40x30", "| 47x33"]
    assert {len(row) for row in (engine[0], *engine[2:])} == {8}
    assert [row[0] for row in networks[2:]] == ["| " + str(n) for n in (*NETWORKS[:2], model)]


def test_a_folder_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "error: " in capsys.readouterr().err


def test_what_is_no_size(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["models/base", "--sizes", "480"])
    assert "'480' is no size such as 480x320" in capsys.readouterr().err
