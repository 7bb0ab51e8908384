"""How an image is looked at: slices, windows, zoom, overlays; by mouse, trackpad, fingers and buttons."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from deepedit.colours import colour
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Plan
from deepedit.volume import Reading
from tests.inference.networks import Pointwise, random_model
from tests.server.live import LABELS, model_that_obeys, named, serving, write_image
from tests.server.page.browser import NARROW, PLANES, bright_spot, differing, opened

SHAPE = (24, 20, 16)
SPOT = (15, 12, 8)


def ct() -> np.ndarray:
    """Air, in it a block of water with a block of bone and a spot of metal, in HU."""
    image = np.full(SHAPE, -1000, np.int16)
    image[4:20, 3:17, 2:14] = 0
    image[6:10, 5:9, 4:12] = 700
    image[SPOT] = 3000
    return image


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewing")
    studies = folder / "studies"
    studies.mkdir()
    nib.save(nib.Nifti1Image(ct(), np.eye(4)), studies / "ct.nii.gz")
    wide = np.zeros((300, 40, 3), np.int16)
    wide[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(wide, np.eye(4)), studies / "wide.nii.gz")
    with serving(named(model_that_obeys(), folder), studies) as live:
        yield live


@pytest.fixture
def tab(browser, server):
    with opened(browser, server.url) as tab:
        tab.press("x", "h")
        yield tab


def slice_of(tab, plane: str = "Axial") -> int:
    return int(tab.page.get_by_label(f"{plane} slice", exact=True).input_value())


def brightness(tab, voxel) -> float:
    return float(tab.colour_at("Axial", tab.pixel_of("Axial", voxel, SHAPE)).mean())


def expected(hounsfield: float, window: tuple[float, float]) -> float:
    return float(np.clip((hounsfield - (window[0] - window[1] / 2)) / window[1], 0, 1) * 255)


@pytest.mark.parametrize(
    ("name", "window"), [("Soft tissue", (40, 400)), ("Lung", (-600, 1500)), ("Bone", (500, 2000))]
)
def test_windows_of_ct(tab, name, window):
    tab.choose("Window", name)
    for voxel in ((1, 1, 8), (17, 6, 8), (8, 7, 8)):
        assert brightness(tab, voxel) == pytest.approx(expected(ct()[voxel], window), abs=3)


def test_dragging_changes_the_window_without_a_click(tab):
    tab.choose("Window", "Bone")
    middle, asked = tab.middle(), len(tab.asked)
    water = (17, 6, 8)
    before = brightness(tab, water)
    tab.drag("Axial", middle, (middle[0], middle[1] + 60))
    assert brightness(tab, water) > before + 5, "downwards it gets brighter"
    contrast = brightness(tab, (8, 7, 8)) - brightness(tab, water)
    tab.drag("Axial", middle, (middle[0] + 100, middle[1]))
    assert brightness(tab, (8, 7, 8)) - brightness(tab, water) < contrast - 5, "to the right there is less contrast"
    assert len(tab.asked) == asked


def test_the_tool_and_its_modifier_do_the_same(browser, server):
    """Window with the right button; pan with space; look with alt; zoom with ctrl and the wheel."""
    with opened(browser, server.url) as one, opened(browser, server.url) as other:
        for tab in (one, other):
            tab.press("h")
        start = one.middle()
        end = start[0] + 40, start[1] + 30
        one.press("w").drag("Axial", start, end)
        other.drag("Axial", start, end, button="right")
        assert np.array_equal(one.picture(), other.picture())
        one.button("Pan").click()
        one.drag("Axial", start, end)
        other.page.keyboard.down("Space")
        other.drag("Axial", start, end)
        other.page.keyboard.up("Space")
        assert np.array_equal(one.picture("Coronal"), other.picture("Coronal"))
        one.button("Look").click()
        one.click("Axial", end)
        other.page.keyboard.down("Alt")
        other.click("Axial", end)
        other.page.keyboard.up("Alt")
        assert np.array_equal(one.picture("Sagittal"), other.picture("Sagittal"))
        assert len(one.asked) == len(other.asked) == 1, "nothing of this is a click"


def test_the_wheel_scrolls_and_with_ctrl_zooms(tab):
    tab.page.mouse.move(*tab.at("Axial", tab.middle()))
    tab.page.mouse.wheel(0, -100)
    tab.draw()
    assert slice_of(tab) == SHAPE[2] // 2 + 1
    tab.page.mouse.wheel(0, 300)
    tab.draw()
    assert slice_of(tab) == SHAPE[2] // 2 - 2
    for _ in range(12):  # a trackpad: many small steps
        tab.page.mouse.wheel(0, -12)
    tab.draw()
    assert slice_of(tab) > SHAPE[2] // 2 - 2


def test_zooming_keeps_what_is_under_the_pointer(tab):
    tab.scroll_to("Axial", SPOT[2])
    tab.choose("Window", "Whole range")
    spot = bright_spot(tab.picture())
    tab.page.mouse.move(*tab.at("Axial", spot))
    tab.page.keyboard.down("Control")
    for _ in range(5):
        tab.page.mouse.wheel(0, -100)
    tab.page.keyboard.up("Control")
    zoomed = tab.picture()
    assert np.abs(np.subtract(bright_spot(zoomed), spot)).max() < 4
    tab.press("1")
    tab.click("Axial", spot)
    tab.settle()
    assert tab.clicks == [["left", list(SPOT)]], "a click in a zoomed plane reaches the voxel, too"
    tab.press("Control+z").settle()
    tab.button("Fit").click()
    assert np.abs(np.subtract(bright_spot(tab.picture()), spot)).max() < 1


def test_the_planes_follow_the_crosshair(tab):
    tab.press("l")
    tab.click("Axial", tab.pixel_of("Axial", SPOT, SHAPE))
    tab.draw()
    assert [slice_of(tab, plane) for plane in PLANES[1:]] == [SPOT[1], SPOT[0]]
    tab.click("Sagittal", tab.pixel_of("Sagittal", (0, 3, 4), SHAPE))
    tab.draw()
    assert [slice_of(tab, plane) for plane in PLANES] == [4, 3, SPOT[0]]


def test_one_plane_is_enlarged(tab):
    width = tab.canvas().bounding_box()["width"]
    tab.button("Enlarge the axial plane").click()
    tab.draw()
    assert tab.canvas().bounding_box()["width"] > 2.5 * width
    assert not tab.canvas("Coronal").is_visible()
    tab.button("Enlarge the axial plane").click()
    tab.draw()
    assert tab.canvas("Coronal").is_visible()


def test_labels_of_slices_that_are_larger_than_the_page(browser, server, tmp_path):
    """Tinted and outlined, without curves, which nobody would see."""
    block = np.zeros((300, 40, 3), np.uint8)
    block[100:200, 10:30] = LABELS.values[0]
    nib.save(nib.Nifti1Image(block, np.eye(4)), tmp_path / "block.nii.gz")
    with opened(browser, server.url) as tab:
        tab.choose("Case", "wide").press("x")
        tab.drop(tmp_path / "block.nii.gz", onto="start")
        shape, label = block.shape, np.array(colour(1))
        middle, outside = (tab.pixel_of("Axial", (x, 17, 1), shape) for x in (130, 220))
        column, row = tab.pixel_of("Axial", (199, 17, 1), shape)
        across = tab.picture()[round(row), round(column) - 4 : round(column) + 5]
        assert np.abs(across - label).sum(axis=1).min() < 120, "the outline has the colour itself"
        inside, grey = tab.colour_at("Axial", middle), tab.colour_at("Axial", outside)
        assert np.allclose(inside, 0.75 * grey + 0.25 * label, atol=3)
        tab.press("h")
        assert np.allclose(tab.colour_at("Axial", middle), grey, atol=2)


def test_letters_of_the_sides(tab):
    """Where the patient's right is: the left end of the axial plane has an R, and nothing is mirrored."""
    tab.choose("Window", "Bone")
    picture = tab.picture()
    rows, columns = np.nonzero(picture.min(axis=2) > 120)
    half = picture.shape[1] / 2
    bone = (np.abs(rows - picture.shape[0] / 2) < 150) & (np.abs(columns - half) < 180)
    assert columns[bone].mean() > half, "the bone is at low x: on the patient's left, on the right of the page"


