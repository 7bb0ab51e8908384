"""How long the page takes: from a click to its picture, for a slice, and until it shows an image.

    python -m benchmarks.page [--clicks 15] [--quick]
    python -m benchmarks.page --screenshots docs --model runs/phantom/model.pt

The server is a process of its own, and the page is in Chromium, without a window and without a GPU. The clicks correct
a label map, so that nobody has to wait for a pass over the whole volume.

``click`` is from the release of the mouse to the frame after the answer was drawn, ``session`` what the server's
session worked for it, ``around`` the rest, which is what the budget is for; ``server`` and ``page`` are its parts, the
latter with the way between the two. ``axial``, ``coronal`` and ``sagittal`` are the page's own work for one picture
while that plane scrolls; ``load`` is the time until the page can be used, ``voxels`` until all of the image is there.

The second line makes the pictures of README and of docs/page.md instead: a case of the phantom, with the three clicks
of an annotator who clicks the largest error, by a model that README's first command has trained.
"""

import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks.click_latency import LARGE, SIZES, small_model
from benchmarks.options import add_shared, parser
from benchmarks.server_latency import blobs
from deepedit.clicks import largest_error_click
from deepedit.inference.session import InteractiveSession
from deepedit.io.nifti import write_label, write_volume
from deepedit.io.phantom import write_phantom
from deepedit.io.volumes import read_label
from deepedit.network.checkpoint import save_model
from deepedit.volume import Volume
from tests.server.page.browser import PLANES, Tab, started
from tests.soak.server import Server

BUDGETS_MS = (50, 120, 250)
WARM_UPS = 2
SLICES = 30
PATIENCE_MS = 600_000
"""To wait for an answer; others may be at work on the machine."""
COLUMNS = ("click", "session", "around", "budget", "server", "page", *map(str.lower, PLANES), "load", "voxels")


PICTURED = 0
"""The number of the case of the phantom that pictures show."""
PICTURES = {
    "page": ((1280, 800), "light"),
    "page_uncertainty": ((1280, 800), "dark"),
    "page_narrow": ((390, 844), "light"),
}
"""Sizes and themes by the names of the files."""
FLASH_MS = 1500
"""After which nothing is lit any more."""


def measure(browser: object, shape: tuple[int, int, int], patch: tuple[int, int, int], budget: int, clicks: int) -> str:
    """A line of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        final = folder / "studies" / "labels" / "final"
        final.mkdir(parents=True)
        save_model(folder / "model.pt", small_model(patch))
        labels = blobs(shape)
        image = organs(labels)
        write_volume(folder / "studies" / "case.nii", image, Volume(image), np.int16)
        write_label(final / "case.nii", labels, Volume(image))
        arguments = ["--model", folder / "model.pt", "--studies", folder / "studies", "--no-train"]
        server = Server(arguments, folder / "server", torch.get_num_threads())
        try:
            tab = Tab(browser.new_page(viewport={"width": 1280, "height": 800}))
            tab.page.set_default_timeout(PATIENCE_MS)
            loaded = load(tab, f"http://127.0.0.1:{server.port}/")
            pictures = [scrolled(tab, plane) for plane in PLANES]
            found = [clicked(tab) for _ in range(clicks + WARM_UPS)][WARM_UPS:]
            tab.page.close()
        finally:
            server.stop()
    click, session, total = np.transpose(found)
    row = (click, session, click - session, budget, total - session, click - total, *pictures, *loaded)
    return f"{' x '.join(map(str, shape)):<16}" + "".join(f" {np.median(value):8.1f}" for value in row)


def organs(labels: np.ndarray) -> np.ndarray:
    """An image with a smooth brightness for each label, and a little noise: for noise alone, answers are speckles."""
    smooth = ndimage.gaussian_filter(labels.astype(np.float32), 2)
    noise = np.random.default_rng(0).normal(0, 5, labels.shape)
    return (200 * smooth + noise).astype(np.int16)


def load(tab: Tab, url: str) -> tuple[float, float]:
    """Ms until the page can be used, and from then until the image is there; a label map is chosen as the start."""
    # So that the automatic pass is not worked out, which takes minutes: it is asked for when the voxels are there.
    tab.page.route("**/api/segment", lambda route: None)
    tab.page.goto(url)
    page = tab.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    tab.page.locator("#status", has_text="Segmenting automatically").wait_for()
    voxels = tab.page.evaluate(
        "() => { const found = performance.getEntriesByType('resource').filter((each) => each.name.includes('voxels'));"
        " return found[0].responseEnd - found[0].startTime; }"
    )
    tab.page.unroute("**/api/segment")
    tab.choose("Start from", "submitted label")
    return page, voxels


def scrolled(tab: Tab, plane: str) -> float:
    """Median ms of the page's own work for a picture while one plane scrolls."""
    return tab.page.evaluate(
        """async ([plane, slices]) => {
            const slider = document.querySelectorAll('.pane input')[plane];
            performance.clearMeasures();
            for (let slice = 0; slice < slices; slice++) {
                slider.value = Math.round((slice / slices) * slider.max);
                slider.dispatchEvent(new Event('input'));
                await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
            }
            const taken = performance.getEntriesByName('picture').map((each) => each.duration).sort((a, b) => a - b);
            return taken[Math.floor(taken.length / 2)];
        }""",
        [PLANES.index(plane), SLICES],
    )


