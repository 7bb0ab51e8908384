"""What a run on studies is trained on, and what is held back from it and from the model that it began from."""

import shutil
from dataclasses import replace

import pytest

from deepedit.files import one_line
from deepedit.io.msd import find_dataset
from deepedit.io.phantom import write_phantom
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import load_model, save_model
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit.training.run import Run
from deepedit.training.studies import earlier_cases

NETWORK = UNetConfig(filters=(4, 8), strides=(1, 2), kernels=(3, 3))
QUICK = TrainingConfig(epochs=1, batch_size=2, max_clicks=0, validations=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A dataset, and the model of a run on it."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_phantom(folder / "data", num_cases=4, seed=0, shape=(16, 16, 16))
    Run(folder / "run", RunSettings(data, network=NETWORK, spacing=(7.0, 7.0, 7.0), config=QUICK), print, "cpu").train()
    return data, folder / "run" / "model.pt"


@pytest.fixture
def studies(tmp_path):
    """A folder with five submitted label maps, and an image that nobody has looked at."""
    data = write_phantom(tmp_path / "new", num_cases=6, seed=1, shape=(16, 16, 16))
    final = tmp_path / "studies" / "labels" / "final"
    final.mkdir(parents=True)
    for number, path in enumerate(sorted((data / "imagesTr").iterdir())):
        shutil.copy(path, tmp_path / "studies" / f"study_{number}.nii.gz")
        if number < 5:
            shutil.copy(data / "labelsTr" / path.name, final / f"study_{number}.nii.gz")
    return tmp_path / "studies"


@pytest.fixture
def begin(tmp_path):
    def begin(folder, model, name="tuned", resume=False, **more):
        said = []
        settings = RunSettings(folder, True, init_weights=model, **{"split": 0.8, "config": QUICK, **more})
        return Run(tmp_path / name, settings, said.append, "cpu", resume), said

    return begin


def test_a_model_remembers_where_its_training_cases_lie(trained):
    data, path = trained
    model = load_model(path)
    assert set(model.training_files) == set(model.training_cases)
    assert {case.name: case for case in earlier_cases(model)} == {
        case.name: case for case in find_dataset(data).cases if case.name in model.training_cases
    }


def test_it_is_trained_on_studies_and_on_the_cases_before_and_the_rest_neither_model_has_seen(trained, studies, begin):
    _, path = trained
    run, said = begin(studies, path)
    before, after = load_model(path), run.model
    assert {*before.training_cases} < {*after.training_cases}
    held = {*after.validation_cases}
    assert held
    assert held <= {f"study_{number}" for number in range(5)}
    assert not held & {*before.training_cases, *after.training_cases}
    assert {*after.training_cases, *held} == {*before.training_cases, *(f"study_{number}" for number in range(5))}
    assert "note: 1 of 6 cases have no label map to train on; left out" in said
    assert (after.plan.labels, after.plan.spacing) == (before.plan.labels, before.plan.spacing)
    assert run.train()
    # The next one keeps them apart as well, although more was submitted by then.
    shutil.copy(studies / "labels" / "final" / "study_0.nii.gz", studies / "labels" / "final" / "study_5.nii.gz")
    next_run, _ = begin(studies, run.folder / "model.pt", "next")
    assert held <= {*next_run.model.validation_cases}
    assert not {*next_run.model.validation_cases} & {*after.training_cases}
    assert set(next_run.model.training_files) == set(next_run.model.training_cases)


def test_a_model_without_paths_is_trained_on_the_studies_alone(trained, studies, begin, tmp_path):
    old = replace(load_model(trained[1]), training_files={})
    save_model(tmp_path / "old.pt", old)
    run, said = begin(studies, tmp_path / "old.pt")
    assert {*run.model.training_cases, *run.model.validation_cases} == {f"study_{number}" for number in range(5)}
    assert [line for line in said if "does not say where the cases lie" in line]


def test_paths_that_are_gone_are_told_in_one_line(trained, studies, begin, tmp_path):
    old = load_model(trained[1])
    files = {name: ("/nowhere/image.nii.gz", "/nowhere/label.nii.gz") for name in old.training_files}
    save_model(tmp_path / "old.pt", replace(old, training_files=files, inherited_cases=("study_0",)))
    run, said = begin(studies, tmp_path / "old.pt")
    # Its weights know them all the same.
    assert run.model.seen_cases == {*old.training_cases, "study_0", *run.model.training_cases}
    assert "study_0" in run.model.training_cases
    assert {*run.model.training_cases, *run.model.validation_cases} == {f"study_{number}" for number in range(5)}
    assert [line for line in said if "cases of the earlier training are gone, such as /nowhere/image.nii.gz" in line]


def test_other_labels_are_trained_on_the_studies_alone(trained, studies, begin):
    run, said = begin(studies, trained[1], labels={"spleen": 2, "gall bladder": 3})
    assert {*run.model.training_cases, *run.model.validation_cases} == {f"study_{number}" for number in range(5)}
    assert [line for line in said if "the labels are not those of the model" in line]


def test_an_image_that_cannot_be_read_costs_that_case_only(trained, studies, begin):
    path = studies / "study_1.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    run, said = begin(studies, trained[1])
    assert "study_1" not in {*run.model.training_cases, *run.model.validation_cases}
    (line,) = [line for line in said if "study_1" in line]
    assert "is left out: " in line
    assert one_line(studies) + "/" not in line
    assert {case.name for case in run.trainer.cases} == {*run.model.training_cases} == set(run.model.training_files)


def test_a_run_goes_on_with_its_own_cases_whatever_was_submitted_since(trained, studies, begin):
    run, _ = begin(studies, trained[1], config=replace(QUICK, epochs=4))
    assert not run.train(stop=lambda: run.trainer.progress.step == 2)
    shutil.copy(studies / "labels" / "final" / "study_0.nii.gz", studies / "labels" / "final" / "study_5.nii.gz")
    again, _ = begin(studies, trained[1], resume=True, config=replace(QUICK, epochs=4))
    assert again.trainer.progress.step == 2
    assert again.model.training_cases == run.model.training_cases
    assert again.train()


def test_studies_need_a_model():
    with pytest.raises(ValueError, match="`studies` needs the model whose labels they have"):
        RunSettings("studies", True)