def fingers(tab):
    """Lets fingers touch the page: called with the kind of event and the points."""
    session = tab.page.context.new_cdp_session(tab.page)

    def touch(kind: str, *points) -> None:
        at = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    return touch


def test_fingers_on_a_narrow_page(browser, server):
    with opened(browser, server.url, NARROW, has_touch=True) as tab:
        tab.press("x", "h")
        visible = [tab.canvas(plane).is_visible() for plane in PLANES]
        assert visible == [True, False, False]
        touch = fingers(tab)
        x, y = tab.at("Axial", tab.middle())
        touch("touchStart", (x, y))
        for step in range(1, 9):
            touch("touchMove", (x, y + 6 * step))
        touch("touchEnd")
        tab.draw()
        assert slice_of(tab) < SHAPE[2] // 2, "one finger scrolls"
        before = tab.picture()
        touch("touchStart", (x - 30, y), (x + 30, y))
        for step in range(1, 9):
            touch("touchMove", (x - 30 - 5 * step, y), (x + 30 + 5 * step, y))
        touch("touchEnd")
        assert (tab.picture() > 60).sum() > 1.2 * (before > 60).sum(), "two fingers zoom"
        tab.button("Fit").click()
        asked = len(tab.asked)
        touch("touchStart", (x, y))
        touch("touchEnd")
        tab.settle()
        assert len(tab.asked) == asked + 1, "a tap clicks"
        tab.page.get_by_role("tab", name="Sagittal").click()
        tab.draw()
        assert [tab.canvas(plane).is_visible() for plane in PLANES] == [False, False, True]


