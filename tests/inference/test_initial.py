"""An initial segmentation, beside a network that thinks otherwise."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from torch import nn

from deepedit.errors import ClickError, FileError
from deepedit.inference.initial import initial_classes
from deepedit.inference.session import InteractiveSession
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model
from deepedit.volume import Volume
from tests.obedient import LABELS, obedient_model


class Opinion(nn.Module):
    """Says what the image shows, whatever was clicked, as sure as it was made; the image's values are classes."""

    def __init__(self, certainty):
        super().__init__()
        self.config = UNetConfig(filters=(1, 1), strides=(1, 1), kernels=(1, 1))
        self.head = nn.Conv3d(1, 1, 1)
        self.certainty = certainty

    def forward(self, x):
        classes = (2 * x[:, 0].float()).round().long()
        return self.certainty * nn.functional.one_hot(classes, 3).movedim(-1, 1).float()


def test_a_segmentation_that_the_network_finds_wrong_is_replaced():
    opinion = np.zeros((16, 16, 16), np.uint8)
    opinion[2:14, 2:14, 2:6] = 1
    given = np.zeros((16, 16, 16), np.uint8)
    given[2:14, 2:14, 10:14] = 1
    session = InteractiveSession(Model(Opinion(3.0).eval(), obedient_model().plan), amp="off")
    session.set_image(opinion)
    session.set_segmentation(given)
    session.add_click((3, 3, 3), "left")
    assert_array_equal(session.predict(), opinion)


def nearest_one_by_one(segmentation, image):
    """Class indices at the voxels of an image, and the share of labelled voxels beyond it, one voxel at a time."""
    found = np.zeros(image.shape, np.uint8)
    to_given = np.linalg.inv(segmentation.affine) @ image.affine
    for voxel in np.ndindex(image.shape):
        place = (to_given @ (*voxel, 1))[:3]
        assume((np.abs((place + 0.5) % 1) > 1e-6).all())  # halfway between two voxels either may be taken
        nearest = tuple(np.floor(place + 0.5).astype(int))
        if all(0 <= index < side for index, side in zip(nearest, segmentation.shape, strict=True)):
            found[voxel] = segmentation.data[nearest]
    places = np.argwhere(segmentation.data) @ np.linalg.inv(to_given)[:3, :3].T + np.linalg.inv(to_given)[:3, 3]
    outside = ((places < -0.5) | (places > np.array(image.shape) - 0.5)).any(1)
    return found, 100 * outside.mean() if len(outside) else 0


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.tuples(*[st.tuples(*[st.integers(2, 6)] * 3)] * 2),
    scale=st.tuples(*[st.sampled_from((0.4, 0.7, 1.0, 1.9, -0.8, -1.3))] * 3),
    offset=st.tuples(*[st.floats(-4, 4)] * 3),
    seed=st.integers(0, 99),
)
def test_another_grid_is_that_of_the_nearest_voxels_up_to_their_outer_edges(shapes, scale, offset, seed):
    affine = np.diag([*scale, 1.0])
    affine[:3, 3] = offset
    image = Volume(np.zeros(shapes[0], np.float32))
    segmentation = Volume(np.random.default_rng(seed).integers(0, 3, shapes[1]).astype(np.uint8), affine)
    expected, lost = nearest_one_by_one(segmentation, image)
    assume(shapes[0] != shapes[1] or np.abs(affine - np.eye(4)).max() > 0.3)
    notes = []
    if segmentation.data.any() and not expected.any():
        with pytest.raises(FileError, match="nothing of it is left there"):
            initial_classes(segmentation, image, LABELS)
        return
    assert_array_equal(initial_classes(segmentation, image, LABELS, note=notes.append), expected)
    assert len(notes) == 1
    assert ("lie outside of the image" in notes[0]) == (lost > 0)
    if lost:
        assert f", and {lost:.3g} % of what it labels" in notes[0]


def test_a_session_brings_values_over_and_takes_a_segmentation_without_its_header():
    session = InteractiveSession(obedient_model(), amp="off")
    session.set_image(np.zeros((4, 4, 4), np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
    values = np.zeros((4, 4, 4), np.int32)
    values[1, 1, 1:3] = 255, 7
    with pytest.raises(
        FileError, match="has 7, 255; the model knows 1 left, 2 right; say what that is, as in --map 7=left"
    ):
        session.set_segmentation(values)
    with pytest.raises(ClickError, match="label 'rigth' is not one of"):
        session.set_segmentation(values, {255: "rigth"})
    session.set_segmentation(Volume(values), {255: "right"}, same_grid=True)
    assert_array_equal(session.predict(), 2 * (values == 255))
    assert session.notes[-1].startswith("the segmentation: 7 is of no label (1 left, 2 right) and left out")
    session.set_segmentation(values, {255: "right", 7: "background"})
    assert_array_equal(session.predict(), 2 * (values == 255))
    assert not session.notes


def test_values_that_are_mapped_as_text_are_refused():
    image = Volume(np.zeros((4, 5, 6), np.float32))
    with pytest.raises(FileError, match="'1' is mapped to right; values of a file are whole numbers"):
        initial_classes(np.ones((4, 5, 6), int), image, LABELS, mapping={"1": "right"})
    assert (initial_classes(np.ones((4, 5, 6), int), image, LABELS, mapping={np.int16(1): "right"}) == 2).all()
