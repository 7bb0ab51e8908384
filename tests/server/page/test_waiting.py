"""While the network works, and while files are on their way."""

import nibabel as nib
import numpy as np
import pytest

from tests.server.live import model_that_obeys, named, serving, shown, write_image
from tests.server.page.browser import Gate, differing, opened

FREE = ((7, 10, 5), (13, 12, 5), (2, 2, 5))
"""Voxels of no label in one slice."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("waiting")
    (folder / "studies").mkdir()
    write_image(folder / "studies" / "case.nii.gz")
    write_image(folder / "studies" / "other.nii.gz", "LPS")
    return folder


@pytest.fixture(scope="module")
def gated(folder):
    """A server whose network answers only while the gate is open."""
    model = model_that_obeys()
    gate = Gate(model)
    with serving(named(model, folder), folder / "studies") as live:
        yield live, gate
        gate.is_open.set()


@pytest.fixture(autouse=True)
def nothing_remembered(gated):
    """Else the server would answer again, without the network, what another test has asked."""
    gated[0].service.sessions[0].forget()


def test_clicks_made_while_the_network_works_wait_and_go_in_order(browser, gated):
    server, gate = gated
    with opened(browser, server.url) as tab:
        tab.press("1")
        asked = len(tab.asked)
        with gate.closed():
            for voxel in FREE:
                tab.click_voxel(voxel)
            tab.wait_for("2 more steps wait")
            assert len(tab.asked) == asked + 1
            tab.scroll_to("Axial", 2)
            picture = tab.picture()
            tab.scroll_to("Axial", 5)
            assert len(differing(picture, tab.picture())), "the page stays usable"
        tab.settle()
        assert tab.clicks == [["left", list(voxel)] for voxel in FREE]
        assert len(tab.asked) == asked + 2, "what waited went together"
        assert len(tab.steps) == 3, "but each as a step of its own"


def test_undo_gives_up_what_is_not_wanted_any_more(browser, gated):
    server, gate = gated
    with opened(browser, server.url) as tab:
        before = tab.volume("left")
        tab.press("1")
        with gate.closed():
            tab.click_voxel(FREE[0])
            tab.wait_for("Working on it")
            tab.press("Control+z").settle()
            assert tab.page.locator("#clicks li").count() == 0
        tab.click_voxel(FREE[1])
        tab.settle()
        assert tab.clicks == [["left", list(FREE[1])]]
        assert tab.volume("left") > before


def test_cancelling_takes_back_what_was_not_answered(browser, gated):
    server, gate = gated
    with opened(browser, server.url) as tab:
        tab.press("1")
        tab.click_voxel(FREE[0])
        tab.settle()
        volume = tab.volume("left")
        with gate.closed():
            tab.click_voxel(FREE[1])
            tab.click_voxel(FREE[2])
            tab.button("Cancel").click()
            tab.settle()
        assert tab.page.locator("#clicks > li").count() == 1
        assert tab.volume("left") == volume
        tab.click_voxel(FREE[2])
        tab.settle()
        assert [click[1] for click in tab.clicks] == [list(FREE[0]), list(FREE[2])]


def test_cancelling_an_undo_leaves_what_can_be_undone(browser, gated):
    server, gate = gated
    with opened(browser, server.url) as tab:
        tab.press("1")
        for voxel in FREE:
            tab.click_voxel(voxel)
            tab.settle()
        volume = tab.volume("left")
        server.service.sessions[0].forget()
        with gate.closed():
            tab.press("Control+z", "Control+z", "Control+z")
            tab.button("Cancel").click()
            tab.settle()
        assert tab.page.locator("#clicks > li").count() == 3
        assert tab.volume("left") == volume
        for left in (2, 1, 0):
            tab.press("Control+z").settle()
            assert tab.page.locator("#clicks > li").count() == left
        assert tab.button("Undo").is_disabled()
        tab.press(*["Control+Shift+z"] * 3).settle()
        assert tab.volume("left") == volume


def test_the_image_is_shown_before_the_automatic_pass_which_can_be_cancelled(browser, gated):
    server, gate = gated
    with gate.closed(), opened(browser, server.url, wait=False) as tab:
        tab.wait_for("Segmenting automatically")
        assert np.ptp(tab.picture()) > 200, "the image is shown"
        tab.button("Cancel").click()
        tab.settle()
        assert tab.page.locator("#labels .number").first.inner_text() == ""
        gate.is_open.set()
        tab.button("Segment").click()
        tab.settle()
        assert tab.volume("left") == pytest.approx((shown() == 1).sum() / 1000, abs=0.01)


def test_another_image_gives_up_the_work_on_the_one_before(browser, gated):
    server, gate = gated
    with opened(browser, server.url, wait=False) as tab:
        given_up: list[str] = []
        tab.page.on("requestfailed", lambda request: given_up.append(request.url))
        with gate.closed():
            tab.page.reload()
            tab.wait_for("Segmenting automatically")
            given_up.clear()
            tab.page.get_by_role("combobox", name="Case", exact=True).select_option("other")
            tab.wait_for("Segmenting automatically")
            assert [url.rpartition("/")[2] for url in given_up] == ["segment"]
        tab.settle()
        assert [asked["image"] for asked in tab.asked[-2:]] == ["case", "other"]
        assert tab.volume("left") > 0


def test_progress_is_told(browser, folder, tmp_path):
    """Of a volume of several windows: how many are done."""
    noise = np.random.default_rng(0).integers(0, 3, (40, 40, 40)).astype(np.float32)
    (tmp_path / "studies").mkdir()
    nib.save(nib.Nifti1Image(noise, np.eye(4)), tmp_path / "studies" / "large.nii.gz")
    model = model_that_obeys()
    gate, windows = Gate(model), []
    answer = gate.answer

    def after_two_windows(x):
        windows.append(None)
        if len(windows) == 3:
            gate.is_open.clear()
            gate.is_open.wait(60)
        return answer(x)

    gate.answer = after_two_windows
    with serving(named(model, tmp_path), tmp_path / "studies") as live:
        try:
            with opened(browser, live.url, wait=False) as tab:
                tab.wait_for("Segmenting automatically")
                tab.page.locator("progress[value]").wait_for()
                assert 0 < float(tab.page.locator("progress").get_attribute("value")) < 0.5
        finally:
            gate.is_open.set()


def test_what_the_server_refuses_is_said_in_its_sentence(browser, gated):
    server, _ = gated
    with opened(browser, server.url) as tab:
        answer = {"status": 400, "json": {"detail": "the network has had enough for today"}}
        tab.page.route("**/api/segment", lambda route: route.fulfill(**answer))
        tab.press("1")
        tab.click_voxel(FREE[0])
        tab.settle()
        assert tab.error == "the network has had enough for today"
        assert tab.page.locator("#clicks li").count() == 0
        tab.page.unroute("**/api/segment")
        tab.click_voxel(FREE[1])
        tab.settle()
        assert not tab.error


def test_a_refused_click_leaves_those_that_were_made_after_it(browser, gated):
    server, _ = gated
    with opened(browser, server.url) as tab:
        held = []
        tab.page.route("**/api/segment", lambda route: route.continue_() if held else held.append(route))
        tab.press("1")
        tab.click_voxel(FREE[0])
        until_held(tab, held)
        tab.click_voxel(FREE[1])
        held[0].fulfill(status=400, json={"detail": "this label is locked there"})
        tab.settle()
        assert tab.error == "this label is locked there"
        assert tab.clicks == [["left", list(FREE[1])]]
        tab.press("Control+z").settle()
        assert tab.page.locator("#clicks > li").count() == 0
        assert not tab.error


def until_held(tab, held: list) -> None:
    """Wait until a request is held back."""
    while not held:
        tab.page.wait_for_timeout(20)


def test_what_fails_for_now_can_be_tried_again(browser, gated):
    server, _ = gated
    with opened(browser, server.url) as tab:
        answer = {"status": 503, "json": {"detail": "the memory of the server did not suffice"}}
        tab.page.route("**/api/segment", lambda route: route.fulfill(**answer))
        tab.press("1")
        tab.click_voxel(FREE[0])
        tab.settle()
        assert tab.error == "the memory of the server did not suffice"
        assert tab.page.locator("#clicks li").count() == 1, "the click is kept"
        tab.page.unroute("**/api/segment")
        tab.button("Try again").click()
        tab.settle()
        assert tab.clicks == [["left", list(FREE[0])]]
        assert not tab.error


def test_clicks_made_while_a_file_is_sent_are_not_lost_unasked(browser, gated, tmp_path):
    server, _ = gated
    with opened(browser, server.url) as tab:
        held, asked = [], []
        tab.page.route("**/session/", lambda route: held.append(route))
        tab.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        tab.page.locator("#file").set_input_files(write_image(tmp_path / "mine.nii.gz", "LPS"))
        tab.wait_for("Sending mine.nii.gz")
        tab.press("1")
        tab.click_voxel(FREE[0])
        until_held(tab, held)
        held[0].continue_()
        tab.settle()
        assert len(asked) == 1
        assert tab.clicks == [["left", list(FREE[0])]]
        assert tab.page.locator("#case").input_value() == "case"


def test_a_file_that_cannot_be_read_is_told_of(browser, gated, tmp_path):
    """As a folder that was dropped, or a file that changed after it was chosen."""
    server, _ = gated
    with opened(browser, server.url) as tab:
        tab.page.evaluate(
            "() => { Blob.prototype.arrayBuffer = () => Promise.reject(new DOMException('', 'NotFoundError')); }"
        )
        tab.drop(write_image(tmp_path / "mine.nii.gz"))
        assert tab.error.startswith("mine.nii.gz cannot be read")
        assert "does not answer" not in tab.status
