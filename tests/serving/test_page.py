"""The page in a real browser: Chromium by Playwright, where both are there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT
from tests.serving.server import Server, serving

if TYPE_CHECKING:
    Page = Any

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH"),
]

EXAMPLE = ROOT / "examples" / "rain.jpg"


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(model, tmp_path_factory.mktemp("page")) as server:
        yield server


@contextmanager
def opened(server: Server, **options: Any) -> Iterator["Page"]:
    """The page, in a browser of its own that may speak to this server alone."""
    home = f"http://127.0.0.1:{server.port}/"
    strangers: list[str] = []
    complaints: list[str] = []
    with playwright.sync_playwright() as start:
        browser = start.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(**options)
        page.on("request", lambda sent: strangers.append(sent.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(home)
        yield page
        browser.close()
    assert [url for url in strangers if not url.startswith((home, "data:", f"blob:{home}"))] == []
    assert complaints == []


def derained(page: "Page") -> None:
    page.wait_for_selector("#result:not([hidden])", timeout=30_000)


SHAPES = [
    {"viewport": {"width": 1200, "height": 800}},
    {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"},
]


@pytest.mark.parametrize("shape", SHAPES, ids=["desk", "phone"])
def test_a_picture_is_derained_and_compared(server: Server, shape: dict[str, Any], tmp_path: Path) -> None:
    with opened(server, **shape) as page:
        page.set_input_files("#file", EXAMPLE)
        derained(page)
        assert page.locator("#after").evaluate("image => image.naturalWidth") == 451
        facts = page.inner_text("#facts")
        for word in ("Time", "infer", "451 × 300", "tiny", "Rain left"):
            assert word in facts
        # The slider by keyboard: from the middle all the way to the rainy side.
        page.focus("#slider")
        page.keyboard.press("End")
        assert page.locator("#frame").evaluate("frame => frame.style.getPropertyValue('--split')") == "100"
        with page.expect_download() as saved:
            page.click("#download")
        assert saved.value.suggested_filename == "rain-derained.jpg"
        saved.value.save_as(tmp_path / "saved.jpg")
        assert (tmp_path / "saved.jpg").read_bytes()[:2] == b"\xff\xd8"
        # Nothing is wider than the screen.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.click("#another")
        assert page.is_visible("#start")


def test_a_file_that_is_no_picture_is_told_so(server: Server, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("rain")
    with opened(server) as page:
        page.set_input_files("#file", tmp_path / "notes.txt")
        page.wait_for_selector("#error:not(:empty)")
        assert "not a picture in a known format" in page.inner_text("#error")
        page.click("#example")
        derained(page)
        assert page.inner_text("#error") == ""


def test_the_models_are_told_of(server: Server) -> None:
    with opened(server) as page:
        page.wait_for_selector("#about:not([hidden])")
        page.click("#about summary")
        page.wait_for_selector("#card p")
        assert "tiny" in page.inner_text("#card")
        assert page.is_hidden("#choice")  # there is but one


def test_a_key_is_asked_for(model: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("camera 6b1e6d0ffb5ba1a9f4b94ba8a2d3e5d3fd4e7e4b7a1c0dc0f5c9f4c4c3ad8cbb")
    with serving(model, tmp_path, keys=tmp_path / "keys") as server, opened(server) as page:
        page.wait_for_selector("#keyed:not([hidden])")
        page.click("#example")
        page.wait_for_selector("#error:not(:empty)")
        assert "a key is needed" in page.inner_text("#error")
        page.fill("#key", "wrong")
        page.click("#example")
        page.wait_for_function("document.querySelector('#error').textContent.includes('not known')")
