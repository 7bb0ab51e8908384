"""Slow code that is obviously right, and the volumes it is tried on."""

import math

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from scipy import ndimage, special

# One setting of the fixture `fused` serves all examples. They are few: an interpreted block takes milliseconds.
few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def code_maps(draw, max_side=9, max_code=4, dtype=np.uint8):
    """Maps of region codes ``[X, Y, Z]``: sides from 1 on, from nearly empty to nearly full, noise or blocks."""
    shape = tuple(draw(st.tuples(*[st.integers(1, max_side)] * 3)))
    codes = draw(st.integers(1, max_code))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.02, 0.3, 0.7, 0.98, 1.0]))
    grain = draw(st.sampled_from([1, 3, 6]))
    coarse = tuple(-(-side // grain) for side in shape)
    values = np.where(rng.random(coarse) < density, rng.integers(1, codes + 1, coarse), 0)
    for axis in range(3):
        values = values.repeat(grain, axis)
    return values[tuple(slice(side) for side in shape)].astype(dtype)


def slow_chessboard_distance(codes):
    """scipy's distance, code by code."""
    distance = np.zeros(codes.shape, dtype=np.int32)
    for code in set(np.unique(codes).tolist()) - {0}:
        region = codes == code
        if region.all():
            return np.full(codes.shape, max(codes.shape), dtype=np.int32)
        distance[region] = ndimage.distance_transform_cdt(region, metric="chessboard")[region]
    return distance


def slow_largest_error_click(prediction, label, used_up=()):
    """The annotator of evaluation, by flood fill and by every pair of voxels."""
    wrong = [tuple(voxel) for voxel in np.argwhere(prediction != label).tolist()]
    components, seen = [], set()
    for start in wrong:
        if start not in seen:
            components.append(sorted(slow_error_component(prediction, label, start)))
            seen.update(components[-1])
    grid = np.ones([side + 2 for side in label.shape], dtype=bool)
    # The sort keeps the order of equals, and components come in the order of their first voxels.
    for component in sorted(components, key=len, reverse=True):
        grid[...] = True
        grid[tuple(np.array(component).T + 1)] = False
        outside = np.argwhere(grid) - 1
        deepest = max(component, key=lambda voxel: ((outside - voxel) ** 2).sum(1).min())
        true_class = int(label[deepest])
        if (true_class if true_class > 0 else int(prediction[deepest])) not in used_up:
            return deepest, true_class
    return None


def slow_error_component(prediction, label, start):
    """The wrong voxels of the same true class that can be reached from a wrong one, face by face."""
    component, queue = {start}, [start]
    while queue:
        x, y, z = queue.pop()
        for near in [(x - 1, y, z), (x + 1, y, z), (x, y - 1, z), (x, y + 1, z), (x, y, z - 1), (x, y, z + 1)]:
            inside = all(0 <= index < side for index, side in zip(near, label.shape, strict=True))
            if inside and near not in component and prediction[near] != label[near] == label[start]:
                component.add(near)
                queue.append(near)
    return component


def slow_guidance(clicks, shape, num_classes, batch_size, sigma):
    """Every click's Gaussian over every voxel, float64; `sigma` in voxels, one number an axis."""
    guidance = np.zeros((batch_size, num_classes, *shape))
    grid = np.indices(shape)
    entries = (clicks.batch, clicks.label, clicks.position, clicks.valid)
    for batch, label, position, valid in zip(*(entry.tolist() for entry in entries), strict=True):
        if valid:
            away = (grid - np.reshape(position, (3, 1, 1, 1))) / np.reshape(sigma, (3, 1, 1, 1))
            guidance[batch, label] = np.maximum(guidance[batch, label], np.exp(-0.5 * (away**2).sum(0)))
    return guidance


def assert_one_click_a_region(clicks, regions):
    """Of two samples and three classes each region has a click inside, and no other class has one."""
    assert clicks.batch.tolist() == [0, 0, 0, 1, 1, 1]
    assert clicks.label.tolist() == [0, 1, 2, 0, 1, 2]
    for batch, label, position, valid in zip(clicks.batch, clicks.label, clicks.position, clicks.valid, strict=True):
        assert valid == (regions[batch] == label + 1).any()
        if valid:
            assert regions[(batch, *position)] == label + 1
        else:
            assert position.tolist() == [0, 0, 0]


def random_reach(seed, samples, count, around=15):
    """Positions ``[B, N, 3]`` in and around a volume, validity ``[B, N]``, and reach ``[B]``, sometimes infinite."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.randint(-around // 2, around, (samples, count, 3), generator=generator)
    valid = torch.rand((samples, count), generator=generator) < 0.4
    near, far = torch.rand((2, samples), generator=generator)
    return position, valid, torch.where(far < 0.2, math.inf, 30 * near)


def slow_within_reach(position, valid, reach, shape, softness):
    """``[B, *shape]``: how far each voxel lies within reach, one after another."""
    weight = np.zeros((len(position), *shape))
    for sample, *voxel in np.ndindex(weight.shape):
        away = [math.dist(voxel, click) for click in position[sample][valid[sample]]]
        weight[(sample, *voxel)] = special.expit((reach[sample] - min(away, default=0)) / softness)
    return weight
