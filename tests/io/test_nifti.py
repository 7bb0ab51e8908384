"""NIfTI in and out: what nibabel reads and writes, ours reads and writes the same."""

import gzip
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import FileError
from deepedit.io import read_geometry, read_label, read_volume, write_label, write_volume
from deepedit.volume import Volume

TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


@st.composite
def affines(draw):
    """Any spacing, order and direction of axes, any rotation, a little shear."""
    spacing = draw(st.tuples(*[st.floats(0.05, 20)] * 3))
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0] if draw(st.booleans()) else np.eye(3)
    affine = np.eye(4)
    shear = np.eye(3) + np.triu(rng.uniform(0, 0.2, (3, 3)), 1) * draw(st.booleans())
    affine[:3, :3] = rotation @ shear @ (np.eye(3)[:, order] * signs * spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-1000, 1000)] * 3))
    return affine


shapes = st.tuples(*[st.integers(1, 7)] * 3)
many_files = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many_files
@given(shape=shapes, affine=affines(), dtype=st.sampled_from(TYPES), ending=st.sampled_from([".nii", ".nii.gz"]))
def test_an_image_reads_as_nibabel_reads_it(tmp_path, shape, affine, dtype, ending):
    data = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    path = tmp_path / f"image{ending}"
    nib.save(nib.Nifti1Image(data, affine, dtype=dtype), path)
    volume = read_volume(path)
    assert volume.data.dtype == np.float32
    assert_array_equal(volume.data, nib.load(path).get_fdata(dtype=np.float32))
    assert_array_equal(volume.affine, nib.load(path).affine)


@many_files
@given(shape=shapes, affine=affines(), largest=st.sampled_from([0, 1, 3, 255, 256, 40000, 70000]), nifti2=st.booleans())
def test_labels_come_back_on_the_grid_of_the_image(tmp_path, shape, affine, largest, nifti2):
    kind = nib.Nifti2Image if nifti2 else nib.Nifti1Image
    nib.save(kind(np.zeros(shape, np.int16), affine), tmp_path / "image.nii.gz")
    labels = np.random.default_rng(0).integers(0, largest + 1, shape)
    labels.flat[0] = largest
    write_label(tmp_path / "labels.nii.gz", labels, like=read_volume(tmp_path / "image.nii.gz"))
    source, written = nib.load(tmp_path / "image.nii.gz"), nib.load(tmp_path / "labels.nii.gz")
    assert written.get_data_dtype() == np.min_scalar_type(largest)
    assert_array_equal(np.asanyarray(written.dataobj), labels)
    assert_array_equal(written.affine, source.affine)
    assert_array_equal(read_label(tmp_path / "labels.nii.gz").data, labels)


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (1, 1), (4, 3)])
def test_qform_sform_codes_and_units_are_kept(tmp_path, save, codes):
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.float32), np.diag([-1.0, 2, 3, 1]))
    image.set_qform(np.diag([-1.0, 2, 3, 1]), codes[0])
    image.set_sform(np.diag([-1.0, 2, 3.5, 1]), codes[1])
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "image.nii")
    write_label(tmp_path / "labels.nii", np.ones((3, 4, 5), bool), like=read_volume(tmp_path / "image.nii"))
    before, after = nib.load(tmp_path / "image.nii"), nib.load(tmp_path / "labels.nii")
    assert (int(after.header["qform_code"]), int(after.header["sform_code"])) == codes
    assert_array_equal(after.get_qform(), before.get_qform())
    assert_array_equal(after.get_sform(), before.get_sform())
    assert_array_equal(after.affine, before.affine)
    assert after.header.get_xyzt_units()[0] == "mm"
    assert after.header["pixdim"][1:4].tolist() == before.header["pixdim"][1:4].tolist()


@many_files
@given(affine=affines())
def test_a_volume_without_a_header_keeps_its_affine(tmp_path, affine):
    like = Volume(np.zeros((3, 4, 5), np.float32), affine)
    write_label(tmp_path / "labels.nii", np.zeros((3, 4, 5), np.uint8), like)
    assert_allclose(nib.load(tmp_path / "labels.nii").affine, affine, rtol=1e-5, atol=1e-4)
    assert nib.load(tmp_path / "labels.nii").header.get_xyzt_units()[0] == "mm"


def test_an_affine_that_was_changed_wins_over_the_header(tmp_path, save):
    volume = read_volume(save(np.zeros((3, 4, 5), np.float32)))
    moved = Volume(volume.data, np.diag([2.0, 2, 2, 1]), volume.header)
    write_label(tmp_path / "labels.nii", np.zeros((3, 4, 5), np.uint8), moved)
    assert_array_equal(nib.load(tmp_path / "labels.nii").affine, moved.affine)


