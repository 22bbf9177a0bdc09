"""The README says what is so: its tree is the one on disk, its table the settings, its commands run."""

import re
from pathlib import Path

import pytest

from serving.settings import Settings
from tests.conftest import ROOT, repository_files

README = (ROOT / "README.md").read_text()

# Named as a whole in the tree, not file by file.
_FOLDERS = (
    *("docs", "examples", "models", "requirements", "tests", "training/commands", "training/photographs"),
    *(".github/workflows", "deploy/base", "deploy/monitoring", "deploy/overlays"),
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def tracked() -> set[str]:
    """Files of the repository, by path; a folder that the tree names as a whole stands for its files."""
    files = repository_files()
    whole = {name: folder for name in files for folder in _FOLDERS if name.startswith(f"{folder}/")}
    return {f"{whole[name]}/" if name in whole else name for name in files}


def tree() -> dict[str, str]:
    """Path and phrase of each line of the README's tree."""
    entries: dict[str, str] = {}
    folder = ""
    for line in blocks("text")[0].splitlines():
        name, phrase = line.strip().split(maxsplit=1)
        indented = line.startswith(" ")
        entries[f"{folder}{name}" if indented else name] = phrase
        if not indented:
            folder = name
    return entries


def test_the_tree_is_the_one_on_disk() -> None:
    named = {name for name in tree() if not name.endswith("/") or name.rstrip("/") in _FOLDERS}
    unnamed = (".", "__init__", "__main__", "README")
    on_disk = {name for name in tracked() if not Path(name).name.startswith(unnamed)} - {".ci/run"}
    assert named == on_disk


def test_the_settings_table_is_the_settings() -> None:
    rows = re.findall(r"^\| `DERAIN_(\w+)` \| (.+?) \| (.+?) \|$", README, flags=re.MULTILINE)
    documented = {name.lower(): meaning for name, _, meaning in rows}
    assert documented == {name: field.description for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize("variable", [name.upper() for name in Settings.model_fields])
def test_the_settings_table_has_the_defaults(variable: str) -> None:
    (shown,) = re.findall(rf"^\| `DERAIN_{variable}` \| `?(.+?)`? \|", README, flags=re.MULTILINE)
    default = Settings.model_fields[variable.lower()].default
    if default is None:
        depends = variable in (
            "THREADS",
            "TILE_PIXELS",
            "TILE_BATCH",
            "PARALLEL",
            "PARALLEL_BYTES",
        )  # on the machine
        assert depends != (shown == "none")
    elif isinstance(default, Path):
        assert ROOT / shown == default
    else:
        assert getattr(Settings.model_validate({variable.lower(): shown}), variable.lower()) == default


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake (\w+)", README)) - {"and"} <= targets


def test_the_picture_is_there() -> None:
    for path in re.findall(r"\]\((?!http|#)([^)]+)\)", README):
        assert (ROOT / path).exists(), path
