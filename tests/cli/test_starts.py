"""Initial segmentations with other values than the model's, without their header, or a little off their image."""

import shlex
import shutil

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.io.nifti import read_label
from tests.cli.bad_files import change
from tests.cli.refusals import refused

pytestmark = pytest.mark.usefixtures("here")
TRUTH = "data/labelsTr/phantom_01.nii.gz"
INFER = ("infer", "--input=good.nii.gz", "--output=seg.nii.gz", "--overwrite")


@pytest.fixture
def given(here):
    """A function that writes the truth of the good image with other values on another grid; returns the truth."""

    def given(edit=lambda data, grid: (data, grid), path="given.nii.gz"):
        shutil.copy(TRUTH, path)
        change(here / path, edit)
        return read_label(TRUTH).data

    return given


def values(*pairs):
    """An edit that replaces values."""

    def edit(data, grid):
        result = data.copy()
        for old, new in pairs:
            result[data == old] = new
        return result, grid

    return edit


def corrected(call, *more):
    """The result without a click, which is the start itself, and what was said of it."""
    status, _, err = call(*INFER, "--initial-segmentation=given.nii.gz", *more)
    assert status == 0, err
    return read_label("seg.nii.gz").data, [line.removeprefix("deepedit-infer: note: ") for line in err]


def test_foreground_that_no_label_knows_is_refused_and_the_hint_works(call, given):
    truth = given(values((1, 10), (2, 20), (3, 30)))
    result = call(*INFER, "--initial-segmentation=given.nii.gz")
    refused(
        result,
        "given.nii.gz: has 10, 20, 30; the model knows 1 liver, 2 spleen, 3 aorta; say what that is, as in --map",
    )
    hint = shlex.split(result[2][-1].rpartition("as in ")[2])
    found, said = corrected(call, *hint)
    assert_array_equal(found, truth)
    assert said == []


def test_a_mask_of_255_is_of_the_label_that_is_named(call, given):
    truth = given(lambda data, grid: ((data == 2) * np.uint8(255), grid))
    refused(call(*INFER, "--initial-segmentation=given.nii.gz"), "has 255; the model knows 1 liver", "--map 255=liver")
    found, said = corrected(call, "--map", "255=spleen")
    assert_array_equal(found, np.where(truth == 2, 2, 0))
    assert said == []


def test_some_values_that_no_label_knows_are_left_out_aloud_and_the_hint_works(call, given):
    truth = given(values((3, 9)))
    found, said = corrected(call)
    assert_array_equal(found, np.where(truth == 3, 0, truth))
    note = "given.nii.gz: 9 is of no label (1 liver, 2 spleen, 3 aorta) and left out; bring it over with --map 9=aorta"
    assert said == [note]
    found, said = corrected(call, *shlex.split(said[0].rpartition("with ")[2]))
    assert_array_equal(found, truth)
    assert said == []
    assert corrected(call, "--map=9=background")[1] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--map=255=spleeen",), "--map 255=spleeen: label 'spleeen' is not one of"),
        (("--map=spleen=255",), "'spleen=255' is not a value above 0 and a label, as 255=spleen"),
        (("--map=0=spleen",), "'0=spleen' is not a value above 0"),
        (("--map=5=spleen", "--map=5=liver"), "--map: 5 cannot be spleen and liver"),
    ],
)
def test_what_a_mapping_cannot_be(call, given, arguments, said):
    given()
    refused(call(*INFER, "--initial-segmentation=given.nii.gz", *arguments), said)


@pytest.mark.parametrize("option", ["--map=255=spleen", "--same-grid"])
@pytest.mark.parametrize("program", [INFER, ("evaluate", "--input=data")])
def test_options_of_a_start_need_one(call, program, option):
    refused(call(*program, option), "--map and --same-grid are about --initial-segmentation; give one")


def test_a_start_without_its_header_is_moved_aloud_or_taken_as_it_is(call, given):
    truth = given(lambda data, grid: (data, grid @ np.diag([1.3, 1.3, 1.3, 1])))
    found, said = corrected(call)
    assert not (found == truth).all()
    assert len(said) == 1
    assert said[0].startswith(
        "given.nii.gz: same shape as its image, other affine; it is brought over by the affines, "
    )
    assert said[0].endswith("are lost; if its header is wrong, --same-grid takes it voxel by voxel")
    found, said = corrected(call, "--same-grid")
    assert_array_equal(found, truth)
    assert said == []


