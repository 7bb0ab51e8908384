"""3D Slicer's own extension at work with the server."""

import os

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.inference.annotation import annotate
from deepedit.inference.session import InteractiveSession
from deepedit.metrics import dice
from deepedit.server.access import Access
from tests.server.live import (
    GRIDS,
    LABELS,
    SHAPE,
    model_that_obeys,
    model_with_weights,
    named,
    serving,
    shown,
    truth,
    write_image,
)
from tests.server.slicer import Slicer

CLICKS = [
    ("left", (2, 3, 4)),
    ("right lung", (14, 12, 2)),
    ("left", (9, 9, 9)),
    ("background", (3, 3, 5)),
    ("right lung", (15, 0, 11)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    for seed, grid in enumerate(GRIDS):
        write_image(folder / f"{grid}.nii.gz", grid, seed)
    return folder


@pytest.fixture(scope="module")
def live(folder, tmp_path_factory):
    with serving(named(model_with_weights(), tmp_path_factory.mktemp("run")), folder) as live:
        yield live


@pytest.fixture
def slicer(live, tmp_path):
    return opened(live, tmp_path)


@pytest.fixture
def own(tmp_path):
    """A server and its folder of two cases for this test alone, whose model finds what images show."""
    studies = tmp_path / "studies"
    studies.mkdir()
    for name, grid in (("case_1", "LPS"), ("case_2", "PIR")):
        write_image(studies / f"{name}.nii.gz", grid)
    with serving(named(model_that_obeys(), tmp_path), studies) as live:
        yield live, studies


def opened(live, folder, **options):
    """Slicer with what there is fetched."""
    slicer = Slicer(live.url, folder, **options)
    slicer.widget.onClickFetchInfo()
    assert slicer.errors == []
    return slicer


def session_of(path, clicks=(), start=None, model=None):
    """The ranks of a session of its own that gets these clicks."""
    model = model or model_with_weights()
    session = InteractiveSession(model)
    session.set_image(path)
    if start is None:
        session.predict()
    else:
        session.set_segmentation(start)
    for label, voxel in clicks:
        session.add_click(voxel, label)
    return model.plan.labels.to_classes(session.predict())


def test_it_fetches_models_labels_and_strategies(slicer):
    assert slicer.ui.segmentationModelSelector.items == ["segmentation"]
    assert slicer.ui.deepgrowModelSelector.items == ["deepedit"]
    assert slicer.ui.scribblesMethodSelector.items == ["scribbles"]
    assert slicer.ui.strategyBox.items == ["first", "random", "uncertainty"]
    assert slicer.ui.trainerBox.items == ["deepedit"]
    assert slicer.ui.labelComboBox.items == ["left", "right lung", "background"]


def test_results_are_those_of_a_session_however_the_image_is_stored(slicer, folder):
    for _ in GRIDS:
        slicer.widget.onNextSampleButton()
        name = slicer.widget.current_sample["id"]
        slicer.widget.onClickSegmentation()
        assert slicer.errors == []
        assert_array_equal(slicer.segmentation(LABELS.names), session_of(folder / f"{name}.nii.gz"))
        for count, click in enumerate(CLICKS, 1):
            slicer.click(*click)
            assert slicer.errors == []
            assert_array_equal(
                slicer.segmentation(LABELS.names), session_of(folder / f"{name}.nii.gz", CLICKS[:count]), name
            )
        assert np.unique(slicer.segmentation(LABELS.names)).tolist() == [0, 1, 2]


def test_the_clicks_of_the_annotator_raise_dice_as_in_an_evaluation(own, tmp_path):
    live, studies = own
    slicer = opened(live, tmp_path)
    slicer.widget.onNextSampleButton()
    slicer.widget.onClickSegmentation()
    session = InteractiveSession(model_that_obeys())
    session.set_image(studies / "case_1.nii.gz")
    scores = []
    for each in annotate(session, truth(), max_clicks=10):
        if each.voxel is not None:
            slicer.click(LABELS.class_names[each.label], each.voxel)
        assert slicer.errors == []
        found = slicer.segmentation(LABELS.names)
        assert_array_equal(found, each.classes)
        scores.append(np.mean([dice(found == index, truth() == index) for index in (1, 2)]))
    assert len(scores) == 11
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.15


def test_next_sample_gives_one_case_after_the_other_and_then_a_sentence(own, tmp_path):
    live, studies = own
    slicer = opened(live, tmp_path)
    slicer.settings["MONAILabel/autoRunSegmentationOnNextSample"] = True
    for name in ("case_1", "case_2"):
        slicer.widget.onNextSampleButton()
        assert slicer.widget.current_sample["id"] == name
        assert_array_equal(slicer.segmentation(LABELS.names), shown())
        slicer.widget.onSaveLabel()
    slicer.widget.onNextSampleButton()
    assert slicer.errors == []
    assert slicer.warnings[-1].startswith("Unlabeled samples or images not found")
    assert sorted(path.name for path in (studies / "labels" / "final").iterdir()) == ["case_1.nii.gz", "case_2.nii.gz"]


def test_a_case_that_is_not_on_the_disk_of_the_viewer_is_downloaded(own, tmp_path, monkeypatch):
    live, studies = own
    slicer = opened(live, tmp_path)
    real = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: not str(path).startswith(str(studies)) and real(path))
    slicer.widget.onNextSampleButton()
    assert slicer.errors == []
    assert (tmp_path / "case_1.nii.gz").read_bytes() == (studies / "case_1.nii.gz").read_bytes()


@pytest.mark.parametrize(
    ("suffix", "overlapping"), [(".nii.gz", False), (".nrrd", False), (".seg.nrrd", False), (".seg.nrrd", True)]
)
def test_a_submitted_label_map_has_file_values_on_the_grid_of_its_image(own, tmp_path, suffix, overlapping):
    live, studies = own
    slicer = Slicer(live.url, tmp_path)
    slicer.settings |= {"MONAILabel/fileExtension": suffix, "MONAILabel/allowOverlappingSegments": overlapping}
    slicer.widget.onClickFetchInfo()
    slicer.widget.onNextSampleButton()
    slicer.widget.onNextSampleButton()
    slicer.paint("left", truth() == 1)
    slicer.paint("right lung", truth() == 2)
    slicer.widget.onSaveLabel()
    assert slicer.errors == []
    assert "Label-Mask saved" in slicer.infos[-1]
    label, image = nib.load(studies / "labels" / "final" / "case_2.nii.gz"), nib.load(studies / "case_2.nii.gz")
    assert_array_equal(label.get_fdata(), np.array([0, 3, 7])[truth()])
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-6)
    assert slicer.widget.info["datastore"] == {"total": 2, "completed": 1, "label_tags": {"final": 1}}


