"""The page in a real browser: Chromium by Playwright, where it is there; axe-core by `make check-page`."""

import io
import re
import shutil
import socket
import socketserver
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as PilImage

from derain.arrays import Image
from derain.images.header import read_header
from tests.conftest import ROOT, noise, scene, write_estimating, write_model
from tests.serving.server import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Locator, Page, Route

playwright = pytest.importorskip("playwright.sync_api", reason="make develop installs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH"),
]
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="make check-page installs axe-core")

LONGEST_MS = 60_000
MAX_PIXELS = 25_000_000
MAX_BYTES = 20_000_000

DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
SHAPES = [
    pytest.param({**size, "color_scheme": scheme}, id=f"{name}-{scheme}")
    for name, size in (("desk", DESK), ("phone", PHONE))
    for scheme in ("light", "dark")
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two models that change photos visibly; even small photos have many tiles."""
    folder = tmp_path_factory.mktemp("page")
    for name, channels in (("tiny", 4), ("wide", 8)):
        write_model(folder / "models" / name, channels)
    limits = {"max_pixels": MAX_PIXELS, "max_bytes": MAX_BYTES}
    with serving(folder / "models/tiny", folder, threads=1, tile_pixels=256 * 256, **limits) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with playwright.sync_playwright() as start:
        browser = start.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: "Browser", server: Server, path: str = "", **options: Any) -> Iterator["Page"]:
    """The page, where nothing is shared with others, and all requests go to this server."""
    home = f"http://127.0.0.1:{server.port}/"
    asked: list[str] = []
    complaints: list[str] = []
    context = browser.new_context(**(options or DESK))
    context.set_default_timeout(LONGEST_MS)
    page = context.new_page()
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # Of errors that are shown there is a line for each request; what breaks the policy has others.
    page.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
    page.goto(home + path)
    yield page
    context.close()
    assert [url for url in asked if not url.startswith((home, "data:", f"blob:{home}"))] == []
    assert complaints == []


def photo(folder: Path, name: str, size: tuple[int, int] = (300, 450), seed: int = 0) -> Path:
    """A file with a scene of (height, width), grainy so that it is not mistaken for a dry one."""
    values: Image = scene(*size) // 2 + noise(*size, seed) // 4
    PilImage.fromarray(values).save(folder / name)
    return folder / name


def send(page: "Page", *files: Path) -> None:
    page.set_input_files("#files" if page.is_visible("#start") else "#more-files", files)


def derained(page: "Page", *files: Path) -> None:
    """The files are sent, and the result of the first one is there."""
    send(page, *files)
    page.wait_for_selector("#done:not([hidden])")


def states(page: "Page") -> list[str]:
    return page.locator(".queue .state").all_inner_texts()


def pixels(data: bytes) -> Image:
    with PilImage.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def seen(area: "Locator") -> Image:
    return pixels(area.screenshot())


def split_at(page: "Page", percent: int) -> None:
    page.locator("#split").evaluate(
        f"slider => {{ slider.value = {percent}; slider.dispatchEvent(new Event('input')); }}"
    )


def is_accessible(page: "Page") -> None:
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []


@needs_axe
@pytest.mark.parametrize("shape", SHAPES)
def test_everybody_can_use_it(
    browser: "Browser", server: Server, shape: dict[str, Any], tmp_path: Path
) -> None:
    """What axe-core looks at, in each state that the page has."""
    (tmp_path / "notes.txt").write_text("rain")
    with opened(browser, server, **shape) as page:
        is_accessible(page)
        derained(page, photo(tmp_path, "one.jpg"))
        page.click("#telemetry summary")
        is_accessible(page)
        page.get_by_label("Removed rain").check()
        is_accessible(page)
        send(page, tmp_path / "notes.txt", photo(tmp_path, "two.jpg"))
        page.wait_for_selector("#error:not(:empty)")
        is_accessible(page)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_photo_is_derained_and_compared(
    browser: "Browser", server: Server, shape: dict[str, Any], tmp_path: Path
) -> None:
    with opened(browser, server, **shape) as page:
        derained(page, photo(tmp_path, "rain.jpg"))
        assert page.locator("#after").evaluate("image => image.naturalWidth") == 450
        # As wide as the window, and Download in sight under it.
        width = shape["viewport"]["width"]
        assert page.locator("#stage").bounding_box()["width"] == width  # type: ignore[index]
        assert page.evaluate("document.documentElement.scrollWidth") == width
        button = page.locator("#download").bounding_box()
        assert button is not None
        assert button["y"] + button["height"] <= shape["viewport"]["height"]
        assert re.fullmatch(r"[\d.]+ m?s · tiny · \d+ kB", page.inner_text("#facts"))
        # All else that was measured is folded away.
        assert page.is_hidden("#details")
        page.click("#telemetry summary")
        for word in ("450 × 300", "Taking the rain out", "Rain left"):
            assert word in page.inner_text("#details")
        with page.expect_download() as saved:
            page.click("#download")
        assert saved.value.suggested_filename == "rain-derained.jpg"
        saved.value.save_as(tmp_path / "saved.jpg")
        assert (tmp_path / "saved.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_the_slider_and_a_held_key_show_what_was_before(
    browser: "Browser", server: Server, tmp_path: Path
) -> None:
    with opened(browser, server) as page:
        derained(page, photo(tmp_path, "rain.png"))
        stage = page.locator("#stage")
        page.focus("#split")
        page.keyboard.press("End")
        page.keyboard.press("ArrowLeft")
        assert page.get_attribute("#split", "aria-valuetext") == "99 % before, 1 % after"
        page.evaluate("document.querySelectorAll('.tag, .handle, .zoom').forEach((each) => each.remove())")
        split_at(page, 100)
        before = seen(stage)
        split_at(page, 0)
        after = seen(stage)
        assert not np.array_equal(before, after)
        page.keyboard.down("b")
        assert np.array_equal(seen(stage), before)
        page.keyboard.up("b")
        assert np.array_equal(seen(stage), after)
        box = page.locator("#peek").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        assert np.array_equal(seen(stage), before)
        page.mouse.up()
        assert np.array_equal(seen(stage), after)


def test_the_strength_is_blended_here_and_downloaded_from_the_service(
    browser: "Browser", server: Server, tmp_path: Path
) -> None:
    with opened(browser, server) as page:
        source = photo(tmp_path, "rain.png")
        derained(page, source)
        stage = page.locator("#stage")
        page.evaluate("document.querySelectorAll('.tag, .handle, .zoom').forEach((each) => each.remove())")
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url))
        split_at(page, 100)
        before = seen(stage).astype(int)
        split_at(page, 0)
        after = seen(stage).astype(int)
        page.fill("#strength", "40")
        page.wait_for_timeout(200)  # the change is soft
        assert np.abs(seen(stage) - (0.6 * before + 0.4 * after)).max() <= 3
        assert [url for url in sent if url.startswith("http")] == []
        with page.expect_download() as saved:
            page.click("text=Download at 40 %")
        assert saved.value.suggested_filename == "rain-derained.png"
        saved.value.save_as(tmp_path / "saved.png")
        with server.client() as client:
            expected = client.post("/v1/derain?strength=0.4", content=source.read_bytes()).content
        assert (tmp_path / "saved.png").read_bytes() == expected


def test_what_is_transparent_stays_so(browser: "Browser", server: Server, tmp_path: Path) -> None:
    values = np.dstack([noise(300, 450), np.full((300, 450), 128, np.uint8)])
    PilImage.fromarray(values).save(tmp_path / "glass.png")
    with opened(browser, server) as page:
        derained(page, tmp_path / "glass.png")
        page.evaluate("document.querySelectorAll('.tag, .handle, .zoom').forEach((each) => each.remove())")
        split_at(page, 0)
        shown = seen(page.locator("#stage"))
        page.evaluate("document.querySelector('.pane.before').remove()")
        assert np.array_equal(seen(page.locator("#stage")), shown)


def test_a_photo_on_its_side_is_upright(browser: "Browser", server: Server, tmp_path: Path) -> None:
    exif = PilImage.Exif()
    exif[0x0112] = 6
    PilImage.fromarray(scene(300, 450)).save(tmp_path / "turned.jpg", exif=exif)
    with opened(browser, server) as page:
        derained(page, tmp_path / "turned.jpg")
        page.wait_for_selector(".stage.compares")
        for name in ("before", "after"):
            size = page.locator(f"#{name}").evaluate("image => [image.naturalWidth, image.naturalHeight]")
            assert size == [300, 450], name


def test_what_was_removed_is_shown_instead(browser: "Browser", server: Server, tmp_path: Path) -> None:
    with opened(browser, server) as page:
        source = photo(tmp_path, "rain.png", size=(400, 640))
        derained(page, source)
        with server.client() as client:
            clean = client.post("/v1/derain", content=source.read_bytes()).content
        both = [pixels(data).astype(int) for data in (source.read_bytes(), clean)]
        page.get_by_label("Removed rain").check()
        page.click("text=100 %")
        page.evaluate("document.querySelectorAll('.tag, .handle, .zoom').forEach((each) => each.remove())")
        shown = seen(page.locator("#stage"))
        top, left = (shown.shape[0] - 400) // 2, (shown.shape[1] - 640) // 2
        expected = np.minimum(3 * np.abs(both[0] - both[1]), 255)
        assert expected.max() > 20
        assert (
            np.abs(shown[top : top + 400, left : left + 640] - expected).max() <= 6
        )  # rounded before it is tripled


def test_zoom_to_100_percent_and_pan(browser: "Browser", server: Server, tmp_path: Path) -> None:
    with opened(browser, server) as page:
        derained(page, photo(tmp_path, "large.jpg", size=(1500, 3000)))
        image, stage = page.locator("#before"), page.locator("#stage")

        def box() -> dict[str, float]:
            return image.evaluate("image => image.getBoundingClientRect().toJSON()")  # type: ignore[no-any-return]

        assert box()["width"] == 1280
        page.click("text=100 %")
        assert box()["width"] == 3000
        assert page.get_attribute("#zoom-full", "aria-pressed") == "true"
        start = box()["left"]
        page.mouse.move(600, 300)
        page.mouse.down()
        page.mouse.move(700, 320)
        page.mouse.up()
        assert box()["left"] == start + 100
        stage.focus()
        page.keyboard.press("ArrowRight")
        assert box()["left"] == start + 20
        page.keyboard.press("0")
        assert box()["width"] == 1280
        page.mouse.dblclick(300, 300)
        assert box()["width"] == 3000
        page.keyboard.press("-")
        assert box()["width"] == 2000
        for _ in range(20):
            page.keyboard.press("+")
        assert box()["width"] == 8 * 3000  # and no more
        for _ in range(20):
            page.mouse.move(600, 300)
            page.mouse.down()
            page.mouse.move(1200, 600)
            page.mouse.up()
        assert box()["left"] == 0  # it does not leave the stage


def test_five_photos_one_of_them_bad_and_one_zip(browser: "Browser", server: Server, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "bad.jpg").write_bytes(photo(tmp_path, "whole.jpg").read_bytes()[:5000])
    files = [
        photo(tmp_path, "Straße im Regen 雨.png"),
        photo(tmp_path, "two.jpg", seed=2),
        tmp_path / "bad.jpg",
        photo(tmp_path / "other", "two.jpg", seed=3),
        photo(tmp_path, "five.webp"),
    ]
    with opened(browser, server) as page:
        send(page, *files)
        page.wait_for_selector(".queue li:nth-child(5) .state.done")
        told = states(page)
        assert told[:2] + told[3:] == ["Ready"] * 4
        assert "damaged or cut short" in told[2]
        page.click(".queue li:nth-child(3) .pick")
        assert page.inner_text("#error").startswith("bad.jpg: ")
        page.click(".queue li:nth-child(4) .pick")
        assert page.locator(".pick[aria-current=true]").inner_text().startswith("two.jpg")
        page.wait_for_selector("#done:not([hidden])")
        page.fill("#strength", "50")
        with page.expect_download() as saved:
            page.click("text=Download all 4 (zip)")
        assert saved.value.suggested_filename == "derained.zip"
        saved.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "Straße im Regen 雨-derained.png",
            "two-derained.jpg",
            "two-derained-2.jpg",
            "five-derained.webp",
        ]
        with server.client() as client:
            for name, file in zip(archive.namelist(), files[:2] + files[3:], strict=True):
                query = "?strength=0.5" if name == "two-derained-2.jpg" else ""
                expected = client.post(f"/v1/derain{query}", content=file.read_bytes()).content
                assert archive.read(name) == expected, name
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_24_megapixels_show_progress_and_can_be_cancelled(
    browser: "Browser", server: Server, tmp_path: Path
) -> None:
    photograph = tmp_path / "large.jpg"
    PilImage.fromarray(scene(4000, 6000)).save(photograph)
    with opened(browser, server) as page, server.client() as client:
        send(page, photograph)
        page.get_by_text(re.compile(r"large\.jpg: [1-9]\d? %")).wait_for()
        share = page.locator("#progress").evaluate("bar => bar.value")
        assert 0 < share < 1
        assert re.fullmatch(r"\d+ % – Derain", page.title())
        page.click("#cancel")
        page.wait_for_selector("#start:not([hidden])")
        # And the service stops: its thread ends long before the tiles do.
        while "derain_work_images 0.0" not in (metrics := client.get("/metrics").text):
            page.wait_for_timeout(50)
        assert 'derain_rejected_total{reason="DisconnectedError"} 1.0' in metrics
        assert 'derain_pixels_total{model="tiny"} 2.4e+07' not in metrics
        # The page is as good as before.
        derained(page, photo(tmp_path, "small.jpg"))


class Line(socketserver.ThreadingTCPServer):
    """A slow line to a server: of each connection so many bytes pass either way, and the rest when it may."""

    daemon_threads = False  # all have ended when it is closed
    most_bytes = 1_000_000

    def __init__(self, server: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self.server_port = server.port
        self.sending_goes_on, self.receiving_goes_on = threading.Event(), threading.Event()
        self.ends: list[socket.socket] = []

    def hang_up(self) -> None:
        self.shutdown()
        self.sending_goes_on.set()
        self.receiving_goes_on.set()
        for end in self.ends:
            _shut(end)


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        line = self.server
        assert isinstance(line, Line)
        with socket.create_connection(("127.0.0.1", line.server_port)) as called:
            line.ends += (self.request, called)
            back = (line.most_bytes, called, self.request, line.receiving_goes_on)
            receiving = threading.Thread(target=_pass_on, args=back)
            receiving.start()
            _pass_on(line.most_bytes, self.request, called, line.sending_goes_on)
            receiving.join()


def _pass_on(most_bytes: int, source: socket.socket, target: socket.socket, goes_on: threading.Event) -> None:
    passed = 0
    with suppress(OSError):  # either may hang up
        while data := source.recv(1 << 16):
            target.sendall(data)
            passed += len(data)
            if passed > most_bytes:
                goes_on.wait()
    for end in (source, target):
        _shut(end)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):  # it is shut
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def slow_line(server: Server) -> Iterator[tuple[Line, Server]]:
    """And the server as it is at the other end."""
    with Line(server) as line:
        threading.Thread(target=line.serve_forever, daemon=True).start()
        try:
            yield line, replace(server, port=line.server_address[1])
        finally:
            line.hang_up()


def test_a_slow_line_is_shown_both_ways(browser: "Browser", server: Server, tmp_path: Path) -> None:
    heavy = photo(tmp_path, "heavy.bmp", size=(1400, 2000))  # 8.4 MB
    with slow_line(server) as (line, far), opened(browser, far) as page:
        send(page, heavy)
        page.get_by_text(re.compile(r"heavy\.bmp: sending [1-7]\.\d of 8\.5 MB")).wait_for()
        sent = page.locator("#progress").evaluate("bar => bar.value")
        assert 0.1 < sent < 0.9
        assert re.fullmatch(r"Sending \d+ % – Derain", page.title())
        line.sending_goes_on.set()
        page.get_by_text(re.compile(r"heavy\.bmp: receiving [01]\.\d of 8\.5 MB")).wait_for()
        assert 0 < page.locator("#progress").evaluate("bar => bar.value") < 0.3
        line.receiving_goes_on.set()
        page.wait_for_selector(".stage.compares")
        with page.expect_download() as saved:
            page.click("#download")
        saved.value.save_as(tmp_path / "saved.bmp")
    with server.client() as client:
        assert (tmp_path / "saved.bmp").read_bytes() == client.post(
            "/v1/derain", content=heavy.read_bytes()
        ).content


def test_sending_can_be_cancelled(browser: "Browser", server: Server, tmp_path: Path) -> None:
    heavy = photo(tmp_path, "heavy.bmp", size=(1400, 2000))
    with slow_line(server) as (_, far), opened(browser, far) as page:
        send(page, heavy)
        page.get_by_text(re.compile("heavy.bmp: sending [1-7]")).wait_for()
        page.click("#cancel")
        page.wait_for_selector("#start:not([hidden])")
        derained(page, photo(tmp_path, "small.jpg"))


def test_one_of_the_queue_is_cancelled(browser: "Browser", server: Server, tmp_path: Path) -> None:
    """The first is still on its way, however slow this test is: the line holds it."""
    heavy = photo(tmp_path, "heavy.bmp", size=(1400, 2000))
    with slow_line(server) as (line, far), opened(browser, far) as page:
        send(page, heavy, photo(tmp_path, "small.jpg"), photo(tmp_path, "unwanted.jpg"))
        page.get_by_text(re.compile("heavy.bmp: sending [1-7]")).wait_for()
        assert states(page)[1:] == ["Waiting", "Waiting"]
        page.click("text=Cancel >> nth=-1")  # of the last one, before its turn
        page.click(".queue li:nth-child(1) >> text=Cancel")
        page.wait_for_selector(".queue li:nth-child(2) .state.done")
        assert states(page) == ["Cancelled.", "Ready"]
        page.click(".queue li:nth-child(1) .pick")
        line.sending_goes_on.set()
        line.receiving_goes_on.set()
        page.click("#retry")
        page.wait_for_selector(".queue li:nth-child(1) .state.done")


# Runs what follows as soon as the page draws what the selector names: no photo is loaded by then.
AS_SOON_AS = """([selector, act]) => {
  const seen = new MutationObserver(() => {
    if (!document.querySelector(selector)) return;
    seen.disconnect();
    document.querySelector(act).click();
  });
  seen.observe(document.body, { subtree: true, childList: true, attributes: true });
}"""


def test_a_retry_at_once_goes_ahead(browser: "Browser", server: Server, tmp_path: Path) -> None:
    """Before the photo that failed is on the stage again."""
    tries: list[str] = []

    def fail_at_first(route: "Route") -> None:
        tries.append(route.request.url)
        if len(tries) > 1:
            route.continue_()
        else:
            route.abort()

    with opened(browser, server) as page:
        page.route("**/v1/derain/progress*", fail_at_first)
        page.evaluate(AS_SOON_AS, ["#failed:not([hidden])", "#retry"])
        send(page, photo(tmp_path, "rain.jpg"))
        page.wait_for_selector("#done:not([hidden])")


def test_the_queue_goes_on_whatever_is_looked_at(browser: "Browser", server: Server, tmp_path: Path) -> None:
    """Another photo is picked before the first one's result is on the stage."""
    with opened(browser, server) as page:
        page.evaluate(AS_SOON_AS, [".queue li:nth-child(1) .done", ".queue li:nth-child(2) .pick"])
        send(page, *(photo(tmp_path, f"{name}.jpg") for name in ("one", "two", "three")))
        page.wait_for_selector(".queue li:nth-child(3) .state.done")
        assert states(page) == ["Ready"] * 3


def test_what_is_clicked_stays_where_it_is(browser: "Browser", server: Server, tmp_path: Path) -> None:
    """A photo that loads moves no button from under the pointer."""
    with opened(browser, server) as page:
        derained(page, photo(tmp_path, "one.jpg"))
        send(page, photo(tmp_path, "two.jpg"))
        page.wait_for_selector(".queue li:nth-child(2) .state.done")
        page.wait_for_selector(".stage.compares")
        tops = """() => {
          const top = () => document.querySelector('#bar').getBoundingClientRect().top;
          const before = top();
          return [1, 2, 2, 1].map((row) => {
            document.querySelector(`.queue li:nth-child(${row}) .pick`).click();
            return top() - before;
          });
        }"""
        assert page.evaluate(tops) == [0, 0, 0, 0]


@pytest.mark.parametrize(("shape", "drops"), [(DESK, True), (PHONE, False)], ids=["desk", "phone"])
def test_a_phone_is_not_asked_to_drop_files(
    browser: "Browser", server: Server, shape: dict[str, Any], drops: bool
) -> None:
    with opened(browser, server, **shape) as page:
        assert page.is_visible("text=Choose rainy photos")
        assert page.is_visible("text=or drop them here") == drops


def test_limits_are_told_before_and_kept(browser: "Browser", server: Server, tmp_path: Path) -> None:
    PilImage.new("1", (6000, 4168)).save(tmp_path / "huge.png")
    (tmp_path / "heavy.jpg").write_bytes(bytes(MAX_BYTES + 1))
    (tmp_path / "empty.jpg").write_bytes(b"")
    with opened(browser, server) as page:
        words = page.inner_text("#limits")
        assert "up to 25 megapixels and 20 MB each" in words
        assert "Your photos are not stored" in words
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        send(page, tmp_path / "huge.png", tmp_path / "heavy.jpg", tmp_path / "empty.jpg")
        page.wait_for_selector(".queue li:nth-child(3) .state.failed")
        assert page.inner_text("#error") == "huge.png has 25.1 megapixels; this service takes up to 25."
        page.click(".queue li:nth-child(2) .pick")
        assert page.inner_text("#error") == "heavy.jpg has 20.1 MB; this service takes files of up to 20 MB."
        page.click(".queue li:nth-child(3) .pick")
        assert page.inner_text("#error") == "empty.jpg is empty."
        assert "POST" not in sent


def test_the_model_is_chosen_on_the_result(browser: "Browser", server: Server, tmp_path: Path) -> None:
    with opened(browser, server) as page:
        derained(page, photo(tmp_path, "rain.jpg"))
        options = page.locator("#model option").all_inner_texts()
        assert options == ["tiny: a good balance", "wide: as fast"]
        page.select_option("#model", "wide")
        page.get_by_text(re.compile(r"· wide ·")).wait_for()
        assert page.input_value("#model") == "wide"


def test_what_browsers_do_not_show_is_shown_and_comes_as_it_was(
    browser: "Browser", server: Server, tmp_path: Path
) -> None:
    deep = tmp_path / "deep.tif"
    PilImage.fromarray(scene(200, 300)).save(deep)
    phone = tmp_path / "IMG_0001.HEIC"
    shutil.copy(ROOT / "tests/derain/images/files/turned.heic", phone)
    with opened(browser, server) as page:
        derained(page, deep)
        page.wait_for_selector(".stage.compares")
        assert page.locator("#before").evaluate("image => image.naturalWidth") == 300
        assert page.locator("#after").evaluate("image => image.naturalWidth") == 300
        with page.expect_download() as saved:
            page.click("#download")
        assert saved.value.suggested_filename == "deep-derained.tif"
        saved.value.save_as(tmp_path / "saved.tif")
        assert (tmp_path / "saved.tif").read_bytes()[:4] == b"II*\0"
        send(page, phone)
        page.wait_for_selector(".queue li:nth-child(2) .state.done")
        page.wait_for_selector(".stage.compares")
        with page.expect_download() as saved:
            page.click("#download")
        # The suffix says what is in the file.
        assert saved.value.suggested_filename == "IMG_0001-derained.jpg"


def test_a_dry_photo_is_said_to_be_dry(browser: "Browser", tmp_path: Path) -> None:
    """By a model that finds rain in what is bright."""
    model = write_estimating(tmp_path / "estimating")
    PilImage.fromarray(scene(300, 450) // 16).save(tmp_path / "dry.jpg")
    with serving(model, tmp_path) as server, opened(browser, server) as page:
        derained(page, tmp_path / "dry.jpg")
        assert "No rain found: dry.jpg came back as it was." in page.inner_text("#note")
        assert page.is_hidden("#handle")
        with page.expect_request(re.compile("force=true")):
            page.click("text=Try anyway")
        page.wait_for_selector(".stage.compares")
        assert page.is_hidden("#note")


def test_a_busy_service_is_asked_again(browser: "Browser", server: Server, tmp_path: Path) -> None:
    tries: list[str] = []

    def busy_at_first(route: "Route") -> None:
        tries.append(route.request.url)
        if len(tries) > 1:
            route.continue_()
        else:
            route.fulfill(
                status=429, headers={"retry-after": "1"}, content_type="application/problem+json", body="{}"
            )

    with opened(browser, server) as page:
        page.route("**/v1/derain/progress*", busy_at_first)
        send(page, photo(tmp_path, "rain.jpg"))
        page.get_by_text("rain.jpg: the service is busy, next try in 1 s").wait_for()
        page.wait_for_selector("#done:not([hidden])")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 413, "body": "<h1>413 Request Entity Too Large</h1>"}, "lets through"),
        ({"status": 502, "body": "<h1>502 Bad Gateway</h1>"}, "cannot be reached just now"),
        (
            {"status": 200, "body": "<h1>Please log in</h1>", "content_type": "text/html"},
            "replied in its place",
        ),
        ({"status": 418, "body": ""}, "the service could not do this"),
        ({"status": 200, "body": "--x\r\n", "content_type": "multipart/mixed; boundary=x"}, "was cut short"),
        (None, "there is no answer from the service"),
    ],
)
def test_errors_are_words_with_the_files_name(
    browser: "Browser", server: Server, tmp_path: Path, answer: dict[str, Any] | None, words: str
) -> None:
    asked: list[str] = []

    def answer_once(route: "Route") -> None:
        asked.append(route.request.url)
        if len(asked) > 1:
            route.continue_()
        elif answer:
            route.fulfill(**answer)
        else:
            route.abort()

    with opened(browser, server) as page:
        page.route("**/v1/derain/progress*", answer_once)
        send(page, photo(tmp_path, "rain.jpg"))
        page.wait_for_selector("#error:not(:empty)")
        said = page.inner_text("#error")
        assert said.startswith("rain.jpg: ")
        assert words in said
        assert not re.search(r"\d{3}|<", said)
        if answer and answer["status"] == 413:  # nor would it pass another time
            assert page.is_hidden("#retry")
        else:
            page.click("#retry")
            page.wait_for_selector("#done:not([hidden])")


