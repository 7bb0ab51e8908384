"""What is promised of clicks holds on the image's own grid, however it differs from the network's."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.inference.session import InteractiveSession
from deepedit.plan import Labels
from tests.inference.networks import random_model

RATIOS = (0.5, 0.7, 1.0, 1.3, 2.0, 3.0)
"""Voxels of the image's grid for one of the network's, along an axis."""

NAMES = ("background", "a", "b", "c")


def placed(seed: int, ratios: tuple[float, float, float]) -> np.ndarray:
    """An affine with these spacings, its axes in any order and direction, turned by up to 30 degrees."""
    rng = np.random.default_rng(seed)
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    x, y = rng.uniform(-0.5, 0.5, 2)
    turn = np.array([[np.cos(x), -np.sin(x), 0], [np.sin(x), np.cos(x), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(y), -np.sin(y)], [0, np.sin(y), np.cos(y)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes @ np.diag(1 / np.array(ratios))
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return affine


def session_on(seed: int, ratios: tuple[float, float, float], patch: tuple[int, int, int] = (12, 12, 12)):
    """A session with a network that answers at random, on a grid of about 10 x 10 x 10 of the network's voxels."""
    session = InteractiveSession(random_model(labels=Labels(NAMES[1:], (2, 5, 300)), patch=patch), amp="off")
    rng = np.random.default_rng(seed)
    shape = [max(1, round(rng.integers(4, 16) * ratio)) for ratio in ratios]
    session.set_image(rng.uniform(0, 2, shape).astype(np.float32), placed(seed, ratios))
    return session, rng, shape


def classes_of(session: InteractiveSession) -> np.ndarray:
    return session.model.plan.labels.to_classes(session.predict())


@given(st.integers(0, 2**32), st.tuples(*[st.sampled_from(RATIOS)] * 3))
@settings(max_examples=25, deadline=None)
def test_every_click_has_its_label_at_once_and_to_the_end(seed, ratios):
    session, rng, shape = session_on(seed, ratios)
    wanted = {}
    for _ in range(8):
        voxel, label = tuple(rng.integers(0, shape).tolist()), int(rng.integers(4))
        session.add_click(voxel, NAMES[label])
        wanted[voxel] = label
        classes = classes_of(session)
        for clicked, newest in wanted.items():
            assert classes[clicked] == newest
    assert_array_equal(session.probabilities().argmax(0), classes)


@given(st.integers(0, 2**32), st.tuples(*[st.sampled_from(RATIOS)] * 3))
@settings(max_examples=12, deadline=None)
def test_several_clicks_within_one_voxel_of_the_network_are_each_obeyed(seed, ratios):
    session, rng, shape = session_on(seed, ratios)
    middle = rng.integers(0, shape)
    around = [
        tuple(voxel)
        for voxel in (middle + np.argwhere(np.ones((3, 3, 3))) - 1).tolist()
        if all(0 <= index < side for index, side in zip(voxel, shape, strict=True))
    ]
    wanted = {voxel: int(rng.integers(4)) for voxel in around}
    session.add_clicks([(voxel, NAMES[label]) for voxel, label in wanted.items()])
    classes = classes_of(session)
    assert {voxel: int(classes[voxel]) for voxel in around} == wanted
    assert_array_equal(session.probabilities().argmax(0), classes)


@given(st.integers(0, 2**32), st.tuples(*[st.sampled_from(RATIOS)] * 3))
@settings(max_examples=12, deadline=None)
def test_probabilities_agree_with_a_corrected_segmentation_too(seed, ratios):
    session, rng, shape = session_on(seed, ratios)
    session.set_segmentation(np.array((0, 2, 5, 300))[rng.integers(0, 4, shape)])
    assert_array_equal(session.probabilities().argmax(0), classes_of(session))
    session.add_click(tuple(rng.integers(0, shape).tolist()), "b")
    assert_array_equal(session.probabilities().argmax(0), classes_of(session))
