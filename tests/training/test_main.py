"""One entry for the commands of training: it lists them, and helps whoever mistypes one."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from training.__main__ import COMMANDS, main


def test_every_command_has_its_line_and_every_line_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    modules = {path.stem for path in (ROOT / "training" / "commands").glob("[!_]*.py")}
    assert modules | {"run"} == set(COMMANDS)
    for name, text in COMMANDS.items():
        assert [line.split(maxsplit=1) for line in lines].count([name, text]) == 1
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("evalute", "did you mean evaluate?"),
        ("Gate", "did you mean gate?"),
        ("xyz", "commands are run, rain, complexity, "),
    ],
)
def test_a_mistyped_command_is_told_the_nearest(
    name: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "models/base"]) == 2
    assert capsys.readouterr().err.startswith(f"error: no command {name!r}; {advice}")


def test_a_command_gets_its_own_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["frontier", "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python -m training frontier ")


def test_commands_are_under_no_other_name() -> None:
    name = "evaluate"
    done = subprocess.run(
        [sys.executable, "-m", f"training.{name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert f"No module named training.{name}" in done.stderr


def test_nothing_beside_run_py_hides_a_module_of_the_standard_library() -> None:
    """It is started as a file, so its folder comes first where modules are looked for."""
    names = {path.stem for path in (ROOT / "training").iterdir()}
    assert not names & sys.stdlib_module_names
