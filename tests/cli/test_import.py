"""deepedit-train --import-monai and --export monai, as their users run them."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch

from deepedit.inference.session import InteractiveSession
from deepedit.io.phantom import write_phantom
from deepedit.network.checkpoint import load_model
from deepedit.plan import MergePolicy
from deepedit_cli import infer, train
from tests.network.dynunet import random_state_dict, run_state_dict

STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 1))
CHOICES = ("--labels", "spleen=2,background=0", "--channel-order", "dict", "--grid", "16,16,8")


@pytest.fixture(scope="module")
def weights():
    return random_state_dict(3, 2, (4, 5, 6), STRIDES)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", num_cases=3, seed=0, shape=(24, 20, 16))


@pytest.fixture
def source(weights, tmp_path):
    torch.save({"model": weights}, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


@pytest.fixture
def imported(source, tmp_path):
    assert train.main(["--import-monai", str(source), *CHOICES, "--output", str(tmp_path / "run")]) == 0
    return tmp_path / "run" / "model.pt"


def fails(capsys, main, *arguments):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_one_command_makes_an_ordinary_model(source, tmp_path, capsys):
    assert train.main(["--import-monai", str(source), *CHOICES, "--output", str(tmp_path / "run")]) == 0
    model = tmp_path / "run" / "model.pt"
    plan = load_model(model).plan
    assert plan.labels.names == ("spleen",)
    assert plan.labels.values == (2,)
    assert (plan.fixed_shape, plan.guidance, plan.sigma, plan.previous) == ((16, 16, 8), "sum-normalized", 3.0, False)
    said = capsys.readouterr().out
    assert "spleen=2; resizes images to 16 x 16 x 8 voxels, takes no segmentation to correct" in said
    assert f"--init-weights {model}" in said


def test_it_segments_files_with_and_without_clicks(imported, weights, dataset, tmp_path):
    image = sorted((dataset / "imagesTr").iterdir())[0]
    for name, clicks in (("plain", []), ("clicked", ["--click", "spleen:3,4,5", "--click", "background:20,2,9"])):
        output = tmp_path / f"{name}.nii.gz"
        command = ["--model", str(imported), "--input", str(image), "--output", str(output), "--amp", "off"]
        assert infer.main([*command, *clicks]) == 0
        labels = np.asanyarray(nibabel.load(output).dataobj)
        assert labels.shape == (24, 20, 16)
        assert set(np.unique(labels)) <= {0, 2}
    session = InteractiveSession.from_checkpoint(imported, "cpu", amp="off")
    session.set_image(image)
    session.predict()
    # Without clicks the guidance is empty, in whatever order its channels are.
    x = torch.cat((session._timeline.scene.image[None], torch.zeros(1, 2, 16, 16, 8)), dim=1)
    expected = run_state_dict(weights, x, STRIDES)[0]
    torch.testing.assert_close(session._timeline.state.logits.float(), expected, atol=2e-2, rtol=2e-3)


def test_it_says_that_it_cannot_correct_a_segmentation(imported, dataset, tmp_path, capsys):
    image, label = (sorted((dataset / each).iterdir())[0] for each in ("imagesTr", "labelsTr"))
    command = ("--model", imported, "--input", image, "--output", tmp_path / "seg.nii.gz")
    message = fails(capsys, infer.main, *command, "--initial-segmentation", label, "--click", "spleen:3,4,5")
    assert "takes no previous segmentation" in message
    assert "--widen" in message


def test_widened_and_fine_tuned_it_corrects(source, dataset, tmp_path):
    wide, tuned = tmp_path / "wide", tmp_path / "tuned"
    assert train.main(["--import-monai", str(source), *CHOICES, "--widen", "--output", str(wide)]) == 0
    command = ["--input", str(dataset), "--labels", "spleen=2", "--init-weights", str(wide / "model.pt")]
    assert train.main([*command, "--epochs", "1", "--device", "cpu", "--output", str(tuned)]) == 0
    # What a click may change is no longer what MONAI shows.
    plan = load_model(tuned / "model.pt").plan
    assert plan == replace(load_model(wide / "model.pt").plan, merge=MergePolicy())
    image, label = (sorted((dataset / each).iterdir())[0] for each in ("imagesTr", "labelsTr"))
    edited = ["--input", str(image), "--initial-segmentation", str(label), "--click", "spleen:3,4,5"]
    model, output = str(tuned / "model.pt"), str(tmp_path / "seg.nii.gz")
    assert infer.main(["--model", model, *edited, "--output", output]) == 0


def test_fine_tuned_as_it_is_it_goes_back_to_monai(imported, weights, dataset, tmp_path, capsys):
    tuned, target = tmp_path / "tuned", tmp_path / "back.pt"
    command = ["--input", str(dataset), "--labels", "spleen=2", "--init-weights", str(imported), "--epochs", "1"]
    assert train.main([*command, "--device", "cpu", "--output", str(tuned)]) == 0
    assert load_model(tuned / "model.pt").plan == replace(load_model(imported).plan, merge=MergePolicy())
    export = ["--input", str(tuned / "model.pt"), "--output", str(target), "--export", "monai"]
    assert train.main([*export, "--channel-order", "dict"]) == 0
    assert "DynUNet(spatial_dims=3, in_channels=3, out_channels=2" in capsys.readouterr().out
    back = torch.load(target, weights_only=True)
    assert {name: back[name].shape for name in weights} == {name: weights[name].shape for name in weights}
    assert any(not torch.equal(back[name], weights[name]) for name in weights)


def test_untouched_it_goes_back_as_it_came(imported, weights, tmp_path):
    target = tmp_path / "back.pt"
    export = ["--input", str(imported), "--output", str(target), "--export", "monai", "--channel-order", "dict"]
    assert train.main(export) == 0
    back = torch.load(target, weights_only=True)
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def test_a_fixed_grid_is_not_changed_by_fine_tuning(imported, dataset, tmp_path, capsys):
    command = ("--input", dataset, "--init-weights", imported, "--output", tmp_path / "tuned")
    assert "--spacing" in fails(capsys, train.main, *command, "--spacing", "2")
    assert "--patch-size" in fails(capsys, train.main, *command, "--patch-size", "16,16,8")
    said = fails(capsys, train.main, *command, "--window", "-1000", "400")
    assert "--window or --percentiles: the model in --init-weights takes intensities by window -175 to 250" in said


def test_what_the_weights_do_not_tell_is_asked_for(source, tmp_path, capsys):
    run = tmp_path / "run"
    command = ("--import-monai", source, "--output", run)
    assert "--labels spleen=1,background=0" in fails(capsys, train.main, *command)
    message = fails(capsys, train.main, *command, "--labels", "spleen=2")
    assert "--channel-order: sorted if MONAI 1.6 or later trained the model, dict if an earlier one did" in message
    assert "--help says how to find out" in message
    assert not run.exists()
    with pytest.raises(SystemExit):
        train.main(["--help"])
    assert "with the wrong order the click removes instead of adding" in capsys.readouterr().out


def test_mistakes_are_one_line_and_leave_nothing_behind(source, tmp_path, capsys):
    run = tmp_path / "run"
    command = ("--import-monai", source, "--output", run, "--channel-order", "sorted")
    message = fails(capsys, train.main, *command, "--labels", "spleen=1,liver=2")
    assert "weights.pt: the weights take 3 channels and give 2" in message
    spleen = (*command, "--labels", "spleen=1")
    assert "multiple of 4,4,2" in fails(capsys, train.main, *spleen, "--grid", "16,16,9")
    assert "strides 1,2,2 were asked for" in fails(capsys, train.main, *spleen, "--strides", "1,2,2")
    assert "are no strides" in fails(capsys, train.main, *spleen, "--strides", "1,(2,2)")
    assert "does not train" in fails(capsys, train.main, *spleen, "--input", tmp_path)
    assert "no such file" in fails(capsys, train.main, "--import-monai", tmp_path / "no.pt", *spleen[2:])
    assert not run.exists()


def test_what_is_there_stays_without_overwrite(imported, source, tmp_path, capsys):
    before = imported.read_bytes()
    command = ("--import-monai", source, "--output", imported.parent, *CHOICES)
    assert "--overwrite" in fails(capsys, train.main, *command)
    assert imported.read_bytes() == before
    assert train.main([str(each) for each in (*command, "--overwrite", "--strides", "1,2,(2,2,1)")]) == 0
