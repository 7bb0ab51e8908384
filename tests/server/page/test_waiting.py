"""While the network works, and when the server is gone."""

import shutil
from contextlib import ExitStack
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from deepedit.plan import Labels
from tests.server.live import LABELS, SHAPE, model_that_obeys, named, serving, shown, truth, write_image
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


@pytest.fixture
def own(folder, tmp_path):
    """A copy of the studies, since one server at a time works on a folder."""
    return shutil.copytree(folder / "studies", tmp_path / "studies")


@pytest.fixture(autouse=True)
def nothing_remembered(gated):
    """Else the server would answer again, without the network, what another test has asked."""
    gated[0].service.sessions[0].forget()


def click_voxel(tab, voxel) -> None:
    tab.scroll_to("Axial", voxel[2])
    tab.click("Axial", tab.pixel_of("Axial", voxel, SHAPE))
    tab.draw()


def test_clicks_made_while_the_network_works_wait_and_go_in_order(browser, gated):
    server, gate = gated
    with opened(browser, server.url) as tab:
        tab.press("1")
        asked = len(tab.asked)
        with gate.closed():
            for voxel in FREE:
                click_voxel(tab, voxel)
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
            click_voxel(tab, FREE[0])
            tab.wait_for("Working on it")
            tab.press("Control+z").settle()
            assert tab.page.locator("#clicks li").count() == 0
        click_voxel(tab, FREE[1])
        tab.settle()
        assert tab.clicks == [["left", list(FREE[1])]]
        assert tab.volume("left") > before


def test_cancelling_takes_back_what_was_not_answered(browser, gated):
    server, gate = gated
    with opened(browser, server.url) as tab:
        tab.press("1")
        click_voxel(tab, FREE[0])
        tab.settle()
        volume = tab.volume("left")
        with gate.closed():
            click_voxel(tab, FREE[1])
            click_voxel(tab, FREE[2])
            tab.button("Cancel").click()
            tab.settle()
        assert tab.page.locator("#clicks > li").count() == 1
        assert tab.volume("left") == volume
        click_voxel(tab, FREE[2])
        tab.settle()
        assert [click[1] for click in tab.clicks] == [list(FREE[0]), list(FREE[2])]


def test_cancelling_an_undo_leaves_what_can_be_undone(browser, gated):
    server, gate = gated
    with opened(browser, server.url) as tab:
        tab.press("1")
        for voxel in FREE:
            click_voxel(tab, voxel)
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
        click_voxel(tab, FREE[0])
        tab.settle()
        assert tab.error == "the network has had enough for today"
        assert tab.page.locator("#clicks li").count() == 0
        tab.page.unroute("**/api/segment")
        click_voxel(tab, FREE[1])
        tab.settle()
        assert not tab.error


def test_a_refused_click_leaves_those_that_were_made_after_it(browser, gated):
    server, _ = gated
    with opened(browser, server.url) as tab:
        held = []
        tab.page.route("**/api/segment", lambda route: route.continue_() if held else held.append(route))
        tab.press("1")
        click_voxel(tab, FREE[0])
        until_held(tab, held)
        click_voxel(tab, FREE[1])
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
        click_voxel(tab, FREE[0])
        tab.settle()
        assert tab.error == "the memory of the server did not suffice"
        assert tab.page.locator("#clicks li").count() == 1, "the click is kept"
        tab.page.unroute("**/api/segment")
        tab.button("Try again").click()
        tab.settle()
        assert tab.clicks == [["left", list(FREE[0])]]
        assert not tab.error