def clicked(tab: Tab) -> list[float]:
    """Ms from a click to the frame after its answer is drawn, and what the server's session and the server took."""
    tab.press(str(1 + len(tab.asked) % 2))
    tab.page.evaluate(
        """() => {
            performance.clearMeasures();
            window.answer = new Promise((drawn) => new PerformanceObserver((list, observer) => {
                const [entry] = list.getEntriesByName('answer');
                if (!entry) return;
                observer.disconnect();
                const { infer, total } = entry.detail;
                requestAnimationFrame(() => drawn([performance.now() - entry.startTime, 1000 * infer, 1000 * total]));
            }).observe({ type: 'measure' }));
        }"""
    )
    width, height = tab.middle()
    angle = 2.4 * len(tab.asked)  # the golden angle: no two clicks near each other
    tab.click("Axial", (width + 0.25 * width * math.cos(angle), height + 0.25 * height * math.sin(angle)))
    found = tab.page.evaluate("window.answer")
    tab.settle()
    return found


def make_pictures(browser: object, model: Path, folder: Path) -> None:
    """Write the pictures of the documentation into a folder."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        phantom = write_phantom(scratch / "phantom", num_cases=PICTURED + 1)
        case = sorted((phantom / "imagesTr").iterdir())[PICTURED]
        corrected(model, case).save_session(scratch / "clicks.session")
        arguments = ["--model", model, "--image", case]
        server = Server(arguments, scratch / "server", torch.get_num_threads())
        try:
            for title, (size, theme) in PICTURES.items():
                context = browser.new_context(
                    viewport={"width": size[0], "height": size[1]}, color_scheme=theme, device_scale_factor=1.5
                )
                tab = Tab(context.new_page())
                tab.page.set_default_timeout(PATIENCE_MS)
                tab.page.goto(f"http://127.0.0.1:{server.port}/")
                tab.settle()
                tab.page.locator("#session-input").set_input_files(scratch / "clicks.session")
                tab.settle()
                tab.page.locator("#clicks .jump").last.click()
                tab.press("1")
                tab.page.mouse.click(1, 1)  # so that nothing has the focus
                if "uncertainty" in title:
                    tab.button("Uncertainty").click()
                    tab.settle()
                tab.page.wait_for_timeout(FLASH_MS)
                tab.page.screenshot(path=folder / f"{title}.png", full_page=True)
                context.close()
        finally:
            server.stop()


def corrected(model: Path, image: Path) -> InteractiveSession:
    """A session with the clicks of an annotator who clicks the largest error."""
    session = InteractiveSession.from_checkpoint(model, device="cpu")
    session.set_image(image)
    labels = session.model.plan.labels
    truth = labels.to_classes(read_label(image.parent.parent / "labelsTr" / image.name).data)
    for _ in range(3):
        voxel, label = largest_error_click(labels.to_classes(session.predict()), truth)
        session.add_click(voxel, labels.class_names[label])
    return session


def main() -> None:
    options = parser(__doc__)
    add_shared(options, "--clicks")
    options.add_argument("--quick", action="store_true", help="the smallest volume only")
    options.add_argument("--screenshots", type=Path, metavar="FOLDER", help="make pictures of the page there instead")
    add_shared(options, "--model", required=False, help="for the pictures: model.pt of the phantom dataset")
    arguments = options.parse_args()
    if (arguments.screenshots is None) != (arguments.model is None):
        options.error("--screenshots and --model go together")
    with started() as browser:
        if arguments.screenshots:
            make_pictures(browser, arguments.model, arguments.screenshots)
            return
        print(f"{torch.get_num_threads()} threads, medians of {arguments.clicks} clicks after {WARM_UPS} warm-ups, ms")
        print(f"{'voxels':<16}" + "".join(f" {each:>8}" for each in COLUMNS))
        sizes = SIZES[:1] if arguments.quick else (SIZES[0], SIZES[2], LARGE)
        for (shape, patch), budget in zip(sizes, BUDGETS_MS[: len(sizes)], strict=True):
            print(measure(browser, shape, patch, budget, arguments.clicks), flush=True)


if __name__ == "__main__":
    main()
