"""The benchmark of training data."""

import pytest

from training.commands.benchmark import main
from training.trainer.throughput import rate


def test_rate_counts_calls_a_second_of_processor_time() -> None:
    now = 0.0
    made = []

    def make(index: int) -> None:
        nonlocal now
        now += 60.0 if index == 0 else 0.25  # the first is made with what is only made once
        made.append(index)

    assert rate(make, 2.0, clock=lambda: now) == 4
    assert made == list(range(10)), "until more than two seconds have passed"


@pytest.mark.slow
def test_the_command_prints_a_line_for_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.trainer.throughput.TRAINABLE", ("wide", "dense"))
    assert main(["--seconds", "0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rates = {line[10:]: float(line[:8]) for line in lines if line[:8].strip().isdecimal()}
    assert {
        "rain: wide",
        "backgrounds: dead leaves of complexity 1.0",
        "samples of the recipe base",
        "samples that its networks learn from",
    } < set(rates)
    assert all(value > 0 for value in rates.values())