@pytest.fixture(scope="module")
def channels(tmp_path_factory):
    """A model of two channels that is not sure of itself, and a case whose channels differ."""
    folder = tmp_path_factory.mktemp("channels")
    studies = folder / "studies"
    studies.mkdir()
    rng = np.random.default_rng(0)
    data = np.stack([np.full(SHAPE, 10.0), rng.normal(0, 1, SHAPE)], axis=-1).astype(np.float32)
    data[SPOT][0] = 20
    nib.save(nib.Nifti1Image(data, np.eye(4)), studies / "two.nii.gz")
    plan = replace(
        Plan(LABELS, (1.0, 1.0, 1.0), (16, 16, 16), Intensity("percentile", 0.5, 99.5), sigma=1.5), image_channels=2
    )
    network = Pointwise(7, 3).eval()
    network.head.weight.data *= 4
    model = replace(model_that_obeys(), network=network, plan=plan)
    second = folder / "second"
    second.mkdir()
    with serving([*named(model, folder), *named(model, second)], studies) as live:
        yield live


def test_channels_are_switched_and_clicks_stay(browser, channels):
    with opened(browser, channels.url) as tab:
        tab.press("x", "h", "1")
        tab.click("Axial", (300, 300))
        tab.settle()
        first, asked = tab.picture(), len(tab.asked)
        tab.choose("Channel", "2")
        inner = np.s_[150:300, 230:290]
        assert np.std(first[inner]) < 3 < 10 < np.std(tab.picture()[inner])
        assert tab.page.locator("#clicks li").count() == 1
        assert len(tab.asked) == asked
        tab.choose("Channel", "1")
        assert len(differing(first, tab.picture())) == 0


