import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.metrics import dice, surface_dice

SHAPES = st.tuples(*[st.integers(1, 6)] * 3)
SEEDS = st.integers(0, 2**32 - 1)


def surface_of(mask):
    """Voxels of a mask with a neighbour outside of it or of the volume, one by one."""
    voxels = {tuple(voxel) for voxel in np.argwhere(mask).tolist()}
    steps = [step for step in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == 1]
    return {v for v in voxels if any(tuple(map(sum, zip(v, step, strict=True))) not in voxels for step in steps)}


def slow_surface_dice(prediction, truth, axes, tolerance):
    one, other = surface_of(prediction), surface_of(truth)
    if not one or not other:
        return float(one == other)

    def near(voxel, surface):
        scaled = [np.dot(axes, each) for each in (voxel, *surface)]
        return any(math.dist(scaled[0], each) <= tolerance + 1e-6 for each in scaled[1:])

    hits = sum(near(v, other) for v in one) + sum(near(v, one) for v in other)
    return hits / (len(one) + len(other))


@settings(deadline=None, max_examples=60)
@given(
    shape=SHAPES,
    density=st.floats(0, 1),
    seed=SEEDS,
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 1.3, 3.0])] * 3),
    tolerance=st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]),
)
def test_surface_dice_equals_the_count_voxel_by_voxel(shape, density, seed, spacing, tolerance):
    rng = np.random.default_rng(seed)
    prediction, truth = (rng.random(shape) < density * rng.random() for _ in range(2))
    expected = slow_surface_dice(prediction, truth, np.diag(spacing), tolerance)
    assert surface_dice(prediction, truth, spacing, tolerance) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    shape=SHAPES,
    seed=SEEDS,
    shear=st.sampled_from([0.0, 0.36, 1.0]),
    turned=st.booleans(),
    tolerance=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_distances_are_those_in_space_on_sheared_and_turned_grids(shape, seed, shear, turned, tolerance):
    rng = np.random.default_rng(seed)
    prediction, truth = (rng.random(shape) < rng.random() for _ in range(2))
    axes = np.array([[0.8, 0, 0], [0, 0.9, shear], [0, 0, 1.1]])
    if turned:
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ axes
    expected = slow_surface_dice(prediction, truth, axes, tolerance)
    assert surface_dice(prediction, truth, axes, tolerance) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(shape=SHAPES, seed=SEEDS)
def test_dice_equals_the_count_of_sets(shape, seed):
    rng = np.random.default_rng(seed)
    prediction, truth = (rng.random(shape) < rng.random() for _ in range(2))
    one, other = ({tuple(v) for v in np.argwhere(mask).tolist()} for mask in (prediction, truth))
    expected = 2 * len(one & other) / (len(one) + len(other)) if one or other else 1.0
    assert dice(prediction, truth) == expected


@pytest.mark.parametrize("score", [dice, lambda *masks: surface_dice(*masks, (1, 1, 1))])
def test_two_empty_masks_agree_and_one_empty_mask_does_not(score):
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    assert (score(empty, empty), score(empty, full), score(full, empty), score(full, full)) == (1, 0, 0, 1)


def test_the_tolerance_is_in_millimetres_along_each_axis():
    truth, shifted = np.zeros((2, 12, 12, 12), bool)
    truth[3:8, 3:8, 3:8] = True
    shifted[4:9, 3:8, 3:8] = True
    assert surface_dice(shifted, truth, (2.0, 1.0, 1.0), tolerance=2.0) == 1
    assert surface_dice(shifted, truth, (2.1, 1.0, 1.0), tolerance=2.0) < 1


def test_a_wrong_inside_does_not_count_but_a_hole_has_a_surface():
    truth = np.ones((9, 9, 9), bool)
    hollow = truth.copy()
    hollow[4, 4, 4] = False
    # The hole's six neighbours are the only surface voxels that are far from the other's.
    assert surface_dice(hollow, truth, (1, 1, 1), tolerance=2.0) == 1 - 6 / (6 + 2 * (9**3 - 7**3))
