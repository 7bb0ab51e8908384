"""What goes in and out of the page: images, segmentations to start from, sessions, results, cases of the studies."""

import nibabel as nib
import numpy as np
import pytest

from deepedit.inference.session import InteractiveSession
from tests.inference.networks import random_model
from tests.server.live import GRIDS, LABELS, model_that_obeys, named, serving, shown, truth, write_image
from tests.server.page.browser import opened


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    studies = folder / "studies"
    studies.mkdir()
    for number, grid in enumerate(("LPS", "RAS", "PIR")):
        write_image(studies / f"case_{number}.nii.gz", grid)
    with serving(named(model_that_obeys(), folder), studies) as live:
        yield live


@pytest.fixture
def tab(browser, server):
    with opened(browser, server.url, accept_downloads=True) as tab:
        yield tab


def write_label_map(path, grid: str, classes: np.ndarray):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = GRIDS[grid], (-12.5, 30, 7)
    nib.save(nib.Nifti1Image(np.array([0, *LABELS.values], np.uint8)[classes], affine), path)
    return path


def voxels(path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def download(tab, button: str, folder):
    with tab.page.expect_download() as waiting:
        tab.button(button).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def expected(image, *clicks: tuple[tuple[int, int, int], str]) -> np.ndarray:
    """What a session of one's own answers."""
    session = InteractiveSession(model_that_obeys())
    session.set_image(image)
    for voxel, label in clicks:
        session.add_click(voxel, label)
    return session.predict()


def click_middle(tab, label: str) -> tuple[list[int], str]:
    """Click a voxel; returns it, as the server got it, and the label."""
    tab.press(label)
    tab.click("Axial", tab.middle())
    tab.settle()
    name, voxel = tab.clicks[-1]
    return voxel, name


def test_a_case_of_the_studies_is_saved_on_its_own_grid(tab, server, tmp_path):
    click = click_middle(tab, "2")
    image = server.service.studies.folder / "case_0.nii.gz"
    saved = download(tab, "Save", tmp_path)
    assert saved.name == "case_0-segmentation.nii.gz"
    assert np.array_equal(voxels(saved), expected(image, click))
    assert np.allclose(nib.load(saved).affine, nib.load(image).affine)


def test_an_image_that_is_dropped(tab, tmp_path):
    image = write_image(tmp_path / "mine.nii.gz", "PIR")
    tab.drop(image)
    assert "mine.nii.gz" in tab.page.locator("#name").inner_text()
    assert tab.volume("left") == pytest.approx((shown() == 1).sum() / 1000, abs=0.01)
    click = click_middle(tab, "1")
    saved = download(tab, "Save", tmp_path)
    assert np.array_equal(voxels(saved), expected(image, click))


def test_what_is_no_image_is_refused_in_one_sentence(tab, tmp_path):
    (tmp_path / "notes.nii.gz").write_bytes(b"nothing of an image")
    tab.drop(tmp_path / "notes.nii.gz")
    assert "notes.nii.gz" in tab.error
    assert "\n" not in tab.error
    assert "/" not in tab.error, "no path of the server"


def test_a_segmentation_that_is_dropped_is_the_start(tab, tmp_path):
    tab.drop(write_label_map(tmp_path / "other_tool.nii.gz", "LPS", truth()), onto="start")
    assert tab.asked[-1]["start"]["kind"] == "sent"
    assert tab.volume("left") == pytest.approx((truth() == 1).sum() / 1000, abs=0.01)
    assert tab.page.locator("#start option:checked").inner_text() == "other_tool.nii.gz"
    saved = download(tab, "Save", tmp_path)
    assert np.array_equal(voxels(saved), np.array([0, *LABELS.values])[truth()])
    tab.press("Control+z").settle()
    assert tab.asked[-1]["start"]["kind"] == "automatic"


def test_a_segmentation_of_another_image_is_refused(tab, tmp_path):
    before = tab.volume("left")
    far = np.eye(4)
    far[:3, 3] = 5000
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), far), tmp_path / "elsewhere.nii.gz")
    tab.drop(tmp_path / "elsewhere.nii.gz", onto="start")
    assert "elsewhere.nii.gz" in tab.error
    assert tab.volume("left") == before


def test_starting_from_nothing(tab):
    tab.choose("Start from", "empty")
    assert tab.volume("left") == tab.volume("right lung") == 0


