"""The README is short and true: its links lead somewhere, its figures are those of the manifests."""

import re

import pytest

from derain.manifest import Evaluation, Manifest, load_manifest
from tests.conftest import ROOT, repository_files

README = (ROOT / "README.md").read_text()

MOST_LINES = 150
MODELS = [folder.parent.name for folder in sorted(ROOT.glob("models/*/manifest.json"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


def test_two_commands_come_first() -> None:
    """One shows a derained image, one passes the tests, and nothing is needed before them but the clone."""
    assert [line.split("  ")[0] for line in blocks("sh")[0].splitlines()] == ["make demo", "make test"]


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake (\w+)", README)) <= targets


def test_what_it_links_to_is_there() -> None:
    for path in re.findall(r"\]\((?!http|#)([^)#]+)", README):
        assert (ROOT / path).exists(), path


def test_its_anchors_are_headings() -> None:
    for page, anchor in re.findall(r"\]\(([^)#:]+\.md)#([^)]+)\)", README):
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), flags=re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_the_map_has_every_folder() -> None:
    (shown,) = blocks("text")
    named = {line.split()[0] for line in shown.splitlines()}
    folders = {f"{name.split('/')[0]}/" for name in repository_files() if "/" in name and name[0] != "."}
    assert named == folders | {"Makefile"}


def row(name: str) -> list[str]:
    (line,) = re.findall(rf"^\| \*\*{name}\*\* \|(.+)\|$", README, flags=re.MULTILINE)
    return [cell.strip(" *") for cell in line.split("|")]


def scored(manifest: Manifest, name: str) -> Evaluation:
    (found,) = [each for each in manifest.evaluations if each.name == name]
    return found


def test_the_table_has_every_model() -> None:
    assert set(re.findall(r"^\| \*\*(\w+)\*\* \|", README, flags=re.MULTILINE)) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_the_figures_of_a_model_are_those_of_its_manifest(name: str) -> None:
    folder = ROOT / "models" / name
    manifest = load_manifest(folder)
    _, megabytes, light, heavy, dry = row(name)
    assert megabytes == f"{sum(file.stat().st_size for file in folder.glob('*.onnx')) / 1e6:.1f}"
    assert [light, heavy] == [f"{scored(manifest, name).psnr:.2f}" for name in ("rain100l", "rain100h")]
    back = scored(manifest, "kodak24").clean
    assert back is not None and back.worst is not None
    assert dry == f"{back.identical} identical, worst {back.worst.db:.1f} dB"
