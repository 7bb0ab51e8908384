import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import FileError
from deepedit.plan import Intensity, Labels, Plan
from deepedit.transforms.geometry import fixed_grid, voxel_to_network
from deepedit.transforms.intensity import normalise
from deepedit.transforms.preprocess import Preprocessor
from deepedit.volume import Volume
from tests.transforms.grids import from_codes

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"


@pytest.fixture
def plan():
    labels = Labels(("spleen", "liver"), (3, 300))
    return Plan(labels, spacing=(1.0, 1.5, 2.0), patch_size=(16, 16, 16), intensity=Intensity("window", 0, 100))


@pytest.fixture
def affine():
    return from_codes("LPS", (1.0, 1.5, 1.0))


def test_an_image_comes_out_on_the_planned_grid(plan, affine):
    image = np.random.default_rng(0).integers(0, 100, (10, 12, 20)).astype(np.int16)
    tensor, grid = Preprocessor(plan)(Volume(image, affine))
    assert tensor.shape == (1, 10, 12, 10)
    assert tensor.dtype == torch.float32
    assert_allclose(np.diag(grid.network_affine(affine)), [1, 1.5, 2, 1])
    pairs = image[::-1, ::-1].reshape(10, 12, 10, 2).mean(-1)
    assert_allclose(tensor[0], pairs / 100, atol=1e-6)


def test_intensities_are_clipped_before_they_are_mixed(plan):
    metal = np.zeros((1, 1, 2), np.float32)
    metal[..., 0] = 30000
    tensor, _ = Preprocessor(plan)(Volume(metal, np.diag([1, 1.5, 1, 1])))
    assert tensor.flatten().tolist() == [0.5]


@pytest.mark.parametrize(
    "lay", [np.asfortranarray, lambda a: a.astype(">i2"), lambda a: a[::-1, :, ::-1][::-1, :, ::-1]]
)
def test_arrays_may_lie_in_memory_in_any_way(plan, affine, lay):
    image = np.random.default_rng(1).integers(0, 100, (6, 7, 8)).astype(np.int16)
    laid = lay(image)
    laid.flags.writeable = False
    assert torch.equal(Preprocessor(plan)(Volume(laid, affine))[0], Preprocessor(plan)(Volume(image, affine))[0])


def test_channels_are_counted(plan, affine):
    with pytest.raises(FileError, match=r"2 channel.* expects 1"):
        Preprocessor(plan)(Volume(np.zeros((2, 4, 4, 4)), affine))
    with pytest.raises(FileError, match="shape"):
        Preprocessor(plan).label(Volume(np.zeros((4, 4, 5))), Preprocessor(plan).grid((4, 4, 4), affine))


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.float32])
@pytest.mark.parametrize("unnamed", [7, 60000])
def test_labels_go_and_return_with_the_values_of_their_file(plan, affine, dtype, unnamed):
    values = np.zeros((12, 12, 12), dtype)
    values[2:9, 3:10, 4:8], values[5:9, 4:9, 8:12], values[0, 0, 0] = 3, 300, unnamed
    preprocessor = Preprocessor(plan)
    grid = preprocessor.grid(values.shape, affine)
    classes = preprocessor.label(Volume(values, affine), grid)
    assert classes.dtype == torch.uint8
    assert torch.unique(classes).tolist() == [0, 1, 2]
    returned = preprocessor.to_native(torch.nn.functional.one_hot(classes.long(), 3).movedim(-1, 0).float(), grid)
    assert returned.dtype == np.uint16
    values[values == unnamed] = 0
    assert_array_equal(returned, values)


def test_voxels_to_ignore_are_of_no_class(plan, affine):
    values = np.zeros((12, 12, 12), np.int16)
    values[2:9, 3:10, 4:8], values[5:9, 4:9, 8:12], values[9:] = 3, 300, 77
    preprocessor = Preprocessor(dataclasses.replace(plan, ignore=77))
    classes = preprocessor.label(Volume(values, affine), preprocessor.grid(values.shape, affine))
    plain = Preprocessor(dataclasses.replace(plan, labels=Labels(("a", "b", "c"), (3, 77, 300))))
    expected = plain.label(Volume(values, affine), plain.grid(values.shape, affine))
    assert_array_equal(classes, torch.tensor([0, 1, 3, 2])[expected.long()])


def test_a_negative_label_value_is_background(plan, affine):
    values = np.array([-1, 3, -300, 300], np.int16).reshape(4, 1, 1)
    preprocessor = Preprocessor(plan)
    classes = preprocessor.label(
        Volume(values, np.diag([1, 1.5, 2, 1])), preprocessor.grid((4, 1, 1), np.diag([1, 1.5, 2, 1]))
    )
    assert classes.flatten().tolist() == [0, 1, 0, 2]


def test_probabilities_agree_with_the_decision(plan, affine):
    preprocessor = Preprocessor(plan)
    grid = preprocessor.grid((9, 10, 11), affine).window((1, -2, 1), (6, 12, 3))
    logits = torch.randn(3, *grid.network_shape, generator=torch.Generator().manual_seed(0)) * 3
    every = preprocessor.probabilities_to_native(logits, grid)
    assert every.shape == (3, 9, 10, 11)
    assert every.dtype == np.float32
    assert_allclose(every.sum(0), 1, atol=1e-5)
    assert_array_equal(np.array([0, 3, 300])[every.argmax(0)], preprocessor.to_native(logits, grid))
    assert_array_equal(preprocessor.probabilities_to_native(logits, grid, classes=[2, 0]), every[[2, 0]])


def test_outside_of_a_window_all_is_background(plan):
    preprocessor = Preprocessor(plan)
    grid = preprocessor.grid((4, 1, 1), np.diag([1, 1.5, 2, 1])).window((1, 0, 0), (2, 1, 1))
    logits = torch.tensor([0.0, 0.0, 5.0]).view(3, 1, 1, 1).expand(3, 2, 1, 1)
    assert preprocessor.to_native(logits, grid).flatten().tolist() == [0, 300, 300, 0]
    assert preprocessor.probabilities_to_native(logits, grid)[0].flatten()[[0, 3]].tolist() == [1, 1]


@pytest.mark.skipif(not PARITY.exists(), reason="the golden vectors are not beside this checkout")
def test_the_references_preprocessing_is_reproduced():
    facts = json.loads((PARITY / "pipeline.json").read_text())
    file = nib.load(PARITY / "pipeline_image.nii.gz")
    image = torch.from_numpy(file.get_fdata(dtype=np.float32))[None]
    grid = fixed_grid(file.shape, file.affine, tuple(facts["size"]))
    ours = grid.image_to_network(normalise(image, Intensity("window", *facts["window"])), mode="area")
    assert_allclose(ours, np.load(PARITY / "pipeline.npz")["input"][:1], atol=1e-4)
    for label, clicks in facts["clicks"].items():
        landed = [voxel_to_network(click, grid, rounding="truncate").tolist() for click in clicks]
        assert landed == facts["clicks_on_network_grid"][label]