def test_all_are_tried_again_once_the_service_is_back(
    browser: "Browser", server: Server, tmp_path: Path
) -> None:
    """But not what is wrong itself."""
    (tmp_path / "empty.jpg").write_bytes(b"")
    with opened(browser, server) as page:
        page.context.set_offline(True)
        send(page, *(photo(tmp_path, f"{name}.jpg") for name in ("one", "two")), tmp_path / "empty.jpg")
        page.wait_for_selector(".queue li:nth-child(3) .state.failed")
        assert "there is no answer from the service" in page.inner_text("#error")
        page.context.set_offline(False)
        page.click("text=Try all 2 again")
        page.wait_for_selector(".queue li:nth-child(2) .state.done")
        assert states(page) == ["Ready", "Ready", "Is empty."]
        page.click(".queue li:nth-child(3) .pick")
        assert page.is_hidden("#retry-all")
        assert page.is_hidden("#retry")


def test_a_huge_name_leaves_room_for_what_is_said(browser: "Browser", server: Server, tmp_path: Path) -> None:
    """And the result has it whole; the same file twice is two photos."""
    name = "w" * 240
    source = photo(tmp_path, f"{name}.png")
    with opened(browser, server, **PHONE) as page:
        derained(page, source, source)
        page.wait_for_selector(".queue li:nth-child(2) .state.done")
        rows = page.locator(".queue .name")
        assert rows.all_inner_texts() == ["w" * 30 + "…" + "w" * 11 + ".png"] * 2
        assert rows.first.get_attribute("title") == source.name
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        with page.expect_download() as saved:
            page.click("#download")
        assert saved.value.suggested_filename.startswith(name)


