"""The synthetic dataset: varied, repeatable, and not solved by a threshold."""

import json

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage

from deepedit.errors import FileError
from deepedit.io.msd import find_dataset, read_case, split_cases
from deepedit.io.nifti import read_label
from deepedit.io.phantom import ORIENTATIONS, make_case, write_phantom


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return find_dataset(write_phantom(tmp_path_factory.mktemp("phantom") / "data", num_cases=6))


def test_it_is_a_decathlon_dataset_without_a_flaw(phantom):
    assert [case.name for case in phantom.cases] == [f"phantom_{number:02d}" for number in range(6)]
    assert (phantom.labels.names, phantom.labels.values) == (("liver", "spleen", "aorta"), (1, 2, 3))
    assert (phantom.modality, phantom.image_channels, phantom.warnings) == ("CT", 1, ())


def test_cases_differ_in_spacing_size_and_orientation(phantom):
    volumes = [read_case(case) for case in phantom.cases]
    assert {"".join(nib.aff2axcodes(volume.affine)) for volume in volumes} == {"RAS", "LPS", "LAS", "PIR"}
    assert any(np.count_nonzero(volume.affine[:3, :3]) == 9 for volume in volumes)  # tilted
    assert len({volume.shape for volume in volumes}) == len(volumes)
    assert len({volume.spacing for volume in volumes}) == len(volumes)
    assert all(28 <= side <= 76 for volume in volumes for side in volume.shape)


def test_values_are_hounsfield_units_in_int16(phantom):
    image = nib.load(phantom.cases[0].image[0])
    assert image.get_data_dtype() == np.int16
    assert read_case(phantom.cases[0]).data.min() < -900


def test_every_organ_is_whole_enough_to_learn(phantom):
    for case in phantom.cases:
        label = read_label(case.label)
        for value in phantom.labels.values:
            assert (label.data == value).sum() > 500
            assert ndimage.distance_transform_edt(label.data == value, label.spacing).max() > 5  # mm from the surface


def test_liver_and_spleen_lie_on_their_sides_in_every_orientation():
    for number, orientation in enumerate(ORIENTATIONS):
        _, label = make_case(np.random.default_rng(number), orientation)
        right = {value: (label.affine @ [*np.argwhere(label.data == value).mean(0), 1])[0] for value in (1, 2)}
        assert right[1] > right[2] + 20


def test_the_seed_and_the_number_decide_alone(tmp_path, phantom):
    again = write_phantom(tmp_path / "again", num_cases=2)
    other = write_phantom(tmp_path / "other", num_cases=1, seed=1)
    first = "imagesTr/phantom_00.nii.gz", "labelsTr/phantom_00.nii.gz", "imagesTr/phantom_01.nii.gz"
    assert all((again / name).read_bytes() == (phantom.folder / name).read_bytes() for name in first)
    assert (other / first[0]).read_bytes() != (again / first[0]).read_bytes()


def test_the_default_split_validates_several_orientations():
    _, validation = split_cases([f"phantom_{number:02d}" for number in range(24)])
    assert len({int(name[-2:]) % len(ORIENTATIONS) for name in validation}) >= 3


def best_threshold_dice(image, organ):
    """Dice of the best component of the best window, both chosen with the truth in hand."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1)
    best = 0.0
    for lower in range(0, 121, 20):
        for width in (40, 80, 400):
            parts, count = ndimage.label((smooth > lower) & (smooth < lower + width))
            if count:
                size = np.bincount(parts.ravel())
                shared = np.bincount(parts.ravel(), organ.ravel())
                best = max(best, (2 * shared / (size + organ.sum()))[1:].max())
    return best


def test_no_threshold_solves_it(phantom):
    scores = [
        best_threshold_dice(read_case(case).data, read_label(case.label).data == value)
        for case in phantom.cases[:4]
        for value in phantom.labels.values
    ]
    assert np.mean(scores) < 0.6


def test_shape_and_spacing_can_be_chosen():
    image, label = make_case(np.random.default_rng(0), "PIR", shape=(40, 30, 50), spacing=(2.5, 3.0, 2.0))
    assert image.data.shape == label.data.shape == (40, 30, 50)
    assert np.allclose(image.spacing, (2.5, 3, 2), atol=1e-3)
    small, organs = make_case(np.random.default_rng(0), shape=(24, 20, 20))
    assert small.shape == (24, 20, 20)
    assert_array_equal(np.unique(organs.data), [0, 1, 2, 3])


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "mine").write_text("")
    for folder in (tmp_path, tmp_path / "mine"):
        with pytest.raises(FileError, match="is there already"):
            write_phantom(folder, num_cases=1)
    assert (tmp_path / "mine").exists()
    (tmp_path / "empty").mkdir()
    write_phantom(tmp_path / "empty", num_cases=1)
    assert json.loads((tmp_path / "empty" / "dataset.json").read_text())["numTraining"] == 1


def test_an_interrupted_one_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("deepedit.io.phantom.write_label", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "data", num_cases=1)
    assert not list(tmp_path.iterdir())
