"""OHIF driven as its user does it, in a browser without a screen: a study is opened, a point placed at a landmark."""

import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from deepedit.plan import Intensity
from deepedit.server.access import Access
from deepedit.server.dicomweb import DicomStore
from deepedit.server.ohif import ohif_folder
from tests.io.dicom_files import PLACES, datasets
from tests.server.live import Live, model_that_obeys, named, serving
from tests.server.orthanc import needs_orthanc, orthanc

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed, which drives the browser")
from PIL import Image  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_ohif = [
    needs_orthanc,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium"),
    pytest.mark.skipif(ohif_folder() is None, reason="OHIF is not installed: pip install --no-deps monailabel==0.8.5"),
]
SHAPE = (40, 36, 24)
RADIUS_MM = 5
BRIGHT = 1000
GL = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


@dataclass(frozen=True)
class Seen:
    """What was seen of a click at the landmark.

    Attributes:
        before, clicked, after: pictures of the view: with nothing, with the point, and with the answer.
        x, y: of the click, in pixels of the view.
        voxel: which OHIF sent, in the order of DICOM.
        screen: a PNG of the whole page at the end.
    """

    before: np.ndarray
    clicked: np.ndarray
    after: np.ndarray
    x: float
    y: float
    voxel: tuple[int, int, int]
    screen: bytes


def landmark(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A ball beside the middle of the volume, in the same transverse plane, and the voxel that it is around."""
    middle_of_all = affine @ [*((side - 1) / 2 for side in SHAPE), 1]
    centre = np.add(middle_of_all[:3], (6, 5, 0))
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    ball = (np.linalg.norm(places - centre, axis=-1) <= RADIUS_MM).astype(np.int16)
    return ball, np.linalg.solve(affine, [*centre, 1])[:3]


def white(picture: np.ndarray) -> np.ndarray:
    """The pixels that are white."""
    return picture[..., :3].min(axis=-1) > 200


def middle(mask: np.ndarray) -> tuple[float, float]:
    """The middle of a mask, in pixels from its left and its top."""
    rows, columns = np.nonzero(mask)
    return columns.mean(), rows.mean()


def changed(picture: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The pixels that differ from another picture."""
    return np.abs(picture[..., :3].astype(int) - before[..., :3]).max(axis=-1) > 40


def drawn_of(element, holds: Callable[[np.ndarray], object], seconds: float = 90) -> np.ndarray:
    """A picture of a part of a page, once something holds of it and it stays the same."""
    end, last = time.monotonic() + seconds, None
    while True:
        picture = np.array(Image.open(io.BytesIO(element.screenshot())))
        if last is not None and np.array_equal(picture, last) and holds(picture):
            return picture
        assert time.monotonic() < end, "it is not drawn"
        last = picture
        time.sleep(1)


@contextmanager
def chromium() -> Iterator:
    """A browser that draws in three dimensions without a graphics card."""
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=list(GL))
        yield started
        started.close()


@contextmanager
def landmark_served(folder: Path, place: str, token: str | None = None) -> Iterator[tuple[Live, str]]:
    """A server beside a store with one series that shows the landmark, and where OHIF opens its study.

    Args:
        folder: for the files of both.
        place: how the series was acquired, of `PLACES`.
        token: of the server.
    """
    ball, _ = landmark(PLACES[place])
    files = datasets(BRIGHT * ball, PLACES[place], WindowCenter=BRIGHT // 2, WindowWidth=BRIGHT)
    (folder / "studies").mkdir()
    model = model_that_obeys()
    model.plan = replace(model.plan, intensity=Intensity("window", 0, 2 * BRIGHT))
    with orthanc(folder / "store", files) as url:
        store = DicomStore(url, folder / "studies" / ".deepedit" / "dicomweb", 2**30)
        with serving(named(model, folder), folder / "studies", Access(token), store=store) as live:
            yield live, f"{live.url}/ohif/monai-label?StudyInstanceUIDs={files[0].StudyInstanceUID}"


def click_at_landmark(page, live: Live, address: str) -> Seen:
    """Open a study, place a point in the middle of what is white, and wait for the answer."""
    asked = []
    page.on("request", lambda request: asked.append(request) if "/infer/" in request.url else None)
    page.goto(address, timeout=90_000)
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
    (params,) = re.findall(r'name="params"\r\n\r\n(.*?)\r\n', asked[-1].post_data, re.DOTALL)
    (voxel,) = json.loads(params)["right lung"]
    return Seen(before, clicked, after, x, y, tuple(voxel), page.screenshot())


def check_mark(seen: Seen, place: str) -> None:
    """Hold what OHIF sent and showed against where the landmark is."""
    _, voxel = landmark(PLACES[place])
    assert np.abs(seen.voxel - voxel).max() <= 1
    # What the answer changed in the picture is around the click, and no larger than the model's reach.
    marked = changed(seen.after, seen.clicked)
    radius = np.sqrt(white(seen.before).sum() / np.pi)
    assert np.hypot(*np.subtract(middle(marked), (seen.x, seen.y))) < radius
    rows, columns = np.nonzero(marked)
    assert np.hypot(columns - seen.x, rows - seen.y).max() < 2.5 * radius
