"""The benchmark runs. Whether batches pay is not tested."""

import re
from pathlib import Path

import pytest

from benchmarks.batching import main


def test_it_prints_a_table(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.batching._PIXELS_A_TURN", 3000)
    assert main([str(model), "--threads", "1", "--repeats", "1", "--sizes", "8x8", "16x9"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[2:]] == ["8x8", "16x9"]
    for row in rows[2:]:
        assert len(row) == len(rows[0]) == 5
        for cell, most in zip(row[1:], (1, 2, 4, 8), strict=True):
            found = re.fullmatch(r"(\d+\.\d\d) \((\d\.\d)\)", cell)
            assert found is not None
            assert float(found[1]) > 0
            assert 1 <= float(found[2]) <= most


def test_a_folder_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "error: " in capsys.readouterr().err
