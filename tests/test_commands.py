"""Every command of the repository says how it is used."""

import sys
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Run by a container, and by the core itself.
WITHOUT_OPTIONS = ("serving.healthcheck", "derain.images.codecs.decoder_program")


def _commands() -> list[str]:
    """The modules that `python -m` runs, by themselves or by the name of a command."""
    folders = ("derain", "training", "serving", "benchmarks")
    files = sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    modules = (
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in files
        if "\nif __name__" in (text := file.read_text())
        or (file.parent.name == "commands" and "\ndef main(" in text)
    )
    return [module for module in modules if module not in WITHOUT_OPTIONS]


def test_there_are_commands() -> None:
    assert {"derain.cli", "training.run", "training.commands.ablation"} < set(_commands())


@pytest.fixture
def main(command: str) -> Callable[..., int]:
    """What a command imports, torch perhaps, is not the time of its test."""
    found: Callable[..., int] = import_module(command).main
    return found


@pytest.mark.parametrize("command", _commands())
def test_help(
    command: str,
    main: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    try:
        status: object = main(*[["--help"]] * len(signature(main).parameters))
    except SystemExit as ended:  # argparse's way
        status = ended.code
    assert status in (0, None)
    assert "usage: " in capsys.readouterr().out
