"""3D Slicer's own extension at work with the server."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.inference.session import InteractiveSession
from tests.server.live import GRIDS, LABELS, SHAPE, model_with_weights, named, serving, write_image
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
    slicer = Slicer(live.url, tmp_path)
    slicer.widget.onClickFetchInfo()
    assert slicer.errors == []
    return slicer


def session_of(path, clicks=()):
    """The ranks of a session of its own that gets these clicks."""
    model = model_with_weights()
    session = InteractiveSession(model)
    session.set_image(path)
    session.predict()
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
