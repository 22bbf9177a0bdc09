"""The commands of docs/bulk.md: each is one that there is; those that need no cluster and no bucket run."""

import re
import shlex
from pathlib import Path

import pytest

from derain.bulk.cli import main, make_parser
from derain.bulk.rows import COLUMNS
from derain.images.formats import PNG
from derain.images.plain import encode
from tests.conftest import ROOT, files_in, noise

PAGE = (ROOT / "docs" / "bulk.md").read_text()


def commands() -> list[list[str]]:
    """What follows `derain bulk`, word by word."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[2:] for words in lines if words[:2] == ["derain", "bulk"]]


def is_near(words: list[str]) -> bool:
    return not any("://" in word or word == "ray" for word in words)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_is_one_that_there_is(words: list[str]) -> None:
    make_parser().parse_args(words)


@pytest.mark.parametrize("words", [words for words in commands() if is_near(words)], ids=" ".join)
def test_a_command_runs(
    words: list[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for day in ("monday", "tuesday"):
        (tmp_path / "archive" / day).mkdir(parents=True)
        (tmp_path / "archive" / day / "a.jpg").write_bytes(encode(noise(20, 20), PNG))
    (tmp_path / "list.txt").write_text("archive/monday/a.jpg\narchive/tuesday/a.jpg\n")
    assert main([*words, "--model", str(model)]) == 0
    assert {"monday/a.jpg", "tuesday/a.jpg"} < files_in(tmp_path / "derained") | {"derain-bulk.csv"}


def test_the_page_has_the_columns_of_the_report() -> None:
    table = PAGE.partition("| column | meaning |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| ([\w, ]+) \|", table, flags=re.MULTILINE)
    assert tuple(", ".join(named).split(", ")) == COLUMNS


def test_the_page_has_the_options() -> None:
    parser = make_parser()
    options = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
    missing = {option for option in options - {"--help", "--quiet", "--list-models"} if option not in PAGE}
    assert missing == set()
