"""The benchmark of training data."""

import time

import pytest

from training.benchmark import main, rate


def test_rate_counts_calls_a_second_of_processor_time() -> None:
    def busy(_index: int) -> None:
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass

    assert 50 < rate(busy, 0.2) <= 100


@pytest.mark.slow
def test_the_command_prints_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rates = {line[10:]: float(line[:8]) for line in lines if line[:8].strip().isdecimal()}
    assert {"rain: wide", "backgrounds: dead leaves of complexity 1.0"} < set(rates)
    assert all(value > 0 for value in rates.values())
