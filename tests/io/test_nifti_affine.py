"""Headers that contradict themselves: which affine counts, in which units, and what is said of it."""

import gzip
import itertools
import struct

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import FileError
from deepedit.inference.initial import initial_classes
from deepedit.io import read_geometry, read_label, read_volume, write_label
from deepedit.io.grids import misfit
from deepedit.plan import Labels
from tests.io.two_forms import QFORM, SFORM, save_two_forms

CODES = list(itertools.product(range(5), repeat=2))
SHAPE = (4, 5, 6)


@pytest.fixture
def two_forms(tmp_path):
    """Write an image of 4 x 5 x 6 voxels whose qform and sform differ."""

    def two_forms(qform_code, sform_code, name="image.nii", data=None, **options):
        data = np.arange(120, dtype=np.int16).reshape(SHAPE) if data is None else data
        return save_two_forms(tmp_path / name, data, qform_code, sform_code, **options)

    return two_forms


@pytest.mark.parametrize(("qform_code", "sform_code"), CODES)
def test_the_sform_counts_as_for_nibabel_unless_the_qform_is_asked_for(two_forms, qform_code, sform_code):
    path = two_forms(qform_code, sform_code)
    assert_array_equal(read_volume(path).affine, nib.load(path).affine)
    assert_array_equal(read_geometry(path).affine, nib.load(path).affine)
    if qform_code:
        assert_allclose(read_volume(path, affine="qform").affine, QFORM, atol=1e-5)
    elif sform_code:
        assert_allclose(read_volume(path, affine="qform").affine, SFORM, atol=1e-5)


@pytest.mark.parametrize(("qform_code", "sform_code"), CODES)
def test_what_is_said_of_itk_is_what_it_does(two_forms, qform_code, sform_code):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed, which tells what ITK does")
    path = two_forms(qform_code, sform_code)
    volume = read_volume(path)
    if not (qform_code or sform_code):
        assert "neither by a qform nor by an sform" in volume.notes[0]
        return
    if not (qform_code and sform_code):
        assert volume.notes == ()
        return
    assert "its qform and its sform lie up to" in volume.notes[0]
    assert "the sform is used" in volume.notes[0]
    takes_qform = np.allclose(affine_of(sitk.ReadImage(path)), QFORM, atol=1e-4)
    assert ("ITK and 3D Slicer take the qform" in volume.notes[0]) == takes_qform


@pytest.mark.parametrize(("qform_code", "sform_code"), CODES)
@pytest.mark.parametrize("affine", ["sform", "qform"])
def test_a_mask_that_itk_saves_is_on_its_image(two_forms, tmp_path, qform_code, sform_code, affine):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed, which saves the mask")
    path = two_forms(qform_code, sform_code)
    labels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    mask = sitk.GetImageFromArray(labels.transpose())
    mask.CopyInformation(sitk.ReadImage(path))
    sitk.WriteImage(mask, tmp_path / "mask.nii.gz")
    image = read_volume(path, affine)
    assert misfit(image, read_label(tmp_path / "mask.nii.gz")) is None
    given = initial_classes(tmp_path / "mask.nii.gz", image, Labels(("a", "b"), (1, 2)))
    assert_array_equal(given, labels)