def test_a_session_is_saved_and_loaded(browser, server, tab, tmp_path):
    click_middle(tab, "1")
    tab.button("Lock left").click()
    tab.settle()
    steps, volume = tab.steps, tab.volume("left")
    saved = download(tab, "Save session", tmp_path)
    own = InteractiveSession(server.service.sessions[0].model)
    own.load_session(saved, server.service.studies.folder / "case_0.nii.gz")
    assert [click.label for click in own.clicks] == ["left"]
    with opened(browser, server.url) as other:
        other.page.locator("#session-input").set_input_files(saved)
        other.settle()
        assert other.steps == steps
        assert other.volume("left") == volume
        assert other.page.get_by_role("button", name="Lock left").get_attribute("aria-pressed") == "true"
        other.press("Control+z").settle()
        assert other.page.locator("#clicks li").count() == 0
        other.drop(saved)
        assert other.steps == steps


def test_submitting_stores_the_label_and_goes_on(browser, server):
    with opened(browser, server.url) as tab:
        tab.choose("Case", "case_1")
        click = click_middle(tab, "2")
        tab.button("Submit and next").click()
        tab.page.get_by_text("case_1 was submitted").wait_for()
        tab.settle()
        root = server.service.studies.folder
        stored = next((root / "labels" / "final").glob("case_1*"))
        assert np.array_equal(voxels(stored), expected(root / "case_1.nii.gz", click))
        assert tab.page.locator("#case").input_value() in ("case_0", "case_2")
        tab.choose("Case", "case_1")
        tab.choose("Start from", "submitted label")
        assert tab.asked[-1]["start"]["kind"] == "submitted label"
        assert tab.volume("right lung") > (shown() == 2).sum() / 1000


