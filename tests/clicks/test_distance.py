import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.testing import assert_array_equal

from deepedit.clicks import chessboard_distance
from tests.clicks.oracles import code_maps, slow_chessboard_distance


def distance_of(codes):
    return chessboard_distance(torch.from_numpy(np.ascontiguousarray(codes))).numpy()


@settings(max_examples=300)
@given(codes=code_maps(max_side=16))
def test_distance_equals_scipy_code_by_code(codes):
    assert_array_equal(distance_of(codes), slow_chessboard_distance(codes))


@settings(max_examples=30)
@given(codes=code_maps(max_side=40))
def test_distance_equals_scipy_on_larger_volumes(codes):
    assert_array_equal(distance_of(codes), slow_chessboard_distance(codes))


def spiral(side):
    """A winding corridor one voxel wide in each slice."""
    codes = np.zeros((side, side, 3), dtype=np.uint8)
    low, high = 0, side - 1
    while low < high:
        codes[low : high + 1, low] = codes[high, low : high + 1] = codes[low + 2 : high + 1, high] = 1
        codes[low + 2, low + 2 : high + 1] = 1
        low, high = low + 2, high - 2
    return codes


def single(shape, voxel, value=1):
    codes = np.full(shape, 1 - value, dtype=np.uint8)
    codes[voxel] = value
    return codes


HOSTILE = {
    "all wrong but one corner": single((33, 20, 9), (0, 0, 0), value=0),
    "all wrong but the last corner": single((9, 70, 3), (8, 69, 2), value=0),
    "all wrong but the middle": single((31, 31, 31), (15, 15, 15), value=0),
    "one voxel wrong": single((12, 13, 14), (5, 6, 7)),
    "one corner wrong": single((12, 13, 14), (11, 12, 13)),
    "sheet": np.eye(1, 20, 10, dtype=np.uint8).reshape(20, 1, 1) * np.ones((20, 15, 15), dtype=np.uint8),
    "spiral": spiral(25),
    "one thick along z": np.arange(300, dtype=np.int64).reshape(20, 15, 1) // 70,
    "a line past 255": single((1, 1, 700), (0, 0, 3), value=0),
    "two halves that touch": np.repeat(np.array([1, 2], dtype=np.uint8), 14).reshape(28, 1, 1)
    * np.ones((1, 9, 9), dtype=np.uint8),
    "chessboard": np.indices((9, 9, 9)).sum(0) % 2 + 1,
    "nothing wrong": np.zeros((4, 5, 6), dtype=np.uint8),
    "codes beyond a byte": np.where(np.indices((9, 9, 9))[0] < 4, 70_000, 300),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_distance_of_hostile_volumes(name):
    assert_array_equal(distance_of(HOSTILE[name]), slow_chessboard_distance(HOSTILE[name]))


@pytest.mark.parametrize("shape", [(7, 3, 5), (1, 1, 1), (2, 300, 1)])
def test_a_volume_of_one_code_has_the_longest_side_for_distance(shape):
    assert (distance_of(np.full(shape, 3, dtype=np.uint8)) == max(shape)).all()


def test_samples_do_not_see_each_other():
    first, second = np.ones((6, 5, 4), dtype=np.uint8), np.zeros((6, 5, 4), dtype=np.uint8)
    second[2:5, 1:4, 1:3] = 2
    together = distance_of(np.stack([[first], [second]]))
    assert together.shape == (2, 1, 6, 5, 4)
    assert_array_equal(together[0, 0], distance_of(first))
    assert_array_equal(together[1, 0], distance_of(second))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_every_integer_type_is_read_and_int32_returned(dtype):
    regions = torch.zeros(5, 5, 5).index_fill_(0, torch.tensor([1, 2, 3]), 1).to(dtype)
    distance = chessboard_distance(regions)
    assert distance.dtype == torch.int32
    assert distance[:, 2, 2].tolist() == [0, 1, 2, 1, 0]


def test_the_input_is_left_as_it_was():
    regions = torch.randint(0, 3, (8, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    before = regions.clone()
    chessboard_distance(regions)
    assert torch.equal(regions, before)


def test_a_volume_without_voxels_has_no_distances():
    assert chessboard_distance(torch.zeros(0, 4, 4, 4, dtype=torch.bool)).shape == (0, 4, 4, 4)


@pytest.mark.parametrize("regions", [torch.zeros(4, 4, 4), torch.zeros(4, 4, dtype=torch.bool)])
def test_what_is_no_region_map_is_refused(regions):
    with pytest.raises(ValueError, match="regions are"):
        chessboard_distance(regions)
