"""Images as a page shows them: where each voxel lies, what it is worth, and how few bytes it takes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import DeepEditError, FileError
from deepedit.server.display import Axes, is_oblique
from deepedit.server.images import read_image
from deepedit.server.pictures import Pictures
from deepedit.volume import DEFAULT_READING
from tests.server.live import GRIDS
from tests.server.page_client import in_file_order

SHAPE = (16, 14, 12)
ANISOTROPIC = GRIDS["LPS"] @ np.diag([1.0, 1.0, 5.0])
AXES = {**GRIDS, "anisotropic": ANISOTROPIC}


def write(path, data, matrix=GRIDS["RAS"]):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, (-12.5, 30, 7)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def read(*files, channel=0):
    return Pictures(2**30).of(files, DEFAULT_READING, channel)


def values(picture):
    return picture.voxels * picture.facts["slope"] + picture.facts["intercept"]


@pytest.mark.parametrize("grid", AXES)
def test_a_displayed_voxel_is_the_one_of_the_file_at_the_same_place(tmp_path, grid):
    data = np.random.default_rng(0).integers(-1000, 3000, SHAPE).astype(np.int16)
    path = write(tmp_path / "image.nii.gz", data, AXES[grid])
    picture = read(path)
    facts, affine = picture.facts, np.array(picture.facts["affine"])
    assert_array_equal(in_file_order(picture.voxels, facts), data)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    assert (directions.diagonal() > 0.9).all(), "x to the right, y to the front, z upwards"
    assert_allclose(facts["spacing"], np.linalg.norm(affine[:3, :3], axis=0))
    assert facts["oblique"] == (grid == "oblique")
    assert facts["letters"] == [["L", "R"], ["P", "A"], ["I", "S"]]
    own = nib.load(path).affine
    rng = np.random.default_rng(1)
    for _ in range(20):
        shown = rng.integers(0, facts["shape"])
        voxel = np.empty(3, int)
        for at, size, axis in zip(shown, facts["shape"], facts["axes"], strict=True):
            voxel[axis["axis"]] = size - 1 - at if axis["flipped"] else at
        assert_allclose(affine @ [*shown, 1], own @ [*voxel, 1], atol=1e-4)
        assert picture.voxels[tuple(shown[::-1])] == data[tuple(voxel)]


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1, 1])] * 3), st.data())
@settings(deadline=None)
def test_boxes_arrays_and_points_follow_the_same_axes(permutation, signs, data):
    shape = data.draw(st.tuples(*[st.integers(1, 70)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[:, list(permutation)] * [1.0, 2.0, 0.5]
    axes = Axes.of(affine, shape)
    array = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    copied = axes.copy(array)
    assert_array_equal(copied, axes.view(array))
    assert copied.flags.c_contiguous
    assert copied.shape[::-1] == axes.display_shape
    spans = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    box = tuple(slice(*span) for span in spans)
    there = tuple(slice(*span) for span in reversed(axes.box(box)))
    assert_array_equal(axes.copy(array[box]), copied[there])
    voxel = np.array([int(data.draw(st.integers(0, n - 1))) for n in axes.display_shape])
    inside = tuple((axes.matrix @ [*voxel, 1])[:3].astype(int))
    assert copied[tuple(voxel[::-1])] == array[inside]
    assert (np.diagonal((affine @ axes.matrix)[:3, :3]) > 0).all()


@pytest.mark.parametrize(
    ("low", "high", "whole", "dtype"),
    [
        (0, 255, True, "uint8"),
        (0, 256, True, "int16"),
        (-1024, 3071, True, "int16"),
        (0, 60000, True, "uint16"),
        (-40000, 30000, True, "uint16"),
        (0, 1, False, "uint16"),
        (-1e30, 1e30, False, "uint16"),
    ],
)
def test_values_take_as_few_bytes_as_they_can(tmp_path, low, high, whole, dtype):
    data = np.random.default_rng(0).uniform(low, high, SHAPE).astype(np.float32)
    data = np.rint(data) if whole else data
    data.flat[:2] = low, high
    picture = read(write(tmp_path / "image.nii", data))
    assert picture.facts["dtype"] == picture.voxels.dtype.name == dtype
    assert picture.facts["bytes"] == picture.voxels.nbytes
    assert_allclose(picture.facts["range"], [low, high])
    found = in_file_order(values(picture), picture.facts)
    if dtype == "uint16" and not (whole and low >= 0):
        assert_allclose(found, data, atol=0.51 * (high - low) / 65535 + 1e-6 * abs(high))
    else:
        assert_array_equal(found, data)


def test_images_of_a_ct_begin_with_soft_tissue_others_with_their_own_range(tmp_path):
    rng = np.random.default_rng(0)
    ct = rng.integers(-1024, 1500, SHAPE).astype(np.int16)
    assert read(write(tmp_path / "ct.nii", ct)).facts["hounsfield"]
    assert read(write(tmp_path / "ct.nii", ct)).facts["window"] == [40, 400]
    mr = rng.integers(0, 1000, SHAPE).astype(np.int16)
    mr.flat[0] = 30000
    facts = read(write(tmp_path / "mr.nii", mr)).facts
    assert not facts["hounsfield"]
    assert facts["window"] == pytest.approx([500, 1000], rel=0.05)
    assert facts["range"][1] == 30000


def test_channels_come_from_one_file_or_from_several(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 200, (*SHAPE, 2)).astype(np.uint8)
    both = write(tmp_path / "both.nii", data)
    each = [write(tmp_path / f"a_000{n}.nii", data[..., n]) for n in range(2)]
    for files in ([both], each):
        for channel in range(2):
            picture = read(*files, channel=channel)
            assert (picture.facts["channels"], picture.facts["channel"]) == (2, channel)
            assert_array_equal(in_file_order(picture.voxels, picture.facts), data[..., channel])
        for channel in (-1, 2):
            with pytest.raises(DeepEditError, match="channel"):
                read(*files, channel=channel)


def test_an_image_is_read_once_until_it_changes(tmp_path):
    reads = []
    data = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
    files = [write(tmp_path / f"{n}.nii", data + n) for n in range(3)]
    kept = Pictures(2 * data.nbytes, lambda *of: reads.append(of) or read_image(*of))
    for _ in range(2):
        kept.of(files[:1], DEFAULT_READING)
        kept.of(files[1:2], DEFAULT_READING)
    assert len(reads) == 2
    kept.of(files[2:], DEFAULT_READING)
    kept.of(files[1:2], DEFAULT_READING)
    assert len(reads) == 3
    kept.of(files[:1], DEFAULT_READING)
    assert len(reads) == 4
    write(files[0], np.concatenate([data, data]))
    assert kept.of(files[:1], DEFAULT_READING).facts["shape"][0] == 2 * SHAPE[0]
    files[0].write_bytes(b"no image")
    with pytest.raises(FileError):
        kept.of(files[:1], DEFAULT_READING)


def test_an_image_that_was_read_is_told_while_another_is_read(tmp_path):
    data = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
    files = [write(tmp_path / f"{n}.nii", data + n) for n in range(2)]
    begun, go_on, reads = threading.Event(), threading.Event(), []

    def waiting(images, reading):
        if images == files[1:]:
            reads.append(images)
            begun.set()
            go_on.wait(60)
        return read_image(images, reading)

    kept = Pictures(2**30, waiting)
    kept.of(files[:1], DEFAULT_READING)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(kept.of, files[1:], DEFAULT_READING) for _ in range(2)]
        begun.wait(60)
        assert kept.of(files[:1], DEFAULT_READING).facts["range"] == [data.min(), data.max()]
        go_on.set()
        first, second = (each.result() for each in both)
    assert first is second
    assert len(reads) == 1


def test_a_tenth_of_a_degree_is_oblique():
    for degrees, oblique in ((0.0, False), (0.05, False), (0.2, True), (45.0, True)):
        angle = np.radians(degrees)
        affine = np.eye(4)
        affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        assert is_oblique(affine) == oblique
