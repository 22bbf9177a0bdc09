"""The pages of docs/ say what is so: settings, the tree, the figures of the models."""

import re
import runpy
from pathlib import Path
from statistics import fmean

import pytest

from derain.manifest import load_manifest
from serving.settings import Settings
from tests.conftest import ROOT, repository_files

DOCS = ROOT / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text()
ARCHITECTURE = (DOCS / "architecture.md").read_text()
MODELS = (DOCS / "models.md").read_text()
JOURNAL = (DOCS / "lab" / "README.md").read_text()

PAGES = ["README.md", *(path.relative_to(ROOT).as_posix() for path in sorted(DOCS.glob("*.md")))]

MOST_LINES_OF_MODELS = 150
MOST_LINES_OF_AN_ENTRY = 25

# Their defaults are computed on the machine.
DEPENDING = ("THREADS", "TILE_PIXELS", "TILE_BATCH", "PARALLEL", "PARALLEL_BYTES")


def test_the_settings_table_is_the_settings() -> None:
    rows = re.findall(r"^\| `DERAIN_(\w+)` \| (.+?) \| (.+?) \|$", CONFIGURATION, flags=re.MULTILINE)
    documented = {name.lower(): meaning for name, _, meaning in rows}
    assert documented == {name: field.description for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize("variable", [name.upper() for name in Settings.model_fields])
def test_the_settings_table_has_the_defaults(variable: str) -> None:
    (shown,) = re.findall(rf"^\| `DERAIN_{variable}` \| `?(.+?)`? \|", CONFIGURATION, flags=re.MULTILINE)
    default = Settings.model_fields[variable.lower()].default
    if default is None:
        assert (variable in DEPENDING) != (shown == "none")
    elif isinstance(default, Path):
        assert ROOT / shown == default
    else:
        assert getattr(Settings.model_validate({variable.lower(): shown}), variable.lower()) == default


def tree() -> dict[str, str]:
    """Path and phrase of each line of the page's tree; the path of a folder ends in a slash."""
    (shown,) = re.findall(r"<!-- tree.*?```text\n(.*?)```", ARCHITECTURE, flags=re.DOTALL)
    entries: dict[str, str] = {}
    above: list[str] = []
    for line in shown.splitlines():
        name, phrase = line.split(maxsplit=1)
        above = above[: (len(line) - len(line.lstrip())) // 2]
        entries["".join([*above, name])] = phrase
        above = [*above, name]
    return entries


def test_the_tree_names_what_is_on_disk() -> None:
    """Every module of a package, and every file and folder at the root; tools' dot files are not shown."""
    files = [name for name in repository_files() if name[0] != "."]
    packages = ("derain/", "serving/", "training/", "benchmarks/", "scripts/")
    modules = {
        name
        for name in files
        if name.startswith(packages) and name.endswith((".py", ".sh")) and Path(name).name[:2] != "__"
    }
    at_the_root = {name if "/" not in name else f"{name.split('/')[0]}/" for name in files}
    shown = set(tree()) - {".github/"}
    assert {name for name in shown if not name.endswith("/")} == modules | (at_the_root & set(files))
    assert at_the_root <= shown
    assert all((ROOT / name).exists() for name in shown)


@pytest.mark.slow
def test_the_tree_is_written_from_the_docstrings() -> None:
    """`python scripts/tree.py` writes it."""
    script = runpy.run_path(str(ROOT / "scripts" / "tree.py"))
    assert list(tree().items()) == [(path, " ".join(phrase.split())) for path, phrase in script["entries"]()]


def test_each_phrase_of_the_tree_is_needed() -> None:
    phrases = runpy.run_path(str(ROOT / "scripts" / "tree.py"))["PHRASES"]
    assert [path for path in phrases if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_modules_that_a_page_runs_are_there(page: str) -> None:
    named = re.findall(r"python -m (\w[\w.]*\w)", (ROOT / page).read_text())
    own = [name for name in named if name.split(".")[0] in ("derain", "serving", "training", "benchmarks")]
    files = [ROOT / Path(*name.split(".")) for name in own]
    assert [
        file for file in files if not (file / "__main__.py").exists() and not file.with_suffix(".py").exists()
    ] == []


def test_the_page_of_the_models_is_short() -> None:
    assert len(MODELS.splitlines()) <= MOST_LINES_OF_MODELS


def test_the_gains_of_the_models_are_those_of_their_manifests() -> None:
    rows = re.findall(
        r"^\| (\w+).*? \| (?:validation|test) \| .+? \| (.+?) \| (.+?) \|$", MODELS, flags=re.MULTILINE
    )
    documented = {kind: gains for kind, *gains in rows}
    for column, name in enumerate(("base", "fast")):
        gains: dict[str, list[float]] = {}
        for each in load_manifest(ROOT / "models" / name).evaluations:
            if each.kind is not None and each.counted_gain is not None:
                gains.setdefault(each.kind.removeprefix("textures:"), []).append(each.counted_gain.mean)
        assert {kind: f"{fmean(of_kind):.2f}" for kind, of_kind in gains.items()} == {
            kind: shown[column] for kind, shown in documented.items()
        }


def test_an_entry_of_the_journal_is_short_and_newer_ones_come_first() -> None:
    entries = re.split(r"^## ", JOURNAL, flags=re.MULTILINE)[1:]
    dates = [re.match(r"(\d{4}-\d\d-\d\d) · .+\?\n", entry) for entry in entries]
    assert all(dates)
    days = [date[1] for date in dates if date]
    assert days == sorted(days, reverse=True)
    assert [
        entry.splitlines()[0] for entry in entries if len(entry.splitlines()) > MOST_LINES_OF_AN_ENTRY
    ] == []