def test_the_server_is_gone_and_comes_back(browser, folder, own):
    """The clicks are still there, and are sent again: to a server that knows nothing of them."""
    models, studies = named(model_that_obeys(), folder), own
    with ExitStack() as stack:
        with serving(models, studies) as live:
            tab = stack.enter_context(opened(browser, live.url))
            tab.press("1")
            click_voxel(tab, FREE[0])
            tab.settle()
            one = tab.volume("left")
        click_voxel(tab, FREE[1])
        tab.wait_for("The server does not answer")
        assert tab.page.locator("#clicks > li").count() == 2
        tab.scroll_to("Coronal", 3)
        assert np.ptp(tab.picture("Coronal")) > 200, "the image is still shown"
        with serving(models, studies, port=port_of(live)):
            tab.settle()
            assert "does not answer" not in tab.status
            assert [click[1] for click in tab.clicks] == [list(FREE[0]), list(FREE[1])]
            assert tab.volume("left") > one
            tab.press("Control+z").settle()
            assert tab.volume("left") == one


def test_what_was_dropped_is_sent_again_to_a_new_server(browser, folder, own, tmp_path):
    """An image, and the segmentation that it starts from: a server forgets both when it ends."""
    image = write_image(tmp_path / "mine.nii.gz", "LPS")
    affine = nib.load(image).affine
    nib.save(nib.Nifti1Image(np.array([0, *LABELS.values], np.uint8)[truth()], affine), tmp_path / "start.nii.gz")
    models, studies = named(model_that_obeys(), folder), own
    with ExitStack() as stack:
        with serving(models, studies) as live:
            tab = stack.enter_context(opened(browser, live.url))
            tab.drop(image)
            tab.drop(tmp_path / "start.nii.gz", onto="start")
            before = tab.volume("left")
        tab.press("1")
        click_voxel(tab, FREE[0])
        with serving(models, studies, port=port_of(live)):
            tab.settle()
            assert not tab.error
            assert len(tab.clicks) == 1
            assert tab.volume("left") > before == pytest.approx((truth() == 1).sum() / 1000, abs=0.01)


def port_of(live) -> int:
    return int(live.url.rpartition(":")[2])


def test_clicks_made_while_a_file_is_sent_are_not_lost_unasked(browser, gated, tmp_path):
    server, _ = gated
    with opened(browser, server.url) as tab:
        held, asked = [], []
        tab.page.route("**/session/", lambda route: held.append(route))
        tab.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        tab.page.locator("#file").set_input_files(write_image(tmp_path / "mine.nii.gz", "LPS"))
        tab.wait_for("Sending mine.nii.gz")
        tab.press("1")
        click_voxel(tab, FREE[0])
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


def test_another_server_in_place_of_the_one_before(browser, folder, own, tmp_path):
    """Its labels are shown, and steps for labels that it does not have are left out with a word."""
    with ExitStack() as stack:
        with serving(named(model_that_obeys(), folder), own) as live:
            tab = stack.enter_context(opened(browser, live.url))
            tab.press("1")
            click_voxel(tab, FREE[0])
            tab.settle()
        click_voxel(tab, FREE[1])
        tab.wait_for("The server does not answer")
        other = replace(
            model_that_obeys(), plan=replace(model_that_obeys().plan, labels=Labels(("up", "down"), (1, 2)))
        )
        with serving(named(other, folder), own, port=port_of(live)):
            tab.page.locator("#labels").get_by_text("down", exact=True).wait_for()
            tab.settle()
            assert tab.page.locator("#labels").get_by_text("left", exact=True).count() == 0
            assert "2 of the steps are for labels that deepedit does not have" in tab.status
            assert tab.steps == []


def test_sessions_that_are_dropped_are_rebuilt_unseen(browser, folder, own):
    """With less memory than one session takes, each answer is worked out from the start, and is the same."""
    volumes = []
    for memory in (2**28, 2**12):
        with (
            serving(named(model_that_obeys(), folder), own, memory=memory) as live,
            opened(browser, live.url) as tab,
        ):
            tab.press("1", "x")
            for voxel in FREE:
                click_voxel(tab, voxel)
                tab.settle()
            tab.press("Control+z", "Control+z").settle()
            volumes.append((tab.volume("left"), tab.volume("right lung"), tab.picture()))
            dropped = any("dropped" in line for line in live.said)
            assert dropped == (memory == 2**12)
    assert volumes[0][:2] == volumes[1][:2]
    assert len(differing(volumes[0][2], volumes[1][2])) == 0
