"""Results as files that a viewer reads: on the image's geometry, in little time."""

import gzip
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import DeepEditError
from deepedit.io.nifti import read_volume, write_volume
from deepedit.server.answers import SUFFIXES, Answer, encode, ranks_of, suffix_of
from deepedit.volume import Volume

sitk = pytest.importorskip("SimpleITK")


def rotation(degrees):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    return turn @ tilt


def affine_of(axes, spacing=(0.7, 1.3, 2.5), origin=(-20.5, 31.25, 7.125)):
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


GRIDS = {
    "RAS": affine_of(np.eye(3)),
    "LPS": affine_of(np.diag([-1.0, -1.0, 1.0])),
    "PIR": affine_of(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])),
    "oblique": affine_of(rotation(23)),
}


@pytest.fixture(params=GRIDS)
def image(request, tmp_path):
    """A file of an image with this geometry."""
    data = np.random.default_rng(0).integers(0, 100, (7, 5, 6)).astype(np.float32)
    path = tmp_path / "image.nii.gz"
    write_volume(path, data, Volume(data, GRIDS[request.param]))
    return path


def answer_for(image, names=("a", "b")):
    volume = read_volume(image)
    classes = np.random.default_rng(1).integers(0, len(names) + 1, volume.shape).astype(np.uint8)
    return Answer(ranks_of(classes), volume, names)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [True, False])
def test_what_leaves_lies_on_the_geometry_of_the_image(image, suffix, compress, tmp_path):
    answer = answer_for(image)
    path = tmp_path / f"answer{suffix}"
    path.write_bytes(encode(answer, suffix, compress))
    found, expected = sitk.ReadImage(path), sitk.ReadImage(image)
    assert found.GetSize() == expected.GetSize()
    assert_allclose(found.GetSpacing(), expected.GetSpacing(), rtol=1e-6)
    assert_allclose(found.GetOrigin(), expected.GetOrigin(), rtol=1e-6)
    assert_allclose(found.GetDirection(), expected.GetDirection(), atol=1e-6)
    assert found.GetPixelID() == sitk.sitkUInt8
    assert_array_equal(sitk.GetArrayFromImage(found).T, answer.ranks)


def test_a_sheared_grid_leaves_as_it_is(tmp_path):
    # ITK reads no such NIfTI, so it comes from other formats.
    affine = affine_of(rotation(10) + 0.1 * np.eye(3)[[1, 2, 0]])
    ranks = ranks_of(np.ones((4, 3, 2), np.uint8))
    path = tmp_path / "answer.nrrd"
    path.write_bytes(encode(Answer(ranks, Volume(ranks, affine), ("a",))))
    found = sitk.ReadImage(path)
    for voxel in ((0, 0, 0), (3, 0, 1), (1, 2, 1)):
        expected = np.diag([-1, -1, 1]) @ (affine @ (*voxel, 1))[:3]
        assert_allclose(found.TransformIndexToPhysicalPoint(voxel), expected, rtol=1e-6)


def test_a_nrrd_is_what_readers_of_raw_bytes_expect(image):
    answer = answer_for(image)
    for compress, encoding in ((True, b"gzip"), (False, b"raw")):
        header, voxels = encode(answer, ".nrrd", compress).split(b"\n\n", 1)
        lines = header.split(b"\n")
        assert lines[0] in (b"NRRD0004", b"NRRD0005")
        assert b"encoding: " + encoding in lines
        assert b"type: unsigned char" in lines
        assert b"space: left-posterior-superior" in lines
        assert (gzip.decompress(voxels) if compress else voxels) == answer.ranks.tobytes(order="F")


def test_a_seg_nrrd_names_its_segments(image, tmp_path):
    path = tmp_path / "answer.seg.nrrd"
    path.write_bytes(encode(answer_for(image, ("liver", "left kidney")), ".seg.nrrd"))
    found = sitk.ReadImage(path)
    assert [found.GetMetaData(f"Segment{number}_Name") for number in range(2)] == ["liver", "left kidney"]
    assert [found.GetMetaData(f"Segment{number}_LabelValue") for number in range(2)] == ["1", "2"]


def test_label_ten_is_not_sent_as_lines(image):
    # Viewers parse the answer line by line, and value 10 is a line's end.
    volume = read_volume(image)
    answer = Answer(ranks_of(np.full(volume.shape, 10, np.uint8)), volume, ("a",) * 10)
    assert encode(answer).count(b"\n") < 40


@given(shape=st.tuples(*[st.integers(1, 70)] * 3), seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_ranks_are_classes_in_the_order_of_files(shape, seed):
    classes = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    ranks = ranks_of(classes)
    assert_array_equal(ranks, classes)
    assert ranks.flags.f_contiguous
    assert not np.shares_memory(ranks, classes)


def test_the_suffix_is_that_asked_for_else_that_of_the_image():
    assert suffix_of(".nrrd", "x.nii.gz") == ".nrrd"
    assert suffix_of("NII.GZ", "x.nrrd") == ".nii.gz"
    assert suffix_of(None, "x.nii.gz") == ".nii.gz"
    assert suffix_of("", "x.SEG.NRRD") == ".seg.nrrd"
    assert suffix_of(None, "x_0000.mha") == ".nrrd"
    for hostile in ("/../../x", ".exe", 3, ["a"], ".nrrd\n"):
        with pytest.raises(DeepEditError, match="cannot be sent as"):
            suffix_of(hostile, "x.nrrd")


def test_without_simpleitk_a_line_says_what_to_install(image, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(DeepEditError, match=r"pip install 'deepedit\[formats\]'"):
        encode(answer_for(image))


def test_no_temporary_file_stays(image, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    encode(answer_for(image))
    assert not list((tmp_path / "temporary").iterdir())