def affine_of(image):
    """``[4, 4]``, voxels to RAS mm, of an image of SimpleITK."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize("form", [SFORM, QFORM])
def test_a_mask_on_either_affine_of_its_image_is_taken_voxel_by_voxel(two_forms, save, form):
    labels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    mask, notes = save(labels, form, name="mask.nii.gz"), []
    for affine in ("sform", "qform"):
        image = read_volume(two_forms(1, 2), affine)
        assert_array_equal(initial_classes(mask, image, Labels(("a", "b"), (1, 2)), note=notes.append), labels)
    assert len(notes) == 1
    assert "mask.nii.gz lies on its image's grid by the other affine" in notes[0]


def test_affines_that_differ_by_less_than_a_hundredth_of_a_voxel_are_one(two_forms):
    path = two_forms(1, 1)
    content = bytearray(path.read_bytes())
    for row in range(3):
        struct.pack_into("<4f", content, 280 + 16 * row, *(QFORM[row] + (0, 0, 0, 0.01 * (row == 0))))
    path.write_bytes(content)
    assert read_volume(path).notes == ()
    assert read_volume(path).other_affines == ()


@pytest.mark.parametrize(("units", "named"), [(1, "metres"), (3, "microns")])
def test_lengths_in_other_units_are_brought_to_mm(two_forms, units, named):
    volume = read_volume(two_forms(0, 1, units=units))
    assert_allclose(volume.affine, SFORM, rtol=1e-5)
    assert volume.notes == (
        f"its header gives lengths in {named}, which are brought to mm; `units` mm takes them as mm",
    )
    assert_allclose(read_geometry(two_forms(1, 0, units=units)).affine, QFORM, rtol=1e-5, atol=1e-5)


def test_lengths_are_mm_where_that_is_asked_for(two_forms):
    path = two_forms(0, 1, units=2)
    content = bytearray(path.read_bytes())
    content[123] = 3  # microns, it says
    path.write_bytes(content)
    volume = read_volume(path, units="mm")
    assert_allclose(volume.affine, SFORM, rtol=1e-5)
    assert volume.notes == ("its header gives lengths in microns; they are taken as mm",)


def test_voxels_of_a_metre_are_refused_with_the_way_to_read_them(two_forms):
    path = two_forms(0, 1, units=2)
    content = bytearray(path.read_bytes())
    content[123] = 1
    path.write_bytes(content)
    with pytest.raises(FileError, match="if its lengths are no metres, give `units` mm"):
        read_volume(path)


@pytest.mark.parametrize(("qform_code", "sform_code"), [*CODES[::3], (1, 1)])
@pytest.mark.parametrize("units", [1, 2, 3])
@pytest.mark.parametrize("affine", ["sform", "qform"])
def test_a_result_has_the_header_of_its_image_however_that_was_read(
    two_forms, tmp_path, qform_code, sform_code, units, affine
):
    path = two_forms(qform_code, sform_code, units=units)
    for taken in ("header", "mm") if units == 2 else ("header",):
        write_label(tmp_path / "labels.nii", np.ones(SHAPE, np.uint8), like=read_volume(path, affine, taken))
        before, after = nib.load(path).header, nib.load(tmp_path / "labels.nii").header
        for key in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "srow_x", "srow_y", "srow_z"):
            assert_array_equal(after[key], before[key])
        for key in ("qoffset_x", "qoffset_y", "qoffset_z", "xyzt_units"):
            assert_array_equal(after[key], before[key])
        assert_array_equal(after["pixdim"][:4], before["pixdim"][:4])


def test_a_quaternion_a_hair_longer_than_one_is_shortened(two_forms, tmp_path):
    path = two_forms(1, 0, quaternion_length=1 + 1e-6)
    with pytest.raises(ValueError, match="w2 should be positive"):
        nib.load(path).header.get_qform()
    volume = read_volume(path)
    half_turn = np.diag([-1.5, -2, 3, 1]).astype(float)
    half_turn[:3, 3] = QFORM[:3, 3]
    assert_allclose(volume.affine, half_turn, atol=1e-5)
    write_label(tmp_path / "labels.nii", np.ones(SHAPE, np.uint8), like=volume)
    assert read_geometry(tmp_path / "labels.nii").affine.tolist() == volume.affine.tolist()
    with pytest.raises(FileError, match="no usable affine"):
        read_volume(two_forms(1, 0, quaternion_length=1.1))
    assert_array_equal(read_volume(two_forms(1, 1, quaternion_length=1.1)).affine, SFORM)


def test_channels_as_itk_writes_them(save):
    data = np.random.default_rng(0).random((4, 5, 6, 1, 3), dtype=np.float32)
    volume = read_volume(save(data))
    assert_array_equal(volume.data, np.moveaxis(data[:, :, :, 0], -1, 0))


def test_an_intercept_of_nan_beside_a_slope_of_one_adds_nothing(damaged):
    path = damaged("scl_inter", np.nan)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 112, 1.0)
    path.write_bytes(content)
    for read in (read_volume, read_label):
        volume = read(path)
        assert_array_equal(volume.data, np.arange(120).reshape(SHAPE))
        assert volume.notes == ("its header adds NaN to values that it does not scale; nothing is added",)


@pytest.mark.parametrize("behind", [b"x", b"\xff" * 1000, b"\0\0\0junk"])
def test_bytes_behind_the_gzip_stream_are_passed_over(save, behind):
    path = save(np.arange(120, dtype=np.int16).reshape(SHAPE))
    path.write_bytes(path.read_bytes() + behind)
    volume = read_volume(path)
    assert_array_equal(volume.data, np.arange(120).reshape(SHAPE))
    assert volume.notes == ("bytes that follow its gzip stream are passed over",)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()[: -len(behind)])) + bytes(7))
    assert read_volume(path).notes == ()  # zeros are padding


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_bytes_behind_the_voxels_are_told_of(save, ending):
    path = save(np.arange(120, dtype=np.int16).reshape(SHAPE), name=f"image{ending}")
    opened = gzip.open if ending == ".nii.gz" else open
    with opened(path, "rb") as stream:
        content = stream.read()
    with opened(path, "wb") as stream:
        stream.write(content + bytes(1000))
    volume = read_volume(path)
    assert_array_equal(volume.data, np.arange(120).reshape(SHAPE))
    assert volume.notes == ("1000 bytes that follow its voxels are passed over",)


def test_a_header_that_does_not_say_how_its_voxels_lie_is_told_of(two_forms):
    volume = read_volume(two_forms(0, 0))
    assert "its axes are taken to run to the left, to the front and upwards" in volume.notes[0]
    assert nib.aff2axcodes(volume.affine) == ("L", "A", "S")