def test_a_label_that_is_not_submitted_keeps_the_values_of_the_others(own, tmp_path):
    live, studies = own
    slicer = opened(live, tmp_path)
    slicer.widget.onNextSampleButton()
    del slicer.widget._segmentNode.GetSegmentation().segments["left"]
    slicer.paint("right lung", truth() == 2)
    slicer.widget.onSaveLabel()
    data = nib.load(studies / "labels" / "final" / "case_1.nii.gz").get_fdata()
    assert_array_equal(data, 7 * (truth() == 2))


def test_a_segment_of_another_name_is_refused_in_a_sentence(own, tmp_path):
    live, studies = own
    slicer = opened(live, tmp_path)
    slicer.widget.onNextSampleButton()
    slicer.widget._segmentNode.GetSegmentation().AddEmptySegment("mine", "a tumour")
    slicer.paint("a tumour", truth() == 1)
    slicer.widget.onSaveLabel()
    assert "the model has no label a tumour (it has left, right lung)" in slicer.errors.pop()
    assert not (studies / "labels").exists()
    slicer.widget.updateGUIFromParameterNode()
    slicer.click("a tumour", (1, 1, 1))
    assert "a tumour" in slicer.errors.pop()


def test_clicks_may_start_from_a_submitted_label_map(own, tmp_path):
    live, studies = own
    slicer = opened(live, tmp_path)
    slicer.widget.onNextSampleButton()
    slicer.option("deepedit", "start_from", "submitted label")
    slicer.click("left", (12, 12, 1))
    assert "this image has no submitted label to start from; choose automatic" in slicer.errors.pop()
    slicer.paint("left", truth() == 1)
    slicer.widget.onSaveLabel()
    slicer.click("left", (12, 12, 1))
    assert slicer.errors == []
    clicks = [("left", (12, 12, 1)), ("left", (12, 12, 1))]
    image, label = studies / "case_1.nii.gz", studies / "labels" / "final" / "case_1.nii.gz"
    expected = session_of(image, clicks, label, model_that_obeys())
    assert_array_equal(slicer.segmentation(LABELS.names), expected)
    assert_array_equal(expected[:8], truth()[:8])


def test_an_automatic_result_that_lies_there_is_shown_with_the_next_sample(own, tmp_path):
    live, studies = own
    original = studies / "labels" / "original" / "case_1.nii.gz"
    original.parent.mkdir(parents=True)
    image = nib.load(studies / "case_1.nii.gz")
    nib.save(nib.Nifti1Image(np.array([0, 3, 7], np.uint8)[truth()], image.affine), original)
    slicer = opened(live, tmp_path)
    slicer.widget.onNextSampleButton()
    assert slicer.widget.current_sample["id"] == "case_1"
    assert_array_equal(slicer.segmentation(LABELS.names), truth())


def test_a_frozen_label_alone_changes(own, tmp_path):
    live, studies = own
    slicer = opened(live, tmp_path)
    slicer.widget.onNextSampleButton()
    slicer.paint("right lung", truth() == 2)
    slicer.ui.freezeUpdateCheckBox.checked = True
    slicer.click("left", (12, 12, 1))
    assert slicer.errors == []
    expected = session_of(studies / "case_1.nii.gz", [("left", (12, 12, 1))], model=model_that_obeys())
    found = slicer.segmentation(["left"])
    assert_array_equal(found, expected == 1)
    assert_array_equal(slicer.segmentation(["right lung"]), truth() == 2)


