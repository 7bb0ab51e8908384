"""What can be done to a segmentation on the page: seen in its pixels, and in what the server gets."""

import numpy as np
import pytest

from deepedit.colours import colour
from tests.server.live import SHAPE, model_that_obeys, named, serving, shown, write_image
from tests.server.page.browser import PLANES, differing, opened

FREE = (7, 10, 5)
"""A voxel of no label, in the middle of the column of slices."""
LEFT = (5, 7, 6)
"""One that the network takes for the label left."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("editing")
    studies = folder / "studies"
    studies.mkdir()
    write_image(studies / "case.nii.gz")
    with serving(named(model_that_obeys(), folder), studies) as live:
        yield live


@pytest.fixture
def tab(browser, server):
    with opened(browser, server.url) as tab:
        tab.press("x")
        yield tab


def go_to(tab, voxel) -> None:
    for plane, normal in zip(PLANES, (2, 1, 0), strict=True):
        tab.scroll_to(plane, voxel[normal])


def is_tinted(tab, plane: str, voxel, label: int) -> bool:
    """Whether a voxel looks like one of a label: its colour leans towards that of the label."""
    found = tab.colour_at(plane, tab.pixel_of(plane, voxel, SHAPE))
    lean, towards = found - found.mean(), np.array(colour(label)) - np.mean(colour(label))
    return np.linalg.norm(lean) > 8 and lean @ towards > 0.8 * np.linalg.norm(lean) * np.linalg.norm(towards)


def test_the_automatic_result_is_drawn_with_its_volumes(tab):
    go_to(tab, LEFT)
    for plane in PLANES:
        assert is_tinted(tab, plane, LEFT, 1)
    for rank, label in enumerate(("left", "right lung"), start=1):
        assert tab.volume(label) == pytest.approx((shown() == rank).sum() / 1000, abs=0.01)


def test_an_answer_is_drawn_in_all_planes(tab):
    go_to(tab, FREE)
    assert not any(is_tinted(tab, plane, FREE, 2) for plane in PLANES)
    tab.press("2")
    tab.click_voxel(FREE)
    tab.settle()
    assert tab.steps == [{"clicks": [["right lung", list(FREE)]]}]
    assert tab.status.startswith("right lung +")
    # Beside the click itself, whose marker hides the voxel.
    for plane, beside in (("Axial", (8, 11, 5)), ("Coronal", (8, 10, 6)), ("Sagittal", (7, 11, 6))):
        assert is_tinted(tab, plane, beside, 2)


def test_voxels_travel_once_and_then_only_what_changed(browser, server):
    with opened(browser, server.url, wait=False) as tab:
        sizes: dict[str, list[int]] = {"part=voxels": [], "api/segment": []}
        answers = []
        tab.page.on("response", lambda answer: answers.append(answer))
        tab.page.reload()
        tab.settle().press("2")
        for voxel in (FREE, (7, 3, 9)):
            tab.click_voxel(voxel)
            tab.settle()
        for answer in answers:
            for part, found in sizes.items():
                if part in answer.url:
                    found.append(len(answer.body()))
        assert len(sizes["part=voxels"]) == 1
        whole, *boxes = sizes["api/segment"]
        assert len(boxes) == 2
        # A ball of a radius of two voxels; a header of some hundred bytes comes with it.
        assert all(size < 5**3 + 1000 < whole for size in boxes)


def test_a_click_for_the_background_takes_away(tab):
    before = tab.volume("left")
    tab.press("0")
    tab.click_voxel(LEFT)
    tab.settle()
    assert tab.clicks == [["background", list(LEFT)]]
    assert tab.volume("left") < before


def test_undo_redo_and_removing_any_click(tab):
    tab.press("2")
    volumes = [tab.volume("right lung")]
    for voxel in (FREE, (7, 3, 9)):
        tab.click_voxel(voxel)
        tab.settle()
        volumes.append(tab.volume("right lung"))
    assert len(set(volumes)) == 3
    tab.press("Control+z").settle()
    assert tab.volume("right lung") == volumes[1]
    tab.press("Control+Shift+z").settle()
    assert tab.volume("right lung") == volumes[2]
    tab.button(f"Remove right lung at {', '.join(map(str, FREE))}").click()
    tab.settle()
    assert tab.clicks == [["right lung", [7, 3, 9]]]
    assert volumes[0] < tab.volume("right lung") < volumes[2]
    tab.button("Undo").click()
    tab.settle()
    assert tab.volume("right lung") == volumes[2]
    assert [step["clicks"][0][1] for step in tab.steps] == [list(FREE), [7, 3, 9]]


def test_the_list_of_clicks_is_a_way_to_jump_there(tab):
    tab.press("1")
    tab.click_voxel(FREE)
    tab.settle()
    go_to(tab, (0, 0, 0))
    tab.page.locator("#clicks .jump").click()
    tab.draw()
    assert f"voxel {', '.join(map(str, FREE))}" in tab.page.locator("#readout").inner_text()
    for plane, normal in zip(PLANES, (2, 1, 0), strict=True):
        assert tab.page.get_by_label(f"{plane} slice", exact=True).input_value() == str(FREE[normal])


def test_clicks_with_shift_held_are_one_step(tab):
    tab.press("1")
    before = len(tab.asked)
    tab.page.keyboard.down("Shift")
    tab.click_voxel(FREE)
    tab.click_voxel((9, 11, 5))
    tab.draw()
    assert len(tab.asked) == before
    tab.page.keyboard.up("Shift")
    tab.settle()
    assert tab.steps == [{"clicks": [["left", list(FREE)], ["left", [9, 11, 5]]]}]
    tab.press("Control+z").settle()
    assert tab.page.locator("#clicks li").count() == 0


def test_the_same_with_buttons(tab):
    tab.button("Group").click()
    tab.press("2")
    for voxel in (FREE, (9, 11, 5), (11, 11, 5)):
        tab.click_voxel(voxel)
    tab.button("Send 3 together").click()
    tab.settle()
    assert [len(step["clicks"]) for step in tab.steps] == [3]
    tab.page.locator("#clicks summary").click()
    tab.button("Remove right lung at 9, 11, 5").click()
    tab.settle()
    assert tab.steps == [{"clicks": [["right lung", list(FREE)], ["right lung", [11, 11, 5]]]}]


def test_a_stroke_is_one_step_of_clicks_along_it(tab):
    tab.press("1", "s")
    tab.scroll_to("Axial", 5)
    ends = (6, 11, 5), (13, 12, 5)
    tab.drag("Axial", *(tab.pixel_of("Axial", voxel, SHAPE) for voxel in ends))
    tab.settle()
    (step,) = tab.steps
    voxels = np.array([voxel for _, voxel in step["clicks"]])
    assert voxels[0].tolist() == list(ends[0])
    assert voxels[-1].tolist() == list(ends[1])
    assert (np.abs(np.diff(voxels, axis=0)).max(axis=1) == 1).all()
    assert len(np.unique(voxels, axis=0)) == len(voxels)


def test_a_locked_label_stays_as_it_is(tab):
    before = tab.volume("left")
    tab.button("Lock left").click()
    tab.settle()
    tab.press("2")
    tab.click_voxel((7, 6, 6))  # one voxel away from the label left
    tab.settle()
    assert tab.steps == [{"lock": "left"}, {"clicks": [["right lung", [7, 6, 6]]]}]
    assert tab.volume("left") == before
    tab.click_voxel(LEFT)
    tab.settle()
    assert "left" in tab.error
    assert len(tab.page.locator("#clicks > li").all()) == 2, "the click that was refused is gone"
    tab.press("1", "k").settle()
    assert tab.steps[-1] == {"unlock": "left"}
    assert not tab.error


def test_a_key_that_is_held_too_long_counts_once(tab):
    go_to(tab, FREE)
    tab.press("1")
    tab.canvas().focus()
    for _ in range(4):
        tab.page.keyboard.down("Enter")
    tab.page.keyboard.up("Enter")
    tab.settle()
    assert len(tab.steps) == 1
    for _ in range(4):
        tab.page.keyboard.down("k")
    tab.page.keyboard.up("k")
    tab.settle()
    assert tab.steps[1:] == [{"lock": "left"}]


def test_labels_are_hidden_and_shown(tab):
    go_to(tab, LEFT)
    tinted = tab.picture()
    tab.button("Show left").click()
    assert not is_tinted(tab, "Axial", LEFT, 1)
    tab.button("Show left").click()
    assert len(differing(tinted, tab.picture())) == 0
    tab.press("h")
    assert not is_tinted(tab, "Axial", LEFT, 1)
    tab.press("h")
    assert is_tinted(tab, "Axial", LEFT, 1)


def test_opacity(tab):
    go_to(tab, LEFT)
    pixel = tab.pixel_of("Axial", LEFT, SHAPE)
    seen = []
    for opacity in ("0", "0.5", "1"):
        tab.page.get_by_label("Opacity").fill(opacity)
        seen.append(tab.colour_at("Axial", pixel))
    assert np.ptp(seen[0]) < 8, "nothing but the grey of the image"
    assert np.allclose(seen[2], colour(1), atol=3)
    assert np.allclose(seen[1], (seen[0] + seen[2]) / 2, atol=4)


WATCH = """async (canvas) => {
    const { x, y } = window.watched;
    const context = canvas.getContext("2d");
    const seen = [];
    for (const end = performance.now() + 2500; performance.now() < end; ) {
        await new Promise(requestAnimationFrame);
        seen.push(Math.max(...context.getImageData(x, y, 1, 1).data.slice(0, 3)));
    }
    return seen;
}"""


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_what_changed_flashes_once_unless_motion_is_unwanted(browser, server, motion):
    with opened(browser, server.url, reduced_motion=motion) as tab:
        tab.press("x", "2")
        tab.scroll_to("Axial", FREE[2])
        x, y = map(round, tab.pixel_of("Axial", (8, 11, 5), SHAPE))
        tab.page.evaluate(f"window.watched = {{ x: {x}, y: {y} }}")
        handle = tab.canvas().element_handle()
        watching = tab.page.evaluate_handle(f"(canvas) => ({{ seen: ({WATCH})(canvas) }})", handle)
        tab.click_voxel(FREE)
        seen = np.array(tab.page.evaluate("(watching) => watching.seen", watching))
        start, end = seen[0], seen[-1]
        lit = seen > max(start, end) + 30
        if motion == "reduce":
            assert not lit.any()
        else:
            assert np.count_nonzero(np.diff(lit.astype(int)) == 1) == 1, "once"


def test_two_tabs_are_two_sessions(browser, server):
    with opened(browser, server.url) as one, opened(browser, server.url) as other:
        for tab, label in ((one, "1"), (other, "2"), (one, "1"), (other, "2")):
            tab.press("x", label)
            tab.click_voxel((FREE[0], FREE[1], FREE[2] + len(tab.asked) - 1))
            tab.settle()
        assert [click[0] for click in one.clicks] == ["left", "left"]
        assert [click[0] for click in other.clicks] == ["right lung", "right lung"]
        one.press("Control+z", "Control+z").settle()
        assert one.volume("left") == pytest.approx((shown() == 1).sum() / 1000, abs=0.01)
        assert other.volume("right lung") > (shown() == 2).sum() / 1000
