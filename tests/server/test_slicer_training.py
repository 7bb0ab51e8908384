"""3D Slicer's own extension from the first sample to the new model, and its training stopped."""

import pytest

from deepedit.server.service import load_models
from tests.cli.refusals import write_model
from tests.server.live import serving, until
from tests.server.slicer import Slicer
from tests.soak.slicer import unlabelled, work


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.pt"
    write_model(path)
    return path


@pytest.mark.slow
def test_from_the_first_sample_to_the_new_model(tmp_path, model):
    truths = unlabelled(tmp_path, cases=2, seed=1, shape=(24, 24, 24))
    lines = []
    assert work(tmp_path, model, truths, clicks=4, minutes=0.03, say=lines.append, adopt=True) == "DONE"
    assert "adopted without a comparison" in lines[-1]
    assert sum("to the voxel" in line for line in lines) == 2 * 5 + 1
    assert ".deepedit/models" in next(line for line in lines if "automatic result as of" in line)


@pytest.mark.slow
def test_training_is_refused_in_a_sentence_then_begun_and_stopped(tmp_path, model):
    unlabelled(tmp_path, cases=6, seed=1, shape=(16, 16, 16))
    studies = tmp_path / "studies"
    with serving(load_models([model], studies, "cpu", lambda line: None), studies) as live:
        slicer = Slicer(live.url, tmp_path)
        slicer.widget.onClickFetchInfo()
        slicer.widget.onTraining()
        assert "no case has a submitted label map to train on; submit one first" in slicer.errors.pop()
        for left in (4, 3, 2, 1, 0):
            slicer.widget.onNextSampleButton()
            slicer.paint("liver", slicer.segmentation(()) == 0)
            slicer.widget.onSaveLabel()
            assert slicer.errors == []
            assert slicer.ui.trainingButton.setEnabled.call_args[0][0]
            if left:
                slicer.widget.onTraining()
                assert f"submit {left} more" in slicer.errors.pop()
        slicer.widget.onTraining()
        assert slicer.errors == []
        assert slicer.ui.stopTrainingButton.setEnabled.call_args[0][0]
        slicer.widget.onTraining()
        assert "a training is under way already" in slicer.errors.pop()
        (tick,) = slicer.timers
        tick()
        assert slicer.widget.timer is not None
        slicer.widget.onStopTraining()
        assert slicer.errors == []
        assert not slicer.ui.stopTrainingButton.setEnabled.call_args[0][0]
        tick()
        assert slicer.widget.timer is None
        assert slicer.widget.logic.train_status(False)["status"] == "STOPPED"
        until(lambda: live.said)
        assert live.said == ["training was stopped; the model stays as it was"]