def test_what_another_model_makes_of_the_clicks_is_shown_before_it_is_submitted(browser, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    write_image(studies / "case_0.nii.gz", "RAS")
    with serving(named(model_that_obeys(), tmp_path), studies) as live, opened(browser, live.url) as tab:
        click_middle(tab, "2")
        # As after a training that somebody began.
        live.service.sessions[0].replace_model(random_model(labels=LABELS, patch=(8, 8, 8)))
        tab.button("Submit and next").click()
        tab.page.get_by_text("no longer the one that is shown").wait_for()
        tab.settle()
        assert not list(studies.rglob("labels/final/*"))
        tab.button("Submit and next").click()
        tab.page.get_by_text("case_0 was submitted").wait_for()


def test_the_next_case(browser, server):
    with opened(browser, server.url) as tab:
        first = tab.page.locator("#case").input_value()
        tab.choose("Next case", "random")
        tab.button("Next case").click()
        tab.page.wait_for_function("(first) => document.querySelector('#case').value !== first", arg=first)


def test_a_server_of_one_image_has_no_cases_and_stores_nothing(browser, tmp_path):
    (tmp_path / "one").mkdir()
    write_image(tmp_path / "one" / "case.nii.gz", "LPS")
    models = named(model_that_obeys(), tmp_path)
    with (
        serving(models, tmp_path / "one", trains=False, stores=False) as live,
        opened(browser, live.url, accept_downloads=True) as tab,
    ):
        assert tab.page.locator("#name").inner_text() == "case"
        for name in ("Next case", "Submit and next"):
            assert not tab.button(name).is_visible()
        assert not tab.page.locator("#case").is_visible()
        click = click_middle(tab, "1")
        assert np.array_equal(
            voxels(download(tab, "Save", tmp_path)), expected(tmp_path / "one" / "case.nii.gz", click)
        )


def test_leaving_unsaved_work_is_asked_about(tab):
    click_middle(tab, "1")
    asked = []
    tab.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    tab.page.locator("#case").select_option("case_2")
    tab.settle()
    assert len(asked) == 1
    assert tab.page.locator("#case").input_value() == "case_0"
    assert tab.page.locator("#clicks li").count() == 1


def test_clicks_that_are_collected_are_neither_left_out_nor_lost(tab):
    tab.button("Group").click()
    tab.press("1")
    tab.click("Axial", tab.middle())
    tab.draw()
    assert all(tab.button(name).is_disabled() for name in ("Save", "Submit and next", "Save session"))
    asked = []
    tab.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    tab.page.locator("#case").select_option("case_2")
    tab.settle()
    assert len(asked) == 1
    tab.button("Send 1 together").click()
    tab.settle()
    assert len(tab.clicks) == 1
    assert tab.button("Save").is_enabled()


def test_a_stroke_that_is_drawn_with_keys_stays_with_its_image(tab):
    tab.press("1", "s")
    tab.canvas().focus()
    tab.press("Enter", "ArrowLeft", "ArrowLeft")
    tab.choose("Case", "case_1")
    tab.canvas().focus()
    tab.press("Enter", "Enter").settle()
    assert len(tab.clicks) == 1
    tab.press("Enter", "ArrowLeft", "c")
    tab.press("s", "Enter", "Enter").settle()
    assert [len(step["clicks"]) for step in tab.steps] == [1, 1]


def test_a_label_that_was_locked_after_a_removed_click_is_locked_anew(tab):
    click_middle(tab, "1")
    tab.press("k").settle()
    tab.page.locator("#clicks li").first.get_by_role("button", name="Remove").click()
    tab.settle()
    assert "locked labels become what they are by them" in tab.status


def test_a_case_that_stays_after_its_start_was_submitted_begins_anew(browser, tmp_path):
    studies = tmp_path / "studies"
    (studies / "labels" / "final").mkdir(parents=True)
    write_image(studies / "case_0.nii.gz", "RAS")
    write_label_map(studies / "labels" / "final" / "case_0.nii.gz", "RAS", truth())
    with serving(named(model_that_obeys(), tmp_path), studies) as live, opened(browser, live.url) as tab:
        tab.choose("Start from", "submitted label")
        click_middle(tab, "2")
        tab.button("Submit and next").click()
        tab.page.get_by_text("case_0 was submitted").wait_for()
        tab.settle()
        assert tab.page.locator("#clicks li").count() == 0
        assert tab.asked[-1]["start"] == {"kind": "automatic"}


def test_a_double_click_submits_one_case(browser, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for number in range(3):
        write_image(studies / f"case_{number}.nii.gz")
    with serving(named(model_that_obeys(), tmp_path), studies) as live, opened(browser, live.url) as tab:
        click_middle(tab, "2")
        tab.button("Submit and next").dblclick(delay=100)
        tab.settle()
        assert [path.name for path in (studies / "labels" / "final").iterdir()] == ["case_0.nii.gz"]


def test_what_is_said_of_the_next_case_follows_what_was_submitted(browser, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    write_image(studies / "case_0.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4)), studies / "case_1.nii.gz")
    with serving(named(model_that_obeys(), tmp_path), studies) as live, opened(browser, live.url) as tab:
        click_middle(tab, "2")
        tab.button("Submit and next").click()
        tab.page.get_by_text("case_0 was submitted. case_1.nii.gz: every voxel has the value 0").wait_for()
        (studies / "case_1.nii.gz").unlink()
        tab.choose("Case", "case_0")
        click_middle(tab, "2")
        tab.button("Submit and next").click()
        tab.page.get_by_text("case_0 was submitted. All cases have a label.").wait_for()


def test_the_entry_of_no_case_leaves_the_image(tab):
    tab.page.locator("#case").select_option("")
    tab.settle()
    assert tab.page.locator("#case").input_value() == "case_0"
    assert not tab.error


def test_notes_stay_while_the_uncertainty_is_shown(tab):
    click_middle(tab, "1")
    tab.press("k", "u").settle()
    tab.page.locator("#clicks li").first.get_by_role("button", name="Remove").click()
    tab.settle()
    assert "locked labels become what they are by them" in tab.status


def test_training_on_what_was_submitted(browser, server):
    """It is begun, followed and ended; a server that cannot train says why, as here, where the model's file is none."""
    with opened(browser, server.url) as tab:
        tab.button("Train").click()
        tab.page.locator("#error:not(:empty)").wait_for()
        assert "no model file" in tab.error
        states = [["RUNNING", "step 1 of 9"], ["RUNNING", "step 8 of 9"], ["DONE", "the new model is in use"]]
        asked: list[str] = []

        def answer(route) -> None:
            asked.append(route.request.method)
            state, line = states.pop(0) if len(states) > 1 else states[0]
            route.fulfill(json={"status": state, "details": ["training begins", line]})

        tab.page.route("**/train/", answer)
        tab.button("Train").click()
        tab.wait_for("step 1 of 9")
        assert tab.button("Stop training").is_visible()
        tab.wait_for("the new model is in use")
        tab.button("Train").wait_for()
        assert asked == ["POST", "GET", "GET"]
