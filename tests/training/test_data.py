"""Prepared cases on disk, and the patches cut from them."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from deepedit.errors import FileError
from deepedit.io.msd import find_dataset, read_case
from deepedit.io.nifti import read_label
from deepedit.io.phantom import write_phantom
from deepedit.network.architectures import NETWORKS
from deepedit.plan import Intensity, Labels, Plan
from deepedit.training.data import cut_patch, cut_side, held_case, prepare_case
from deepedit.training.planning import fitting_side, make_plan
from tests.training.conftest import PATCH, ball_case


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return find_dataset(write_phantom(tmp_path_factory.mktemp("data") / "phantom", num_cases=3, seed=1))


def test_a_prepared_case_is_read_back_and_not_computed_again(dataset, tmp_path):
    plan = make_plan(dataset, NETWORKS["light"])
    first = prepare_case(dataset.cases[0], plan, tmp_path)
    (entry,) = tmp_path.iterdir()
    os.utime(entry, (1, 1))
    entries = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy"))
    again = prepare_case(dataset.cases[0], plan, tmp_path)
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")) == entries
    assert entry.stat().st_mtime > 1  # it was used
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.label, again.label)
    assert first.image.shape[1:] == first.label.shape
    assert isinstance(first.image, np.memmap)


def test_another_process_may_have_prepared_the_same_case_meanwhile(dataset, tmp_path, monkeypatch):
    plan = make_plan(dataset, NETWORKS["light"])
    rename = os.rename

    def overtaken(source, target):
        shutil.copytree(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", overtaken)
    case = prepare_case(dataset.cases[0], plan, tmp_path)
    alone = prepare_case(dataset.cases[0], plan, tmp_path / "alone")
    assert np.array_equal(case.label, alone.label)
    assert len(os.listdir(tmp_path / "alone")) == 1
    assert len(os.listdir(tmp_path)) == 2


def test_many_may_prepare_the_same_case_at_once(dataset, tmp_path):
    plan = make_plan(dataset, NETWORKS["light"])
    with ThreadPoolExecutor(4) as pool:
        cases = list(pool.map(lambda _: prepare_case(dataset.cases[0], plan, tmp_path), range(4)))
    assert len(os.listdir(tmp_path)) == 1
    assert all(np.array_equal(case.image, cases[0].image) for case in cases)


def test_another_plan_is_another_entry(dataset, tmp_path):
    plan = make_plan(dataset, NETWORKS["light"])
    other = make_plan(dataset, NETWORKS["light"], spacing=(4, 4, 4))
    a, b = (prepare_case(dataset.cases[0], each, tmp_path) for each in (plan, other))
    assert a.label.shape != b.label.shape


def test_another_seed_is_another_entry_as_other_voxels_are_chosen(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("deepedit.training.data.VOXELS_REMEMBERED", 5)
    plan = make_plan(dataset, NETWORKS["light"])
    first, second, again = (prepare_case(dataset.cases[0], plan, tmp_path, seed).voxels for seed in (0, 1, 0))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, again)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_intensities_of_the_model_to_start_from_are_kept_where_the_dataset_is_of_its_kind(dataset, modality):
    dataset = replace(dataset, modality=modality)
    window, percentiles = Intensity("window", -1000, 400), Intensity("percentile", 1, 99)
    plan = make_plan(dataset, NETWORKS["light"])
    for intensity, kind in ((window, "CT"), (percentiles, "MR")):
        planned = make_plan(dataset, NETWORKS["light"], source=replace(plan, intensity=intensity))
        assert planned.intensity == (intensity if kind == modality else plan.intensity)
    asked = make_plan(dataset, NETWORKS["light"], intensity=Intensity("zscore", 2, 98), source=plan)
    assert asked.intensity == Intensity("zscore", 2, 98)


def test_remembered_voxels_carry_the_class_that_is_there(dataset, tmp_path):
    case = prepare_case(dataset.cases[0], make_plan(dataset, NETWORKS["light"]), tmp_path)
    assert len(case.voxels)
    assert np.array_equal(case.label[tuple(case.voxels[:, 1:].T)], case.voxels[:, 0])


def test_a_cut_is_a_piece_of_the_case_and_zero_beyond_it():
    case = ball_case("case", 0, shape=(20, 14, 16))
    sides = tuple(cut_side(side) for side in PATCH)
    for seed in range(30):
        image, label = cut_patch(case, PATCH, torch.Generator().manual_seed(seed))
        assert image.shape == (1, *sides)
        assert label.shape == sides
        padded = np.pad(case.label, [(side, side) for side in sides])
        windows = np.lib.stride_tricks.sliding_window_view(padded, sides)
        assert (windows == label.numpy()).all((3, 4, 5)).any()


def test_most_cuts_hold_foreground_in_the_patch_even_where_it_is_rare():
    case = ball_case("case", 0, shape=(64, 64, 64))
    found = 0
    for seed in range(200):
        _, label = cut_patch(case, PATCH, torch.Generator().manual_seed(seed))
        middle = label[tuple(slice((n - p) // 2, (n - p) // 2 + p) for n, p in zip(label.shape, PATCH, strict=True))]
        found += bool((middle > 0).any())
    assert 0.6 < found / 200 < 0.85


def test_a_case_without_foreground_is_cut_all_the_same():
    case = ball_case("case", 0)
    empty = type(case)(case.name, case.image, np.zeros_like(case.label), case.voxels[:0])
    assert cut_patch(empty, PATCH, torch.Generator().manual_seed(0))[1].sum() == 0


def test_the_same_generator_cuts_the_same_piece():
    case = ball_case("case", 0)
    one, two = (cut_patch(case, PATCH, torch.Generator().manual_seed(4)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_plan_fits_the_data(dataset):
    plan = make_plan(dataset, NETWORKS["light"])
    assert all(side % multiple == 0 for side, multiple in zip(plan.patch_size, NETWORKS["light"].divisor, strict=True))
    assert all(side <= 128 for side in plan.patch_size)
    assert plan.intensity == Intensity("window", -175, 250)
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize(
    ("size", "multiple", "side"), [(1, 8, 8), (37, 8, 40), (40, 8, 40), (500, 8, 128), (500, 48, 96), (9, 200, 200)]
)
def test_a_patch_side_holds_the_data_up_to_its_limit(size, multiple, side):
    assert fitting_side(size, multiple) == side


def test_labels_survive_a_trip_through_a_dictionary():
    plan = Plan(Labels(("a", "b"), (2, 7)), (1.0, 2.0, 3.0), (8, 8, 8))
    assert Plan.from_dict(plan.to_dict()) == plan


def test_a_case_from_volumes_in_memory_is_that_of_their_files(dataset, tmp_path):
    plan = make_plan(dataset, NETWORKS["light"])
    case = dataset.cases[0]
    image, label = read_case(case), read_label(case.label)
    held, prepared = held_case(case.name, image, label, plan), prepare_case(case, plan, tmp_path)
    for name in ("image", "label", "voxels"):
        assert np.array_equal(getattr(held, name), getattr(prepared, name)), name
    with pytest.raises(FileError, match="does not fit its image"):
        held_case(case.name, image, replace(label, affine=label.affine @ np.diag([1.0, 1.0, 1.5, 1.0])), plan)
