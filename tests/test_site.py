"""The documentation as a site: it builds without a warning and without a network, and its code runs."""

import html
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, scene
from tests.derain.video.clips import write_clip

DOCS = ROOT / "docs"
REPOSITORY = "https://code.example/derain/blob/v1"
LIBRARY = (DOCS / "library.md").read_text()


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert [page for page in pages if f": {page}\n" not in menu] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mkdocs = ROOT / ".venv" / "release" / "bin" / "mkdocs"
    if not mkdocs.exists():
        pytest.skip("mkdocs is not installed: make docs installs it")
    folder = tmp_path_factory.mktemp("site")
    # A proxy that is not there: what would be fetched fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1", "REPOSITORY_URL": REPOSITORY},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_the_reference_is_made_of_the_docstrings(site: Path) -> None:
    reference = html.unescape(re.sub(r"<[^>]+>", "", (site / "reference.html").read_text()))
    assert "Takes the rain out of an image, and returns one of the same kind." in reference
    for name in ("Derainer", "DerainedImage", "MissingFileError", "keep_metadata: bool = True"):
        assert name in reference


@pytest.mark.slow
def test_pages_outside_of_docs_are_on_it_and_links_lead_there(site: Path) -> None:
    assert (site / "CHANGELOG.html").exists()
    for model in ("base", "fast"):
        assert (site / "models" / model / "index.html").exists()
        assert (site / "models" / model / "clean.jpg").exists()
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?:]+)[^":]*"', page.read_text()):
            target = page.parent / html.unescape(link)
            assert page.name == "404.html" or target.exists(), f"{page.relative_to(site)}: {link}"


@pytest.mark.slow
def test_links_to_code_lead_to_the_repository(site: Path) -> None:
    assert f"{REPOSITORY}/derain/monitor.py" in (site / "monitoring.html").read_text()
    assert f"{REPOSITORY}/training/model/rain_estimator.py" in (site / "models.html").read_text()


@pytest.mark.slow
def test_pages_ask_nobody_else(site: Path) -> None:
    """Links may lead elsewhere; what a page loads may not."""
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="?(https?:[^"> ]+)', page.read_text())
        loaded += re.findall(
            r'<link[^>]* rel="?(?:stylesheet|icon|preconnect)[^>]*href="?(https?:[^"> ]+)', page.read_text()
        )
        assert loaded == [], page


def test_the_code_of_the_library_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image as PilImage

    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    for name in ("photo.jpg", "frames/1.jpg"):
        PilImage.fromarray(scene(24, 32)).save(name)
    write_clip(tmp_path / "rain.mp4")
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", LIBRARY, flags=re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(block, names)
    written = {path.name for path in tmp_path.rglob("*.*")} - {"photo.jpg", "1.jpg", "rain.mp4"}
    assert written == {*re.findall(r'save\("([\w.]+)"', LIBRARY), "clean.png", "1.png", "clean.mp4"}
    assert isinstance(names["data"], bytes)
    shutil.rmtree(tmp_path / "frames")


def test_the_menu_has_titles_for_its_sections() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    sections = yaml.safe_load(text)["nav"]
    assert [next(iter(section)) for section in sections] == [
        "Start",
        "Use",
        "Run",
        "Models",
        "Train",
        "About",
    ]
