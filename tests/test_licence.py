"""What others may do with it is said wherever they look for it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from derain import __version__
from derain.images.formats import IMAGE_SUFFIXES
from tests.conftest import ROOT, repository_files

# Images that tests draw have the licence of the code.
_OWN_WORK = ("tests/",)


def test_code_and_weights_have_one() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert re.match(r"\s+Apache License\s+Version 2\.0, January 2004", text)
    assert "END OF TERMS AND CONDITIONS" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert not [each for each in project["classifiers"] if each.startswith("License ::")]
    assert "Code and weights are under the [Apache License 2.0](LICENSE)" in (ROOT / "README.md").read_text()


def test_the_images_say_it() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    licences = dockerfile.count('org.opencontainers.image.licenses="Apache-2.0"')
    assert licences == dockerfile.count("LABEL ") > 0


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (__version__, "Apache-2.0")
    (paper,) = citation["references"]
    assert paper["title"].startswith("Networks are Slacking Off")
    assert [author["family-names"] for author in paper["authors"]] == ["Gu", "Ma", "Kong", "Qiao", "Dong"]


def test_the_changelog_has_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_readme_names_the_wheel_of_this_version() -> None:
    wheels = re.findall(r"derain-([\d.]+)-py3-none-any\.whl", (ROOT / "README.md").read_text())
    assert set(wheels) == {__version__}


def _photographs() -> list[str]:
    return [
        name
        for name in repository_files()
        if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(_OWN_WORK)
    ]


@pytest.mark.parametrize("folder", sorted({str(Path(name).parent) for name in _photographs()}))
def test_each_photograph_is_named_where_it_lies(folder: str) -> None:
    """In a page of its folder, or of the one above."""
    pages = [*(ROOT / folder).glob("*.md"), *(ROOT / folder).parent.glob("README.md")]
    text = "\n".join(page.read_text() for page in pages)
    names = [Path(name).name for name in _photographs() if str(Path(name).parent) == folder]
    assert [name for name in names if name not in text] == []
