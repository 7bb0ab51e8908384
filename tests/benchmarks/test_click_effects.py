"""What a click changes, counted voxel by voxel."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.click_effects import EDGES, effect_of, table
from deepedit.clicks import largest_error_click

SHAPE = (5, 7, 30)


def maps():
    # Most voxels are alike, so that there are components of more than a voxel.
    return arrays(np.uint8, SHAPE, elements=st.integers(0, 2), fill=st.just(0))


@given(maps(), maps(), maps())
def test_counts_are_those_of_a_walk_over_all_voxels(before, after, truth):
    click = largest_error_click(before, truth)
    if click is None:
        return
    voxel, label = click
    effect = effect_of(before, after, truth, voxel, label)
    same, gained, lost = np.zeros((3, len(EDGES) - 1), int)
    for at in np.ndindex(SHAPE):
        ring = sum(np.linalg.norm(np.subtract(at, voxel)) >= edge for edge in EDGES[1:])
        same[ring] += before[at] != truth[at] and truth[at] == label
        gained[ring] += before[at] != truth[at] and after[at] == truth[at]
        lost[ring] += before[at] == truth[at] and after[at] != truth[at]
    assert (effect.same.tolist(), effect.gained.tolist(), effect.lost.tolist()) == (
        same.tolist(),
        gained.tolist(),
        lost.tolist(),
    )
    assert 0 <= effect.repaired <= min(effect.error, gained.sum())
    assert 0 < effect.error <= same.sum()


def test_of_two_errors_only_the_clicked_one_is_the_clicked_error():
    truth = np.zeros(SHAPE, np.uint8)
    truth[1:4, 1:4, 1:4] = truth[2, 2, 20] = 1
    before, after = np.zeros_like(truth), truth.copy()
    after[1, 1, 1] = 0
    effect = effect_of(before, after, truth, (2, 2, 2), 1)
    assert (effect.error, effect.repaired) == (27, 26)
    assert (effect.same.tolist(), effect.gained.tolist()) == ([27, 0, 1], [26, 0, 1])
    assert "27, 96% of them repaired" in table([effect])