def test_a_channel_that_cannot_be_read_leaves_the_one_before(browser, channels):
    with opened(browser, channels.url) as tab:
        tab.press("x", "h", "1")
        tab.click("Axial", tab.middle())
        tab.settle()
        before = tab.picture()
        answer = {"status": 500, "json": {"detail": "its disk is gone"}}
        tab.page.route("**/api/image?*channel=1*", lambda route: route.fulfill(**answer))
        tab.choose("Channel", "2")
        assert tab.error == "its disk is gone"
        assert tab.page.locator("#channel").input_value() == "0"
        assert tab.page.locator("#clicks li").count() == 1
        assert len(differing(before, tab.picture())) == 0


def test_the_uncertainty_is_laid_over(browser, channels):
    with opened(browser, channels.url) as tab:
        tab.press("x", "h")
        plain = tab.picture()
        tab.button("Uncertainty").click()
        tab.settle()
        laid = tab.picture()
        inner = np.s_[150:300, 230:290]
        assert (laid[inner] - plain[inner])[..., 0].mean() > 10
        assert plain[inner][..., 0].std() < 0.5 < 1 < laid[inner][..., 0].std(), "not everywhere the same"
        tab.press("2")
        tab.click("Axial", tab.middle())
        tab.settle()
        assert np.abs(tab.picture() - laid)[inner].max() > 10, "it follows the answers"
        tab.press("u", "Control+z").settle()
        assert len(differing(plain[10:-10, 10:-10], tab.picture()[10:-10, 10:-10])) == 0


def test_another_model_answers_the_same_clicks(browser, channels):
    with opened(browser, channels.url) as tab:
        tab.press("1")
        tab.click("Axial", tab.middle())
        tab.settle()
        steps = tab.steps
        tab.choose("Model", "deepedit-second")
        assert tab.asked[-1]["model"] == "deepedit-second"
        assert tab.steps == steps


def test_a_model_that_corrects_no_segmentation_gets_the_steps_on_its_automatic_result(browser, tmp_path):
    (tmp_path / "second").mkdir()
    (tmp_path / "studies").mkdir()
    write_image(tmp_path / "studies" / "case.nii.gz")
    other = random_model(labels=LABELS)
    network = build_network(input_channels(1, 3, False), 3, other.network.config, seed=0).eval()
    other = Model(network, replace(other.plan, previous=False))
    models = [*named(model_that_obeys(), tmp_path), *named(other, tmp_path / "second")]
    with serving(models, tmp_path / "studies") as live, opened(browser, live.url) as tab:
        tab.choose("Start from", "empty")
        tab.press("1")
        tab.click("Axial", tab.middle())
        tab.settle()
        tab.choose("Model", "deepedit-second")
        assert tab.asked[-1]["start"] == {"kind": "automatic"}
        assert len(tab.steps) == 1
        assert "deepedit-second does not correct segmentations" in tab.status


def test_a_model_that_reads_an_image_by_its_other_affine_shows_it_so(browser, tmp_path):
    """Its sform and its qform run in opposite directions, and each of two models believes another one."""
    (tmp_path / "second").mkdir()
    (tmp_path / "studies").mkdir()
    image = nib.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) % 3, np.eye(4))
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.diag([-1.0, -1, 1, 1]), 1)
    nib.save(image, tmp_path / "studies" / "case.nii.gz")
    second = model_that_obeys()
    second = replace(second, plan=replace(second.plan, reading=Reading(affine="qform")))
    models = [*named(model_that_obeys(), tmp_path), *named(second, tmp_path / "second")]
    with serving(models, tmp_path / "studies") as live, opened(browser, live.url) as tab:

        def seen():
            tab.button("Close the message").click()
            return tab.picture()

        tab.press("x", "h")
        first = seen()
        tab.choose("Model", "deepedit-second").press("h")
        assert len(differing(first, seen())) > 1000
        tab.choose("Model", "deepedit").press("h")
        assert len(differing(first, seen())) == 0