@pytest.mark.parametrize(
    "name", ["2: CT chest/x", "../..", "Schädel 头 📷", "  two  spaces ", "a.nii.gz", "x" * 300, "case_0001"]
)
def test_a_volume_of_the_viewer_is_clicked_on_and_then_becomes_a_case(own, tmp_path, name):
    live, studies = own
    image = write_image(tmp_path / "mine.nii.gz", "oblique", seed=3)
    slicer = opened(live, tmp_path)
    before = {path for path in tmp_path.rglob("*") if studies not in path.parents}
    slicer.open(image, name)
    assert slicer.widget.current_sample["session"]
    slicer.click("left", (2, 3, 4))
    slicer.click("right lung", (12, 9, 9))
    assert slicer.errors == []
    clicks = [("left", (2, 3, 4)), ("right lung", (12, 9, 9))]
    assert_array_equal(slicer.segmentation(LABELS.names), session_of(image, clicks, model=model_that_obeys()))
    assert live.service.studies.ids() == ["case_1", "case_2"]
    slicer.widget.onSaveLabel()
    assert slicer.errors == []
    (new,) = set(live.service.studies.ids()) - {"case_1", "case_2"}
    assert live.service.studies.id_of(name) == new
    label = nib.load(studies / "labels" / "final" / f"{new}.nii.gz")
    assert_array_equal(label.get_fdata(), np.array([0, 3, 7])[slicer.segmentation(LABELS.names)])
    slicer.widget.onClickSegmentation()
    assert slicer.errors == []
    after = {path for path in tmp_path.rglob("*") if studies not in path.parents and path.suffix != ".gz"}
    assert {path for path in after - before if path.is_file()} <= set(slicer.folder.rglob("*.nrrd"))


def test_a_volume_whose_time_is_over_is_sent_again(own, tmp_path):
    live, _ = own
    slicer = opened(live, tmp_path)
    slicer.open(write_image(tmp_path / "mine.nii.gz", "oblique", seed=3), "mine")
    slicer.click("left", (2, 3, 4))
    first = slicer.widget.current_sample["session_id"]
    live.service.kept.remove(first)
    slicer.click("left", (2, 9, 4))
    assert slicer.errors == []
    assert slicer.widget.current_sample["session_id"] != first
    clicks = [("left", (2, 3, 4)), ("left", (2, 9, 4))]
    expected = session_of(tmp_path / "mine.nii.gz", clicks, model=model_that_obeys())
    assert_array_equal(slicer.segmentation(LABELS.names), expected)


def test_scribbles_correct_what_is_there_in_one_label(own, tmp_path):
    live, _ = own
    slicer = opened(live, tmp_path)
    slicer.widget.onNextSampleButton()
    slicer.widget.ensureScribblesLayersPresent()
    edited = truth()
    slicer.paint("right lung", edited == 2)
    slicer.paint("left", edited == 1)
    slicer.ui.scribLabelComboBox.setCurrentText("left")
    wanted, unwanted = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    wanted[2:5, 12, 5], unwanted[5, 3:6, 5] = True, True
    slicer.paint("foreground_scribbles", wanted)
    slicer.paint("background_scribbles", unwanted)
    slicer.widget.onUpdateScribbles()
    assert slicer.errors == []
    left = slicer.segmentation(["left"]).astype(bool)
    assert left[wanted].all()
    assert not left[unwanted].any()
    assert not (left & (edited == 2)).any()
    assert left[truth() == 1].mean() > 0.5
    assert_array_equal(slicer.segmentation(["right lung"]), edited == 2)


def test_scribbles_without_any_are_refused_in_a_sentence(own, tmp_path):
    live, _ = own
    slicer = opened(live, tmp_path)
    slicer.widget.onNextSampleButton()
    slicer.widget.onUpdateScribbles()
    assert "nothing is scribbled" in slicer.errors.pop()


def test_a_password_is_asked_for_and_the_next_sample_comes_without_it(tmp_path, monkeypatch):
    studies = tmp_path / "studies"
    studies.mkdir()
    write_image(studies / "case_1.nii.gz")
    monkeypatch.setattr(os.path, "exists", lambda path, real=os.path.exists: "studies" not in str(path) and real(path))
    with serving(named(model_that_obeys(), tmp_path), studies, Access("a-token-of-many-signs")) as live:
        wrong = Slicer(live.url, tmp_path, password="wrong")
        wrong.widget.onClickFetchInfo()
        assert "log in first" in wrong.errors.pop()
        slicer = opened(live, tmp_path, password="a-token-of-many-signs")
        slicer.widget.onNextSampleButton()
        slicer.click("left", (1, 2, 3))
        assert slicer.errors == []
        assert slicer.segmentation(LABELS.names).any()