def test_photos_are_dropped_and_pasted(browser: "Browser", server: Server, tmp_path: Path) -> None:
    source = photo(tmp_path, "rain.jpg").read_bytes()
    with opened(browser, server) as page:
        give = """([values, kind]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([new Uint8Array(values)], `${kind}.jpg`, { type: 'image/jpeg' }));
          document.body.dispatchEvent(kind === 'drop'
            ? new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true })
            : new ClipboardEvent(kind, { clipboardData: carried, bubbles: true }));
        }"""
        page.evaluate(give, [list(source), "drop"])
        page.wait_for_selector("#done:not([hidden])")
        page.evaluate(give, [list(source), "paste"])
        page.wait_for_selector(".queue li:nth-child(2) .state.done")
        assert page.locator(".queue .name").all_inner_texts() == ["drop.jpg", "paste.jpg"]


def test_the_examples_are_there(browser: "Browser", server: Server) -> None:
    with opened(browser, server) as page:
        names = page.locator("[data-example]").evaluate_all("all => all.map((each) => each.dataset.example)")
        page.click(f"[data-example='{names[0]}']")
        page.wait_for_selector("#done:not([hidden])")
    assert len(names) == 3
    headers = [read_header((ROOT / "examples" / name).read_bytes(), MAX_PIXELS) for name in names]
    assert max(header.width * header.height for header in headers) >= 12_000_000
    readme = (ROOT / "examples/README.md").read_text()
    for name in names:
        assert f"`{name}`" in readme
        assert (ROOT / "examples" / name).stat().st_size < 800_000


