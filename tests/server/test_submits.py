"""Label maps from viewers, brought to the model's values and the image's grid."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.errors import DeepEditError
from deepedit.io.volumes import read_grid, read_label
from deepedit.plan import Labels
from deepedit.server.submits import on_grid_of, submitted, values_in, write_ranks
from deepedit.volume import DEFAULT_READING
from tests.server.studies_folder import LABELS, SHAPE, image, label_map, save, segments, voxels


@pytest.fixture
def grid(tmp_path):
    return read_grid(image(tmp_path / "image.nii.gz"))


@pytest.fixture
def send(tmp_path, grid):
    """Submit a label map with these values; returns the first file values."""

    def send(values, label_info, labels=LABELS):
        file = label_map(tmp_path / "sent.nii.gz", *values)
        return (
            submitted(file, ".nii.gz", label_info, labels, grid, DEFAULT_READING, "a").ravel()[: len(values)].tolist()
        )

    return send


def oracle(values, names, labels):
    """One voxel after the other."""
    found = []
    for value in values:
        name = names[value - 1] if value else "background"
        found.append(labels.values[labels.names.index(name)] if name in labels.names else 0)
    return found


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_values_mean_positions(tmp_path_factory, data):
    names = ["spleen", "liver", "aorta", "background", "foreground_scribbles", "background_scribbles"]
    labels = Labels(("liver", "spleen", "aorta"), (2, 5, 300))
    order = data.draw(st.permutations(names))[: data.draw(st.integers(1, 6))]
    values = data.draw(st.lists(st.integers(0, len(order)), max_size=20))
    folder = tmp_path_factory.mktemp("send")
    file = label_map(folder / "sent.nii.gz", *values)
    found = submitted(file, ".nii.gz", segments(*order), labels, read_grid(file), DEFAULT_READING, "a")
    assert found.shape == SHAPE
    assert found.ravel()[: len(values)].tolist() == oracle(values, order, labels)
    assert not found.ravel()[len(values) :].any()


def test_the_idx_of_a_segment_counts_nothing(send):
    assert send((1, 2), [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 1}]) == [7, 3]
    assert send((1, 2), [{"name": "liver"}, {"name": "spleen", "idx": "x", "color": [1, 2]}]) == [7, 3]


def test_names_are_compared_in_composed_unicode(send):
    labels = Labels(("Herz\u00f6hre",), (4,))
    assert send((1,), segments("Herzo\u0308hre"), labels) == [4]


def test_empty_segments_are_nothing_whatever_they_are_called(send):
    assert send((2,), segments("kidney", "liver", "Segment_1")) == [7]
    assert send((0,), segments("kidney")) == [0]


def test_labels_that_the_model_does_not_know_are_named(send):
    with pytest.raises(DeepEditError, match=r"has no label kidney, Segment_1 \(it has spleen, liver\)"):
        send((1, 2, 3), segments("kidney", "liver", "Segment_1"))


def test_values_without_a_name_are_told(send):
    with pytest.raises(DeepEditError, match="has the values 3, 9, and names for 1, 2 only"):
        send((1, 9, 3), segments("spleen", "liver"))


@pytest.mark.parametrize("label_info", [None, []])
def test_without_names_only_values_that_cannot_be_mistaken_are_taken(send, label_info):
    assert send((1, 2, 0), label_info, Labels(("liver", "spleen"), (1, 2))) == [1, 2, 0]
    assert send((0, 0), label_info) == [0, 0]
    for values in ((3, 7, 0), (1, 2)):  # those of the model's files, or 1..n as viewers number
        with pytest.raises(DeepEditError, match="without label_info, so that its values may be those of a viewer"):
            send(values, label_info)


@pytest.mark.parametrize("label_info", ["spleen", {"name": "spleen"}, 3, ["spleen"], [{}], [{"name": 3}], [None]])
def test_malformed_names_are_refused_in_one_line(send, label_info):
    with pytest.raises(DeepEditError, match="label_info") as caught:
        send((1,), label_info)
    assert "\n" not in str(caught.value)


def test_names_of_any_length_make_a_short_message(send):
    with pytest.raises(DeepEditError) as caught:
        send(range(1, 100), segments(*(f"{number}\n" * 10**4 for number in range(100))))
    assert len(str(caught.value)) < 2000
    assert "\n" not in str(caught.value)


AFFINE = np.array([[1.5, 0.2, 0, -3], [-0.2, 2, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((1, -1), repeat=3)))
def test_a_map_stored_along_other_axes_is_turned(tmp_path, order, flips):
    grid = read_grid(image(tmp_path / "image.nii.gz", affine=AFFINE))
    data = np.random.default_rng(0).integers(0, 3, SHAPE, np.uint8)
    turn = np.stack([np.asarray(order), np.asarray(flips)], axis=1)
    turned = nib.Nifti1Image(data, AFFINE).as_reoriented(turn)
    nib.save(turned, tmp_path / "turned.nii.gz")
    assert_array_equal(on_grid_of(grid, read_label(tmp_path / "turned.nii.gz"), "it"), data)


def moved(*shift):
    affine = AFFINE.copy()
    affine[:3, 3] += shift
    return affine


@pytest.mark.parametrize(
    ("affine", "shape"),
    [
        (moved(1, 0, 0), SHAPE),
        (AFFINE, (4, 5, 7)),
        (AFFINE, (5, 4, 6)),
        (np.diag([1.5, 2, 3, 1]), SHAPE),
        (AFFINE @ np.diag([2, 2, 2, 1]), (2, 3, 3)),
    ],
)
def test_a_map_on_another_grid_is_refused(tmp_path, affine, shape):
    grid = read_grid(image(tmp_path / "image.nii.gz", affine=AFFINE))
    file = label_map(tmp_path / "sent.nii.gz", 1, affine=affine, shape=shape)
    with pytest.raises(DeepEditError, match=r"does not lie on the grid of its image: .*export it with the image as"):
        submitted(file, ".nii.gz", segments("liver"), LABELS, grid, DEFAULT_READING, "a")


@pytest.mark.parametrize("content", [b"", b"no label map", b"\x1f\x8b\x08 cut short"])
def test_a_damaged_file_is_told_without_its_place_on_the_server(tmp_path, grid, content):
    file = tmp_path / "secret.nii.gz"
    file.write_bytes(content)
    with pytest.raises(DeepEditError, match="the segmentation of a: ") as caught:
        submitted(file, ".nii.gz", segments("liver"), LABELS, grid, DEFAULT_READING, "a")
    assert "secret" not in str(caught.value)


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=30))
def test_values_in_a_map(values):
    data = np.array(values, np.int32).reshape(1, 1, -1)
    assert values_in(data) == sorted(set(values) - {0})


def test_ranks_are_positions_among_the_labels(tmp_path):
    source = save(tmp_path / "a.nii.gz", np.array([0, 3, 7, 9, 7], np.int16).reshape(1, 1, 5), AFFINE)
    write_ranks(read_label(source), tmp_path / "b.nii.gz", LABELS)
    assert voxels(tmp_path / "b.nii.gz").ravel().tolist() == [0, 1, 2, 0, 2]
    assert_array_equal(nib.load(tmp_path / "b.nii.gz").affine, nib.load(source).affine)
