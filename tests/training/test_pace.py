"""How many steps the time of a run leaves, and the patch with which they are enough."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepedit.io.msd import find_dataset
from deepedit.network.architectures import NETWORKS
from deepedit.plan import Labels, Plan
from deepedit.training import room
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit.training.pace import CONTEXT, label_extents, least_patch, pace
from deepedit.training.planning import shortened_patch
from deepedit.training.record import read_config, write_config
from deepedit.training.run import Run
from deepedit.training.schedule import draw_passes, mean_passes

DIVISOR = (8, 8, 8)
PLAN = Plan(Labels.from_mapping({"organ": 1}), (1.0, 1.0, 1.0), (64, 64, 64))
SIDES = st.tuples(*[st.integers(1, 16).map(lambda number: 8 * number)] * 3)


@given(patch=SIDES, least=SIDES, most=st.integers(1, 128**3))
def test_a_patch_is_shortened_until_there_is_time_for_it_and_no_further(patch, least, most):
    tried = []

    def enough(sides):
        tried.append(sides)
        return np.prod(sides) <= most

    found = shortened_patch(patch, least, DIVISOR, enough)
    for side, whole, lowest in zip(found, patch, least, strict=True):
        assert side % 8 == 0
        assert min(whole, lowest) <= side <= whole
    assert tried[-1] == found
    assert not any(map(enough, tried[: tried.index(found)]))
    assert enough(found) or all(side - 8 < lowest for side, lowest in zip(found, least, strict=True))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.75])
@pytest.mark.parametrize("settings", [{}, {"max_clicks": 3, "edit_probability": 1.0}, {"max_clicks": 0}])
def test_the_mean_number_of_passes_is_that_of_many_samples(share, settings):
    config = TrainingConfig(**settings)
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_passes(generator, share, config)[0] for _ in range(20_000)]
    assert mean_passes(share, config) == pytest.approx(np.mean(drawn), rel=0.03)


def test_the_pace_without_clicks_and_with_patches_of_one_size_is_time_over_time():
    config = TrainingConfig(max_minutes=10, click_probability=0.0, small_patches=0.0, refiner_cases=0)
    found = pace(1e-6, PLAN, DIVISOR, config, batch=2, cases=50)
    assert found.steps == pytest.approx(600 / (1e-6 * 2 * 64**3))
    assert found.visits == pytest.approx(found.steps * config.batch_size / 50)


def test_clicks_and_large_patches_leave_fewer_visits():
    config = TrainingConfig(max_minutes=10)

    def visits(plan=PLAN, **changes):
        return pace(1e-6, plan, DIVISOR, replace(config, **changes), batch=4, cases=50).visits

    assert visits() < visits(click_probability=0.2)
    assert visits(replace(PLAN, patch_size=(64, 64, 96))) < visits()
    assert visits(max_minutes=20) == pytest.approx(2 * visits())


def write_case(folder, name, orientation="RAS", spacing=(1.0, 1.0, 1.0), shape=(96, 72, 64)):
    """A box of a label of 20 x 16 x 12 voxels, a smaller one beside it; axes R, A, S before it is turned."""
    label = np.zeros(shape, np.uint8)
    label[30:50, 20:36, 10:22] = 1
    label[60:90, 60:62, 40:42] = 2
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for kind, array in (("imagesTr", noise + label), ("labelsTr", label)):
        image = nib.Nifti1Image(array, np.diag([*spacing, 1]))
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(orientation)
        )
        path = folder / kind / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image.as_reoriented(turn), path)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 2.0, 5.0)])
def test_the_largest_label_is_measured_along_the_axes_of_the_network(tmp_path, orientation, spacing):
    write_case(tmp_path, "one", orientation, spacing)
    dataset = find_dataset(tmp_path)
    plan = replace(PLAN, labels=dataset.labels)
    [found] = label_extents(dataset.cases, plan)
    assert found == pytest.approx(np.multiply((20, 16, 12), spacing))


def test_a_patch_holds_the_largest_label_and_what_is_around_it():
    plan = replace(PLAN, patch_size=(128, 48, 128))
    assert least_patch([(20, 20, 90), (30, 20, 80), (5, 20, 70)], plan, DIVISOR) == (56, 48, 112)
    assert 8 * -(-(20 + 2 * CONTEXT) // 8) == 56
    assert least_patch([], plan, DIVISOR) == plan.patch_size


@pytest.fixture
def dataset(tmp_path):
    for number in range(3):
        write_case(tmp_path / "data", f"case_{number}")
    return tmp_path / "data"


def small(dataset, **changes):
    config = TrainingConfig(max_minutes=0.01, validations=0, batch_size=1)
    return RunSettings(dataset, network=NETWORKS["light"], split=0.67, config=replace(config, **changes))


def test_a_run_by_the_clock_takes_a_smaller_patch_says_so_and_is_repeated_with_it(dataset, tmp_path, monkeypatch):
    said = []
    run = Run(tmp_path / "run", small(dataset), said.append, "cpu")
    assert run.model.plan.patch_size == (56, 48, 48)
    [line] = [line for line in said if "instead of 96 x 72 x 64" in line]
    assert "`patch_size` chooses another" in line
    write_config(run.folder, run.settings)

    def measured_again(*arguments):
        raise AssertionError("a run that is repeated has its patch already")

    monkeypatch.setattr(room, "seconds_per_voxel", measured_again)
    again = Run(tmp_path / "again", read_config(run.folder), said.append, "cpu")
    assert again.model.plan == run.model.plan


@pytest.mark.parametrize("changes", [{"max_minutes": None}, {"max_minutes": 1e6}])
def test_with_time_enough_or_by_epochs_the_patch_stays_large(dataset, tmp_path, changes):
    run = Run(tmp_path / "run", small(dataset, **changes), lambda line: None, "cpu")
    assert run.model.plan.patch_size == (96, 72, 64)
    assert run.settings.patch_size is None
