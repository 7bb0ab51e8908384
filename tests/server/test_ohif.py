"""OHIF itself, in a browser without a screen: a click at a landmark marks the landmark, however it was acquired."""

import io
import json
import re
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from deepedit.plan import Intensity
from deepedit.server.dicomweb import DicomStore
from deepedit.server.ohif import ohif_folder
from tests.io.dicom_files import PLACES, datasets
from tests.server.live import model_that_obeys, named, serving
from tests.server.orthanc import needs_orthanc, orthanc

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed, which drives the browser")
from PIL import Image  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    needs_orthanc,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium"),
    pytest.mark.skipif(ohif_folder() is None, reason="OHIF is not installed: pip install --no-deps monailabel==0.8.5"),
]
SHAPE = (40, 36, 24)
RADIUS_MM = 5
BRIGHT = 1000
GL = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


def landmark(affine):
    """A ball beside the middle of the volume, in the same transverse plane, and the voxel that it is around."""
    middle_of_all = affine @ [*((side - 1) / 2 for side in SHAPE), 1]
    centre = np.add(middle_of_all[:3], (6, 5, 0))
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    ball = (np.linalg.norm(places - centre, axis=-1) <= RADIUS_MM).astype(np.int16)
    return ball, np.linalg.solve(affine, [*centre, 1])[:3]


def white(picture):
    """The pixels that are white."""
    return picture[..., :3].min(axis=-1) > 200


def middle(mask):
    """The middle of a mask, in pixels from its left and its top."""
    rows, columns = np.nonzero(mask)
    return columns.mean(), rows.mean()


def changed(picture, before):
    """The pixels that differ from another picture."""
    return np.abs(picture[..., :3].astype(int) - before[..., :3]).max(axis=-1) > 40


def drawn_of(element, holds, seconds=90):
    """A picture of a part of a page, once something holds of it and it stays the same."""
    end, last = time.monotonic() + seconds, None
    while True:
        picture = np.array(Image.open(io.BytesIO(element.screenshot())))
        if last is not None and np.array_equal(picture, last) and holds(picture):
            return picture
        assert time.monotonic() < end, "it is not drawn"
        last = picture
        time.sleep(1)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=list(GL))
        yield started
        started.close()


@pytest.mark.parametrize("place", PLACES)
def test_a_click_at_a_landmark_marks_the_landmark(browser, tmp_path, place):
    ball, voxel = landmark(PLACES[place])
    files = datasets(BRIGHT * ball, PLACES[place], WindowCenter=BRIGHT // 2, WindowWidth=BRIGHT)
    (tmp_path / "studies").mkdir()
    model = model_that_obeys()
    model.plan = replace(model.plan, intensity=Intensity("window", 0, 2 * BRIGHT))
    asked = []
    with orthanc(tmp_path / "store", files) as url:
        store = DicomStore(url, tmp_path / "studies" / ".deepedit" / "dicomweb", 2**30)
        with serving(named(model, tmp_path), tmp_path / "studies", store=store) as live:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.on("request", lambda request: asked.append(request) if "/infer/" in request.url else None)
            page.goto(f"{live.url}/ohif/monai-label?StudyInstanceUIDs={files[0].StudyInstanceUID}", timeout=90_000)
            page.click("text=Confirm and Hide", timeout=90_000)
            view = page.locator("canvas.cornerstone-canvas").first
            drawn_of(view, lambda picture: white(picture).sum() > 50)
            assert page.input_value("#monailabelServerURL") == f"{live.url}/"
            page.click("button.actionButton >> nth=0")
            page.click("text=Point Prompts", timeout=60_000)
            page.click("tr.clickable-row:has-text('right lung'):visible", timeout=60_000)
            before = drawn_of(view, lambda picture: white(picture).sum() > 50)
            x, y = middle(white(before))
            corner = view.bounding_box()
            # OHIF takes a press for a point where the pointer has come there before and stays a while.
            page.mouse.move(corner["x"] + x - 9, corner["y"] + y)
            page.mouse.move(corner["x"] + x, corner["y"] + y, steps=3)
            page.wait_for_timeout(500)
            page.mouse.down()
            page.wait_for_timeout(300)
            page.mouse.up()
            clicked = drawn_of(view, lambda picture: changed(picture, before).any())
            page.click("button[title='Run PointPrompts']")
            after = drawn_of(view, lambda picture: changed(picture, clicked).sum() > 50)
            page.close()
    (params,) = re.findall(r'name="params"\r\n\r\n(.*?)\r\n', asked[-1].post_data, re.DOTALL)
    (click,) = json.loads(params)["right lung"]
    assert np.abs(click - voxel).max() <= 1
    # What the answer changed in the picture is around the click, and no larger than the model's reach.
    marked = changed(after, clicked)
    radius = np.sqrt(white(before).sum() / np.pi)
    assert np.hypot(*np.subtract(middle(marked), (x, y))) < radius
    rows, columns = np.nonzero(marked)
    assert np.hypot(columns - x, rows - y).max() < 2.5 * radius
