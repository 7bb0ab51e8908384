"""When the server is gone, and when it is there again, or another one in its place."""

from contextlib import ExitStack
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from deepedit.plan import Labels
from tests.server.live import LABELS, model_that_obeys, named, serving, truth, write_image
from tests.server.page.browser import differing, opened

FREE = ((7, 10, 5), (13, 12, 5), (2, 2, 5))
"""Voxels of no label in one slice."""


@pytest.fixture
def studies(tmp_path):
    """A folder with one case."""
    (tmp_path / "studies").mkdir()
    write_image(tmp_path / "studies" / "case.nii.gz")
    return tmp_path / "studies"


def test_the_server_is_gone_and_comes_back(browser, studies, tmp_path):
    """The clicks are still there, and are sent again: to a server that knows nothing of them."""
    models = named(model_that_obeys(), tmp_path)
    with ExitStack() as stack:
        with serving(models, studies) as live:
            tab = stack.enter_context(opened(browser, live.url))
            tab.press("1")
            tab.click_voxel(FREE[0])
            tab.settle()
            one = tab.volume("left")
        tab.click_voxel(FREE[1])
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


def test_what_was_dropped_is_sent_again_to_a_new_server(browser, studies, tmp_path):
    """An image, and the segmentation that it starts from: a server forgets both when it ends."""
    image = write_image(tmp_path / "mine.nii.gz", "LPS")
    affine = nib.load(image).affine
    nib.save(nib.Nifti1Image(np.array([0, *LABELS.values], np.uint8)[truth()], affine), tmp_path / "start.nii.gz")
    models = named(model_that_obeys(), tmp_path)
    with ExitStack() as stack:
        with serving(models, studies) as live:
            tab = stack.enter_context(opened(browser, live.url))
            tab.drop(image)
            tab.drop(tmp_path / "start.nii.gz", onto="start")
            before = tab.volume("left")
        tab.press("1")
        tab.click_voxel(FREE[0])
        with serving(models, studies, port=port_of(live)):
            tab.settle()
            assert not tab.error
            assert len(tab.clicks) == 1
            assert tab.volume("left") > before == pytest.approx((truth() == 1).sum() / 1000, abs=0.01)


def port_of(live) -> int:
    return int(live.url.rpartition(":")[2])


def test_another_server_in_place_of_the_one_before(browser, studies, tmp_path):
    """Its labels are shown, and steps for labels that it does not have are left out with a word."""
    with ExitStack() as stack:
        with serving(named(model_that_obeys(), tmp_path), studies) as live:
            tab = stack.enter_context(opened(browser, live.url))
            tab.press("1")
            tab.click_voxel(FREE[0])
            tab.settle()
        tab.click_voxel(FREE[1])
        tab.wait_for("The server does not answer")
        other = replace(
            model_that_obeys(), plan=replace(model_that_obeys().plan, labels=Labels(("up", "down"), (1, 2)))
        )
        with serving(named(other, tmp_path), studies, port=port_of(live)):
            tab.page.locator("#labels").get_by_text("down", exact=True).wait_for()
            tab.settle()
            assert tab.page.locator("#labels").get_by_text("left", exact=True).count() == 0
            assert "2 of the steps are for labels that deepedit does not have" in tab.status
            assert tab.steps == []


def test_sessions_that_are_dropped_are_rebuilt_unseen(browser, studies, tmp_path):
    """With less memory than one session takes, each answer is worked out from the start, and is the same."""
    volumes = []
    for memory in (2**28, 2**12):
        with (
            serving(named(model_that_obeys(), tmp_path), studies, memory=memory) as live,
            opened(browser, live.url) as tab,
        ):
            tab.press("1", "x")
            for voxel in FREE:
                tab.click_voxel(voxel)
                tab.settle()
            tab.press("Control+z", "Control+z").settle()
            volumes.append((tab.volume("left"), tab.volume("right lung"), tab.picture()))
            dropped = any("dropped" in line for line in live.said)
            assert dropped == (memory == 2**12)
    assert volumes[0][:2] == volumes[1][:2]
    assert len(differing(volumes[0][2], volumes[1][2])) == 0