def test_a_key_is_asked_for(browser: "Browser", model: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("camera 6b1e6d0ffb5ba1a9f4b94ba8a2d3e5d3fd4e7e4b7a1c0dc0f5c9f4c4c3ad8cbb")
    with serving(model, tmp_path, keys=tmp_path / "keys") as server, opened(browser, server) as page:
        page.wait_for_selector("#keyed:not([hidden])")
        send(page, photo(tmp_path, "rain.jpg"))
        page.wait_for_selector("#error:not(:empty)")
        assert "a key is needed" in page.inner_text("#error")
        page.fill("#key", "wrong ключ")  # which no header can carry
        page.click("#retry")
        page.locator("#error", has_text="this key is not known").wait_for()


def hold(page: "Page", query: str) -> list["Route"]:
    """Those requests with this in their query that wait; the test lets them go on."""
    held: list[Route] = []
    page.route(re.compile(rf"/v1/derain/progress\?.*{query}"), lambda route: held.append(route))
    return held


def let_go(page: "Page", held: list["Route"]) -> None:
    """The next one, as soon as it is there."""
    while not held:
        page.wait_for_timeout(20)
    held.pop().continue_()


def focused(page: "Page") -> str:
    return str(page.evaluate("document.activeElement.id"))


def test_a_result_stays_until_there_is_another(browser: "Browser", server: Server, tmp_path: Path) -> None:
    """Where it is cancelled, refused or fails; and before its turn."""
    one, two = photo(tmp_path, "one.jpg"), photo(tmp_path, "two.jpg", seed=2)
    answers: list[dict[str, Any] | None] = [None, {"status": 401, "body": ""}]

    def fail(route: "Route") -> None:
        if answer := answers.pop(0):
            route.fulfill(**answer)
        else:
            route.abort()

    with opened(browser, server) as page:
        derained(page, one)
        page.fill("#strength", "40")
        hold(page, "model=wide")
        page.select_option("#model", "wide")
        page.wait_for_selector("#doing:not([hidden])")
        page.click("#cancel")
        page.get_by_text(re.compile(r"· tiny ·")).wait_for()
        page.wait_for_selector(".stage.compares")
        assert page.input_value("#model") == "tiny"
        assert focused(page) == "blend"
        assert page.inner_text("#blend") == "Download at 40 %"
        assert page.is_hidden("#note")

        page.route(re.compile("model=wide"), fail)
        page.select_option("#model", "wide")
        page.locator("#note", has_text="one.jpg: there is no answer from the service").wait_for()
        assert page.is_visible("#blend")
        page.select_option("#model", "wide")
        page.locator("#note", has_text="one.jpg: the service could not do this").wait_for()
        assert page.is_visible("#keyed")

        page.unroute_all()
        page.select_option("#model", "wide")
        page.get_by_text(re.compile(r"· wide ·")).wait_for()
        assert page.is_hidden("#note")

        hold(page, "model=wide")
        send(page, two)
        page.wait_for_selector(".queue li:nth-child(2) .state.working")
        page.click(".queue li:nth-child(1) .pick")
        page.select_option("#model", "tiny")
        page.wait_for_selector(".queue li:nth-child(1) .state.waiting")
        page.click("#cancel")
        assert states(page)[0] == "Ready"
        page.get_by_text(re.compile(r"· wide ·")).wait_for()


def test_a_service_that_has_other_models_by_now(browser: "Browser", server: Server, tmp_path: Path) -> None:
    with opened(browser, server) as page:
        page.wait_for_selector("#model option", state="attached")
        page.evaluate("document.querySelector('#model').replaceChildren(new Option('gone', 'gone'))")
        send(page, photo(tmp_path, "rain.jpg"))
        page.wait_for_selector("#failed:not([hidden])")
        page.click("#retry")
        page.wait_for_selector("#done:not([hidden])")
        assert page.locator("#model option").count() == 2


def test_a_download_at_less_can_be_cancelled_and_said_to_fail(
    browser: "Browser", server: Server, tmp_path: Path
) -> None:
    source = photo(tmp_path, "rain.jpg")
    with opened(browser, server) as page:
        derained(page, source)
        page.fill("#strength", "40")
        # The link has all of the rain out: the browser must not offer to save that.
        assert page.is_hidden("#download")
        hold(page, "strength=0.4")
        page.click("#blend")
        page.wait_for_selector("#doing:not([hidden])")
        page.click("#cancel")
        page.wait_for_selector("#done:not([hidden])")
        assert focused(page) == "blend"
        page.unroute_all()
        with page.expect_download():
            page.click("#blend")
        page.wait_for_selector("#done:not([hidden])")
        assert focused(page) == "blend"
        # Of another result it is another file.
        page.select_option("#model", "wide")
        page.get_by_text(re.compile(r"· wide ·")).wait_for()
        page.fill("#strength", "40")
        with page.expect_download() as saved:
            page.click("#blend")
        saved.value.save_as(tmp_path / "saved.jpg")
        with server.client() as client:
            expected = client.post("/v1/derain?model=wide&strength=0.4", content=source.read_bytes()).content
        assert (tmp_path / "saved.jpg").read_bytes() == expected
        source.write_bytes(b"of another program")
        page.fill("#strength", "30")
        page.click("#blend")
        page.locator("#note", has_text="rain.jpg cannot be read").wait_for()


def test_photos_change_while_they_go_into_a_zip(browser: "Browser", server: Server, tmp_path: Path) -> None:
    files = [photo(tmp_path, f"{name}.png", seed=seed) for seed, name in enumerate(("one", "two", "three"))]
    with opened(browser, server) as page:
        derained(page, *files)
        page.wait_for_selector(".queue li:nth-child(3) .state.done")
        page.fill("#strength", "40")
        hold(page, "strength=0.4")
        zipped = page.get_by_text("Download all")

        zipped.click()
        page.wait_for_selector(".queue li:nth-child(1) .state.working")
        page.click("#cancel")
        page.locator("#note", has_text="There is no zip: it was cancelled.").wait_for()

        held = hold(page, "strength=0.4")
        zipped.click()
        page.wait_for_selector(".queue li:nth-child(1) .state.working")
        page.click(".queue li:nth-child(2) .pick")
        waiting = hold(page, "model=wide")
        page.select_option("#model", "wide")
        page.wait_for_selector(".queue li:nth-child(2) .state.working")
        let_go(page, held)
        page.locator("#note", has_text="There is no zip: two.png is in work.").wait_for()
        let_go(page, waiting)
        page.get_by_text(re.compile(r"· wide ·")).wait_for()

        page.click(".queue li:nth-child(1) .pick")
        page.fill("#strength", "41")
        held = hold(page, "strength=0.41")
        zipped.click()
        page.wait_for_selector(".queue li:nth-child(1) .state.working")
        page.click(".queue li:nth-child(3) .pick")
        page.click(".queue li:nth-child(3) >> text=Remove")
        with page.expect_download() as saved:
            let_go(page, held)
        saved.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive, server.client() as client:
        assert archive.namelist() == ["one-derained.png", "two-derained.png"]
        for name, file, query in zip(
            archive.namelist(), files[:2], ("strength=0.41", "model=wide"), strict=True
        ):
            expected = client.post(f"/v1/derain?{query}", content=file.read_bytes()).content
            assert archive.read(name) == expected, name


def test_who_leaves_is_asked_unless_all_is_saved(browser: "Browser", server: Server, tmp_path: Path) -> None:
    asked: list[str] = []

    def stay(dialog: "Dialog") -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    with opened(browser, server) as page:
        page.on("dialog", stay)
        held = hold(page, "")
        send(page, photo(tmp_path, "one.jpg"))
        page.wait_for_selector("#doing:not([hidden])")
        with page.expect_event("dialog"):
            page.click("h1 a")
        let_go(page, held)
        page.wait_for_selector("#done:not([hidden])")
        with page.expect_event("dialog"):
            page.click("h1 a")
        with page.expect_download():
            page.click("#download")
        page.click("h1 a")
        page.wait_for_selector("#start:not([hidden])")
        assert asked == ["beforeunload"] * 2


def test_the_view_is_the_one_that_is_chosen_after_going_back(
    browser: "Browser", server: Server, tmp_path: Path
) -> None:
    """Browsers fill a form in as it was, while the page begins anew."""
    with opened(browser, server) as page:
        derained(page, photo(tmp_path, "rain.jpg"))
        page.get_by_label("Removed rain").check()
        page.click("text=API documentation")
        page.wait_for_selector(".opblock")
        page.go_back()
        derained(page, tmp_path / "rain.jpg")
        assert page.get_by_label("Result").is_checked()


def test_the_boundary_is_let_go_anywhere(browser: "Browser", server: Server, tmp_path: Path) -> None:
    with opened(browser, server) as page:
        derained(page, photo(tmp_path, "rain.jpg"))
        page.wait_for_selector(".stage.compares")
        page.mouse.move(320, 300)
        page.mouse.down()
        page.mouse.move(960, 20)
        page.mouse.up()
        assert page.input_value("#split") == "75"
        page.mouse.move(640, 300)
        assert page.input_value("#split") == "75"


def test_a_finger_that_scrolls_leaves_the_boundary(
    browser: "Browser", server: Server, tmp_path: Path
) -> None:
    with opened(browser, server, **PHONE) as page:
        derained(page, photo(tmp_path, "rain.jpg", size=(500, 400)))
        page.wait_for_selector(".stage.compares")
        screen = page.context.new_cdp_session(page)

        def swipe(right: int, down: int) -> None:
            for kind, step in (("touchStart", 0), *(("touchMove", step) for step in range(1, 11))):
                at = {"x": 300 + right * step, "y": 300 + down * step}
                screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
            screen.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        swipe(1, -10)
        assert page.input_value("#split") == "50"
        page.evaluate("scrollTo(0, 0)")
        swipe(-20, 1)
        assert int(page.input_value("#split")) < 35


def test_a_panorama_leaves_room_for_its_buttons(browser: "Browser", server: Server, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("rain")
    with opened(browser, server, **PHONE) as page:
        derained(page, photo(tmp_path, "wide.jpg", size=(80, 1600)))
        page.wait_for_selector(".stage.compares")
        page.click("#zoom-in")
        assert page.locator("#stage").bounding_box()["height"] >= 200  # type: ignore[index]
        send(page, tmp_path / "notes.txt")
        page.wait_for_selector("#error:not(:empty)")
        page.wait_for_selector(".stage.folded", state="attached")
        assert page.locator("#stage").evaluate("stage => stage.clientHeight") == 0


def test_what_is_chosen_is_seen_in_forced_colours(browser: "Browser", server: Server, tmp_path: Path) -> None:
    ground = "element => getComputedStyle(element).backgroundColor"
    with opened(browser, server, **DESK, forced_colors="active") as page:
        derained(page, photo(tmp_path, "one.jpg"), photo(tmp_path, "two.jpg"))
        page.wait_for_selector(".queue li:nth-child(2) .state.done")
        for area in (".views span", ".queue .pick", ".zoom button"):
            assert len(set(page.locator(area).evaluate_all(f"all => all.map({ground})"))) == 2, area


def test_keys_and_rows_after_keys(browser: "Browser", server: Server, tmp_path: Path) -> None:
    files = [photo(tmp_path, f"{name}.jpg") for name in ("one", "two", "three")]
    with opened(browser, server) as page:
        derained(page, *files)
        page.wait_for_selector(".queue li:nth-child(3) .state.done")
        page.wait_for_selector(".stage.compares")
        page.focus("#more-files")
        page.keyboard.press("1")
        assert page.get_attribute("#zoom-full", "aria-pressed") == "true"
        # What is removed leaves the focus beside where it was.
        page.focus(".queue li:nth-child(2) >> text=Remove")
        page.keyboard.press("Enter")
        assert page.locator(".queue li:nth-child(2) .pick:focus").inner_text().startswith("three.jpg")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert focused(page) == "download"


def test_a_double_click_on_cancel_removes_nothing(browser: "Browser", server: Server, tmp_path: Path) -> None:
    with opened(browser, server) as page:
        hold(page, "")
        send(page, photo(tmp_path, "one.jpg"), photo(tmp_path, "two.jpg"))
        page.wait_for_selector(".queue li:nth-child(1) .state.working")
        row = page.locator(".queue li:nth-child(1)")
        row.get_by_text("Cancel").click()
        row.get_by_text("Remove").dispatch_event("click", {"detail": 2})
        assert states(page)[0] == "Cancelled."
        row.get_by_text("Remove").click()
        assert page.locator(".queue li").count() == 1


def test_an_error_is_said_once(browser: "Browser", server: Server, tmp_path: Path) -> None:
    """Not with each report of the photos that follow."""
    (tmp_path / "empty.jpg").write_bytes(b"")
    with opened(browser, server) as page:
        page.evaluate(
            """() => {
              window.said = 0;
              const heard = new MutationObserver((changes) => { window.said += changes.length; });
              heard.observe(document.querySelector('#error'), { childList: true });
            }"""
        )
        send(page, tmp_path / "empty.jpg", photo(tmp_path, "one.jpg"), photo(tmp_path, "two.jpg"))
        page.wait_for_selector(".queue li:nth-child(3) .state.done")
        assert page.evaluate("said") == 1


def test_names_are_cut_between_letters_and_fit_on_a_disk(browser: "Browser", server: Server) -> None:
    with opened(browser, server) as page:

        def words(call: str, *values: object) -> Any:
            return page.evaluate(f"async (all) => (await import('/page/words.js')).{call}(...all)", values)

        assert words("short", "🌧" * 40 + ".jpg") == "🌧" * 40 + ".jpg"
        assert words("short", "🌧" * 60 + ".jpg") == "🌧" * 30 + "…" + "🌧" * 11 + ".jpg"
        long = words("resultName", "🌧" * 60 + "abcdefg.jpg", "image/jpeg")
        names = words("distinct", [long, long, "rain.jpg"])
        assert names == ["🌧" * 60 + "ab-derained.jpg", "🌧" * 60 + "ab-derain-2.jpg", "rain.jpg"]
        assert [len(name.encode()) for name in names] == [255, 255, 8]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_description_is_as_light_or_dark(browser: "Browser", server: Server, scheme: str) -> None:
    with opened(browser, server, "docs", **DESK, color_scheme=scheme) as page:
        page.wait_for_selector(".opblock")
        assert (seen(page.locator("html")).mean() < 80) == (scheme == "dark")
        page.click("text=Authorize")
        dialog = page.locator(".modal-ux").bounding_box()
        assert dialog is not None
        assert 0 <= dialog["y"] <= DESK["viewport"]["height"] - dialog["height"]
        assert (pixels(page.screenshot()).mean() < 80) == (scheme == "dark")