def test_a_start_whose_lost_header_puts_it_beside_its_image(call, given):
    def far(data, grid):
        grid[:3, 3] += 5000
        return data, grid

    truth = given(far)
    result = call(*INFER, "--initial-segmentation=given.nii.gz")
    refused(result, "given.nii.gz lies beside its image: nothing of it is left there; if its header", "--same-grid")
    assert_array_equal(corrected(call, "--same-grid")[0], truth)


def test_a_start_of_another_shape_is_brought_over_aloud_and_has_no_voxels_to_share(call, given):
    truth = given(lambda data, grid: (data[:-1], grid))
    found, said = corrected(call)
    assert_array_equal(found[:-1], truth[:-1])
    assert said == ["given.nii.gz: of another grid (15 x 16 x 16); it is brought over by the affines"]
    result = call(*INFER, "--initial-segmentation=given.nii.gz", "--same-grid")
    refused(result, "has 15 x 16 x 16 voxels where its image has 16 x 16 x 16", "leave --same-grid out")


@pytest.mark.parametrize(("distance", "accepted"), [(0.05, True), (0.09, True), (0.2, False)])
def test_a_label_a_little_off_its_image(call, here, given, distance, accepted):
    def shifted(data, grid):
        return data, grid @ nib.affines.from_matvec(np.eye(3), (distance, 0, 0))

    truth = given(shifted)
    found, said = corrected(call)
    change(here / "data/labelsTr/phantom_01.nii.gz", shifted)
    trained = call("train", "--input=data")
    evaluated = call("evaluate", "--input=data")
    off = f"lies up to {distance:g} voxels off its image; it is taken voxel by voxel"
    if accepted:
        assert_array_equal(found, truth)
        assert said == [f"given.nii.gz: {off}"]
        assert trained[0] == 0
        assert f"note: labelsTr/phantom_01.nii.gz: {off}" in trained[1]
        assert evaluated[0] == 0
        assert evaluated[2] == [f"deepedit-evaluate: note: data/labelsTr/phantom_01.nii.gz: {off}"]
    else:
        assert "same shape as its image, other affine" in said[0]
        refused(trained, "labelsTr/phantom_01.nii.gz", f"affines differ by up to {distance:g} voxels")
        assert evaluated[0] == 2
        assert "phantom_01 is left out: data/labelsTr/phantom_01.nii.gz: does not fit its image" in evaluated[2][0]


def test_starts_of_an_evaluation(call, here, given):
    (here / "given").mkdir()
    for name in ("phantom_01", "phantom_02"):
        shutil.copy(f"data/labelsTr/{name}.nii.gz", f"given/{name}.nii.gz")
        change(here / f"given/{name}.nii.gz", values((1, 10), (2, 20), (3, 30)))
        change(here / f"given/{name}.nii.gz", lambda data, grid: (data, np.eye(4)))
    start = ("evaluate", "--input=data", "--initial-segmentation=given")
    status, _, err = call(*start)
    assert status == 2
    assert "has 10, 20, 30; the model knows 1 liver, 2 spleen, 3 aorta" in err[0]
    mapping = [f"--map={10 * value}={name}" for value, name in ((1, "liver"), (2, "spleen"), (3, "aorta"))]
    assert "--same-grid" in "".join(call(*start, *mapping)[2])
    status, out, err = call(*start, *mapping, "--same-grid", "--overwrite")
    assert (status, err) == (0, [])
    assert {"phantom_01: Dice 1.000", "phantom_02: Dice 1.000"} <= set(out)


def test_a_truth_of_which_the_model_knows_nothing_is_told_of(call, here):
    (here / "data/dataset.json").unlink()
    change(here / "data/labelsTr/phantom_01.nii.gz", lambda data, grid: ((data > 0) * np.uint8(255), grid))
    status, _, err = call("evaluate", "--input=data")
    assert status == 0
    assert err == [
        "deepedit-evaluate: note: data/labelsTr/phantom_01.nii.gz: has 255, and the model knows 1 liver, 2 spleen, "
        "3 aorta: all of it counts as background"
    ]