def test_a_fourth_axis_becomes_channels_and_goes_back(tmp_path, save):
    data = np.random.default_rng(0).random((4, 5, 6, 3), dtype=np.float32)
    volume = read_volume(save(data))
    assert_array_equal(volume.data, np.moveaxis(data, -1, 0))
    write_volume(tmp_path / "again.nii.gz", volume.data, like=volume)
    assert_array_equal(nib.load(tmp_path / "again.nii.gz").get_fdata(dtype=np.float32), data)
    write_label(tmp_path / "labels.nii.gz", np.zeros((4, 5, 6), np.uint8), like=volume)
    assert nib.load(tmp_path / "labels.nii.gz").shape == (4, 5, 6)


@pytest.mark.parametrize("shape", [(4, 5, 6, 1), (4, 5, 6, 1, 1), (4, 5, 1, 1)])
def test_trailing_axes_of_one_are_dropped(save, shape):
    assert read_volume(save(np.zeros(shape, np.float32))).data.shape == shape[:3]


def test_geometry_needs_the_header_only(save):
    affine = np.diag([1.5, -2, 3, 1])
    path = save(np.zeros((4, 5, 6, 2), np.float32), affine, name="image.nii")
    path.write_bytes(path.read_bytes()[:352])
    geometry = read_geometry(path)
    assert (geometry.shape, geometry.channels) == ((4, 5, 6), 2)
    assert_array_equal(geometry.affine, affine)


def test_stored_values_are_scaled(save, damaged):
    assert read_volume(damaged("scl_slope", 0.5)).data.max() == 119 * 0.5
    assert read_volume(damaged("scl_slope", 0.0)).data.max() == 119
    assert read_volume(damaged("scl_slope", np.nan)).data.max() == 119


def test_big_endian_files_and_several_gzip_members_are_read(tmp_path):
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nib.Nifti1Image(data, np.eye(4), nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "image.nii")
    content = (tmp_path / "image.nii").read_bytes()
    (tmp_path / "image.nii.gz").write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    for name in ("image.nii", "image.nii.gz"):
        volume = read_volume(tmp_path / name)
        assert_array_equal(volume.data, data)
        assert volume.data.dtype.isnative
    write_label(tmp_path / "labels.nii", data, like=volume)
    assert_array_equal(nib.load(tmp_path / "labels.nii").get_fdata(), data)


def test_the_content_tells_gzip_not_the_name(save):
    path = save(np.ones((3, 3, 3), np.float32))
    assert read_volume(path.rename(path.with_name("image.nii"))).data.sum() == 27


def test_labels_stored_with_scaling_come_back_whole(save):
    labels = np.random.default_rng(0).integers(0, 4, (6, 6, 6))
    assert_array_equal(read_label(save(labels.astype(np.float64), dtype=np.int16)).data, labels)


@pytest.mark.parametrize(("largest", "dtype"), [(255, np.uint8), (256, np.int16), (40000, np.int32)])
def test_labels_have_the_smallest_type_that_torch_knows(save, largest, dtype):
    assert read_label(save(np.full((2, 2, 2), largest, np.int32))).data.dtype == dtype


def test_equal_labels_give_equal_bytes(tmp_path):
    like = Volume(np.zeros((8, 8, 8), np.float32))
    labels = np.random.default_rng(0).integers(0, 3, (8, 8, 8))
    for order, name in (("C", "a.nii.gz"), ("F", "b.nii.gz")):
        write_label(tmp_path / name, np.array(labels, order=order), like)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_nothing_of_the_patient_is_carried_over(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"John Doe"))
    image.header["descrip"] = b"John Doe"
    nib.save(image, tmp_path / "image.nii")
    write_label(tmp_path / "labels.nii", np.zeros((3, 3, 3), np.uint8), like=read_volume(tmp_path / "image.nii"))
    assert b"John" not in (tmp_path / "labels.nii").read_bytes()


def test_a_side_too_long_for_nifti_1_is_written_as_nifti_2(tmp_path):
    like = Volume(np.zeros((40000, 1, 1), np.float32))
    write_label(tmp_path / "labels.nii", np.ones((40000, 1, 1), np.uint8), like)
    assert read_label(tmp_path / "labels.nii").shape == (40000, 1, 1)


@pytest.mark.parametrize("bad", [np.zeros((3, 3, 4), int), np.full((3, 3, 3), -1), np.zeros((3, 3, 3))])
def test_what_is_not_a_label_map_of_the_image_is_not_written(tmp_path, bad):
    with pytest.raises(ValueError, match="labels"):
        write_label(tmp_path / "labels.nii", bad, Volume(np.zeros((3, 3, 3), np.float32)))
    assert not list(tmp_path.iterdir())


def test_a_name_of_no_format_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"should end in \.nii\.gz, \.nii, \.seg\.nrrd, \.nrrd, \.mha or \.dcm;"):
        write_label(tmp_path / "labels.mhd", np.zeros((3, 3, 3), int), Volume(np.zeros((3, 3, 3), np.float32)))


def test_importing_the_readers_brings_neither_scipy_nor_nibabel():
    code = "import sys, deepedit.io.msd, deepedit.io.click_files, deepedit.io.phantom; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scipy", "nibabel", "torch"} & set(modules)
