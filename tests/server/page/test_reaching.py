"""Who can use the page, and from where: by keyboard alone, with a screen reader, with a token, behind a proxy."""

import http.client
import re
import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deepedit.server.access import Access
from tests.server.live import SHAPE, model_that_obeys, named, serving, write_image
from tests.server.page.browser import NARROW, PLANES, WIDE, opened

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reaching")
    (folder / "studies").mkdir()
    for name in ("case_0", "case_1"):
        write_image(folder / "studies" / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with serving(named(model_that_obeys(), folder), folder / "studies") as live:
        yield live


def problems(tab) -> list[str]:
    """What axe-core finds."""
    found = axe.Axe().run(tab.page).response["violations"]
    return [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser, server, size, theme):
    with opened(browser, server.url, size, color_scheme=theme) as tab:
        assert problems(tab) == []
        tab.press("1", "g")
        for pixel in (tab.middle(), (150, 150)):
            tab.click("Axial", pixel)
        tab.press("g").settle()
        tab.page.locator("#clicks summary").click()
        tab.button("Lock left").click()
        tab.settle()
        assert problems(tab) == []
        tab.page.route("**/api/segment", lambda route: route.fulfill(status=400, json={"detail": "no"}))
        tab.press("2")
        tab.click("Axial", (100, 100))
        tab.settle()
        assert tab.error
        assert problems(tab) == []
        tab.page.keyboard.press("?")
        assert tab.page.get_by_role("dialog").is_visible()
        assert problems(tab) == []


def tab_to(tab, name: str, role: str = "button") -> None:
    """Press the key Tab until something has the focus."""
    wanted = tab.page.get_by_role(role, name=re.compile(f"^{name}")).first.element_handle()
    for _ in range(80):
        tab.page.keyboard.press("Tab")
        if tab.page.evaluate("(wanted) => document.activeElement === wanted", wanted):
            return
    raise AssertionError(f"the key Tab does not reach {name}")


def slices(tab) -> list[int]:
    return [int(tab.page.get_by_label(f"{plane} slice", exact=True).input_value()) for plane in PLANES]


def test_the_keyboard_alone_suffices(browser, server):
    """No pointer is used: clicks, groups, strokes, tools, labels, locks, cases, files."""
    with opened(browser, server.url) as tab:
        tab_to(tab, "Axial plane", "application")
        tab.press("2", "ArrowRight", "ArrowUp", "PageUp", "Enter").settle()
        # To the right of the page is the patient's left, upwards the front.
        voxel = [SHAPE[0] // 2 - 1, SHAPE[1] // 2 + 1, SHAPE[2] // 2 + 1]
        assert tab.clicks == [["right lung", voxel]]
        assert slices(tab) == voxel[::-1]
        tab.page.keyboard.down("Shift")
        for key in ("Enter", "ArrowLeft", "ArrowLeft", "Enter"):
            tab.page.keyboard.press(key)
        tab.page.keyboard.up("Shift")
        tab.settle()
        assert len(tab.steps[1]["clicks"]) == 2
        tab.press("s", "1", "Enter", "ArrowDown", "ArrowDown", "ArrowDown", "Enter").settle()
        assert [click[0] for click in tab.steps[2]["clicks"]] == ["left"] * 4
        tab.press("c", "Enter", "0", "Enter").settle()
        assert len(tab.steps) == 5
        assert tab.clicks[-1][0] == "background"
        tab.press("Control+z", "Control+z", "Control+Shift+z").settle()
        assert len(tab.steps) == 4
        before = tab.picture("Coronal")
        for keys in (["w", "ArrowDown", "ArrowDown"], ["z", "ArrowUp"], ["p", "ArrowRight"], ["+"]):
            tab.press(*keys)
            after = tab.picture("Coronal")
            assert abs(after - before).max() > 30
            before = after
        tab.press("f", "c", "1", "k").settle()
        assert tab.steps[-1] == {"lock": "left"}
        tab_to(tab, "Sagittal plane", "application")
        at = slices(tab)
        tab.press("ArrowLeft", "ArrowDown")
        assert slices(tab) == [at[0] - 1, at[1] + 1, at[2]]
        tab_to(tab, "Remove right lung at")
        removed = tab.clicks
        tab.press("Enter").settle()
        assert tab.clicks == removed[1:]
        assert tab.page.evaluate("document.activeElement.closest('#clicks') !== null"), "the focus stays in the list"
        tab_to(tab, "Show left")
        tab.press("Space")
        assert tab.page.get_by_role("button", name="Show left").get_attribute("aria-pressed") == "false"
        tab_to(tab, "Save session")
        tab.page.once("dialog", lambda dialog: dialog.accept())
        tab_to(tab, "Case", "combobox")
        tab.press("ArrowDown").settle()
        assert tab.page.locator("#case").input_value() == "case_1"
        tab.press("Tab", "?")
        assert tab.page.get_by_role("dialog").is_visible()
        tab.press("Escape")
        assert not tab.page.get_by_role("dialog").is_visible()


def test_the_planes_of_a_narrow_page_are_tabs_for_the_keyboard_too(browser, server):
    with opened(browser, server.url, NARROW) as tab:
        tab_to(tab, "Axial", "tab")
        tab.press("ArrowRight")
        assert tab.canvas("Coronal").is_visible()
        tab.press("ArrowLeft", "ArrowLeft")
        assert tab.canvas("Sagittal").is_visible()
        assert not tab.canvas("Axial").is_visible()


def test_nothing_is_wider_than_a_narrow_page(browser, server):
    for size in (NARROW, (320, 640), (720, 800), WIDE):
        with opened(browser, server.url, size) as tab:
            width = tab.page.evaluate("document.scrollingElement.scrollWidth")
            assert width <= size[0], f"{width} pixels on a page of {size[0]}"


def test_a_token_is_asked_for_and_then_not_again(browser, folder, tmp_path):
    models = named(model_that_obeys(), folder)
    studies = shutil.copytree(folder / "studies", tmp_path / "studies")  # one server at a time works on a folder
    with (
        serving(models, studies, Access(TOKEN)) as live,
        opened(browser, live.url, wait=False) as tab,
    ):
        dialog = tab.page.get_by_role("dialog", name="Log in")
        dialog.wait_for()
        assert problems(tab) == []
        dialog.get_by_label("Token").fill("a wrong one")
        dialog.get_by_role("button", name="Log in").click()
        dialog.get_by_text("token", exact=False).last.wait_for()
        tab.page.locator("#login-error:not(:empty)").wait_for()
        dialog.get_by_label("Token").fill(TOKEN)
        tab.press("Enter")
        tab.page.get_by_text(" ml").first.wait_for()
        tab.press("1")
        tab.click("Axial", tab.middle())
        tab.settle()
        assert len(tab.clicks) == 1
        assert TOKEN not in tab.page.evaluate(
            "document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })"
        )
        tab.page.reload()
        tab.page.get_by_text(" ml").first.wait_for()
        assert not dialog.is_visible()


@contextmanager
def proxy(port: int, prefix: str):
    """A reverse proxy that serves all of a server below a prefix, and nothing else."""

    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            if not self.path.startswith(f"/{prefix}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request(self.command, self.path.removeprefix(f"/{prefix}"), body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_POST = do_PUT = do_DELETE = forward

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}/{prefix}/"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def test_behind_the_prefix_of_a_proxy(browser, server):
    port = int(server.url.rpartition(":")[2])
    with proxy(port, "tools/deepedit") as url, opened(browser, url) as tab:
        tab.press("1")
        tab.click("Axial", tab.middle())
        tab.settle()
        assert len(tab.clicks) == 1
        assert tab.volume("left") > 0
        with tab.page.expect_download():
            tab.button("Save").click()
