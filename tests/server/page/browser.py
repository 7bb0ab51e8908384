"""The page in a real browser: what its user does, what can be seen, and what the server gets."""

import base64
import io
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from deepedit.network.checkpoint import Model
from tests.server.live import SHAPE

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; the extra dev brings it")
images = pytest.importorskip("PIL.Image", reason="Pillow is not installed; the extra plot brings it")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("Chromium is not installed; on Debian, apt-get install chromium brings it", allow_module_level=True)

WIDE, NARROW = (1280, 800), (390, 844)
PLANES = ("Axial", "Coronal", "Sagittal")
NORMALS = {"Axial": 2, "Coronal": 1, "Sagittal": 0}
"""The axis that each of them cuts."""


DROP = """([name, content, onto]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name));
    const send = (kind, target) =>
        target.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
    send("dragenter", document.body);
    const zone = document.querySelector(`#drop [data-use=${onto}]`);
    if (zone.getBoundingClientRect().width === 0) throw new Error(`nothing can be dropped as ${onto}`);
    send("dragover", zone);
    send("drop", zone);
}"""
"""What a browser does when a file is dragged onto a page and dropped there."""


@contextmanager
def started() -> Iterator["sync_api.Browser"]:
    """A browser without a window."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: "sync_api.Browser", url: str, size: tuple[int, int] = WIDE, wait: bool = True, **options: object
) -> Iterator["Tab"]:
    """The page in a browser of its own; nothing on it moves by itself.

    Args:
        wait: until it shows all that it shows first.
        options: of the browser's context.

    Raises:
        AssertionError: at the end, if a script failed.
    """
    settings = {"reduced_motion": "reduce", "viewport": {"width": size[0], "height": size[1]}} | options
    context = browser.new_context(**settings)
    try:
        tab = Tab(context.new_page())
        tab.page.goto(url)
        if wait:
            tab.settle()
        yield tab
        assert not tab.failures
    finally:
        context.close()


class Tab:
    """A tab that shows the page.

    Attributes:
        page: of Playwright.
        asked: the bodies of the requests for a segmentation, in order.
        failures: of scripts.
    """

    def __init__(self, page: "sync_api.Page") -> None:
        self.page, self.asked, self.failures = page, [], []
        page.set_default_timeout(20_000)
        page.on("request", self._note)
        page.on("pageerror", lambda error: self.failures.append(str(error)))
        page.on("console", self._note_refused)

    def _note(self, request: "sync_api.Request") -> None:
        if request.method == "POST" and request.url.endswith("/api/segment"):
            self.asked.append(request.post_data_json)

    def _note_refused(self, message: "sync_api.ConsoleMessage") -> None:
        if "Content Security Policy" in message.text:
            self.failures.append(message.text)

    @property
    def steps(self) -> list[dict]:
        """What the newest request for a segmentation said."""
        return self.asked[-1]["steps"]

    @property
    def clicks(self) -> list[list]:
        """Label and voxel of each click in it."""
        return [click for step in self.steps for click in step.get("clicks", ())]

    @property
    def status(self) -> str:
        return self.page.locator("#status").inner_text()

    @property
    def error(self) -> str:
        return self.page.locator("#error").inner_text()

    def draw(self) -> None:
        """Wait until what was done is drawn."""
        self.page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")

    def wait_for(self, words: str) -> None:
        """Wait until the page says something about what is under way."""
        self.page.locator("#status", has_text=words).wait_for()

    def drop(self, path: Path, onto: str = "image") -> None:
        """Drop a file onto the page: as an ``image`` or session, or as a ``start``."""
        content = base64.b64encode(path.read_bytes()).decode()
        self.page.evaluate(DROP, [path.name, content, onto])
        self.settle()

    def settle(self) -> "Tab":
        """Wait until the page waits for nothing."""
        self.draw()
        self.page.locator("#panes[aria-busy=false]").wait_for()
        return self

    def canvas(self, plane: str = "Axial") -> "sync_api.Locator":
        return self.page.locator(f"#plane-{PLANES.index(plane)} canvas")

    def picture(self, plane: str = "Axial") -> np.ndarray:
        """``[rows, columns, 3]`` of a plane as it is seen."""
        self.draw()
        content = self.canvas(plane).screenshot(animations="allow")
        return np.asarray(images.open(io.BytesIO(content)).convert("RGB")).astype(int)

    def scroll_to(self, plane: str, index: int) -> None:
        """Show a slice, counted from 0."""
        self.page.get_by_label(f"{plane} slice", exact=True).fill(str(index))
        self.draw()

    def press(self, *keys: str) -> "Tab":
        for key in keys:
            self.page.keyboard.press(key)
        self.draw()
        return self

    def at(self, plane: str, pixel: Sequence[float]) -> tuple[float, float]:
        """Where on the page a pixel of a plane, given as column and row, lies."""
        box = self.canvas(plane).bounding_box()
        return box["x"] + pixel[0], box["y"] + pixel[1]

    def click(self, plane: str, pixel: Sequence[float], **options: object) -> None:
        self.page.mouse.click(*self.at(plane, pixel), **options)

    def click_voxel(self, voxel: Sequence[int], plane: str = "Axial", **options: object) -> None:
        """Click the middle of a voxel of an image as `write_image` writes it."""
        self.scroll_to(plane, voxel[NORMALS[plane]])
        self.click(plane, self.pixel_of(plane, voxel, SHAPE), **options)
        self.draw()

    def drag(self, plane: str, *pixels: Sequence[float], button: str = "left") -> None:
        """Press at the first pixel, go along the others, and release."""
        mouse = self.page.mouse
        mouse.move(*self.at(plane, pixels[0]))
        mouse.down(button=button)
        for pixel in pixels[1:]:
            mouse.move(*self.at(plane, pixel), steps=6)
        mouse.up(button=button)
        self.draw()

    def middle(self, plane: str = "Axial") -> tuple[float, float]:
        """The pixel in the middle of a plane."""
        box = self.canvas(plane).bounding_box()
        return box["width"] / 2, box["height"] / 2

    def pixel_of(self, plane: str, voxel: Sequence[int], shape: Sequence[int]) -> tuple[float, float]:
        """Where the middle of a voxel is drawn, of an image of 1 mm that is stored RAS and is shown whole."""
        boxes = {each: self.canvas(each).bounding_box() for each in PLANES}
        axes = {"Axial": (0, 1), "Coronal": (0, 2), "Sagittal": (1, 2)}
        scale = min(
            min((box["width"] - 16) / shape[axes[each][0]], (box["height"] - 16) / shape[axes[each][1]])
            for each, box in boxes.items()
            if box is not None  # a narrow page shows one plane
        )
        sides = boxes[plane]["width"], boxes[plane]["height"]
        return tuple(
            side / 2 - (voxel[axis] + 0.5 - shape[axis] / 2) * scale
            for side, axis in zip(sides, axes[plane], strict=True)
        )

    def colour_at(self, plane: str, pixel: Sequence[float]) -> np.ndarray:
        """Mean colour of a few pixels around one."""
        column, row = round(pixel[0]), round(pixel[1])
        return self.picture(plane)[row - 2 : row + 3, column - 2 : column + 3].mean(axis=(0, 1))

    def button(self, name: str) -> "sync_api.Locator":
        return self.page.get_by_role("button", name=name, exact=True)

    def choose(self, field: str, entry: str) -> "Tab":
        """Choose an entry of a list."""
        self.page.get_by_role("combobox", name=field, exact=True).select_option(entry)
        return self.settle()

    def volume(self, label: str) -> float:
        """The ml that the page says a label has."""
        row = self.page.locator("#labels li", has=self.page.get_by_text(label, exact=True))
        return float(re.match(r"[\d.]+", row.locator(".number").inner_text())[0])


def bright_spot(picture: np.ndarray) -> tuple[float, float]:
    """Column and row of the middle of what is nearly white."""
    rows, columns = np.nonzero(picture.min(axis=2) > 226)
    assert len(rows), "nothing bright is seen"
    assert np.ptp(rows) < 60
    assert np.ptp(columns) < 60
    return columns.mean() + 0.5, rows.mean() + 0.5


def differing(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """``[N, 2]`` columns and rows of the pixels that differ visibly."""
    rows, columns = np.nonzero(np.abs(after - before).max(axis=2) > 20)
    return np.stack([columns, rows], axis=1)


class Gate:
    """Lets the network of a model answer only while it is open."""

    def __init__(self, model: Model) -> None:
        self.is_open, self.answer = threading.Event(), model.network.forward
        self.is_open.set()
        model.network.forward = self._forward

    def _forward(self, x: object) -> object:
        self.is_open.wait(60)
        return self.answer(x)

    @contextmanager
    def closed(self) -> Iterator[None]:
        self.is_open.clear()
        try:
            yield
        finally:
            self.is_open.set()
