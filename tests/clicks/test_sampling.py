import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deepedit.clicks import error_regions, sample_clicks
from deepedit.clicks import sampling as sampling_module
from tests.clicks.oracles import assert_one_click_a_region, code_maps, slow_chessboard_distance


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=["listed", "dense"])
def draw(request, monkeypatch):
    """Both ways to draw give the same distribution: the one for a CPU, and the one for a GPU, here on the CPU."""
    if request.param == "dense":

        def dense(codes, depth, num_classes, generator):
            sources = sampling_module.per_sample(generator, len(codes), codes.device)
            return sampling_module._draw_dense(codes, depth, num_classes, sources)

        monkeypatch.setattr(sampling_module, "draw_cells", dense)
    return request.param


def test_error_regions_are_true_class_plus_one_where_wrong():
    label = torch.tensor([0, 0, 1, 1, 2, 2]).reshape(1, 6, 1, 1)
    prediction = torch.tensor([0, 1, 1, 2, 2, 0]).reshape(1, 6, 1, 1)
    assert error_regions(prediction, label).flatten().tolist() == [0, 1, 0, 2, 0, 3]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("num_classes", [None, 3, 300])
def test_error_regions_leave_their_inputs_alone(dtype, num_classes):
    prediction = torch.randint(0, 3, (1, 4, 4, 4), generator=seeded(0)).to(dtype)
    label = torch.randint(0, 3, (1, 4, 4, 4), generator=seeded(1)).to(dtype)
    before = prediction.clone(), label.clone()
    regions = error_regions(prediction, label, num_classes)
    assert torch.equal(regions.long(), (label.long() + 1) * (prediction != label))
    assert regions.dtype == (torch.uint8 if num_classes == 3 else torch.int32)
    assert torch.equal(prediction, before[0])
    assert torch.equal(label, before[1])


def test_the_greatest_class_of_a_byte_does_not_wrap_to_nothing():
    label = torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)
    assert error_regions(torch.zeros_like(label), label).item() == 256


def test_error_regions_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        error_regions(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 3))


@given(codes=code_maps(max_code=3), seed=st.integers(0, 2**31))
def test_each_region_gets_a_click_inside_and_no_other_class_does(codes, seed):
    regions = torch.from_numpy(np.stack([codes, codes[::-1].copy()]))
    assert_one_click_a_region(sample_clicks(regions, 3, seeded(seed)), regions)


@given(codes=code_maps(max_code=3), seed=st.integers(0, 2**31))
def test_the_dense_draw_stays_in_its_regions_as_well(codes, seed):
    regions = torch.from_numpy(codes)[None]
    depth = torch.from_numpy(slow_chessboard_distance(codes))[None]
    cells = sampling_module._draw_dense(regions, depth, 3, [seeded(seed)])[0]
    for label, cell in enumerate(cells.tolist()):
        assert (cell >= 0) == bool((regions == label + 1).any())
        assert cell < 0 or regions.flatten()[cell] == label + 1


def test_voxels_are_drawn_with_the_weight_exp_d_minus_1(draw):
    block = np.zeros((7, 6, 7), dtype=bool)
    block[1:6, :5, :6] = True
    block[:3, :2] = False
    copies, calls = 200, 500
    # Every class has the same region, each in a place of its own: a call makes a hundred draws.
    codes = np.concatenate([block * np.uint8(code) for code in range(1, copies + 1)])
    regions, generator = torch.from_numpy(codes)[None], seeded(7)
    counts = np.zeros(block.shape)
    for _ in range(calls):
        clicks = sample_clicks(regions, copies, generator)
        x, y, z = clicks.position.T.numpy()
        assert np.array_equal(x // len(block), np.arange(copies))
        np.add.at(counts, (x % len(block), y, z), 1)
    weight = np.expm1(slow_chessboard_distance(codes)[: len(block)])[block]
    assert counts[block].sum() == copies * calls
    assert stats.chisquare(counts[block], weight / weight.sum() * copies * calls).pvalue > 1e-4


def test_depths_beyond_float32_exponentials_are_drawn(draw):
    regions = torch.ones(1, 1, 1, 400, dtype=torch.uint8)
    regions[..., 0] = 0
    drawn = [sample_clicks(regions, 1, seeded(seed)).position[0, 2].item() for seed in range(50)]
    assert min(drawn) > 380
    assert len(set(drawn)) > 2


def test_a_voxel_past_two_to_the_24_is_told_from_its_neighbour(draw):
    regions = torch.zeros(1, 257, 257, 257, dtype=torch.uint8)
    regions[0, 0, 0, 0], regions[0, 256, 256, 255] = 1, 2
    clicks = sample_clicks(regions, 2, seeded(0))
    assert clicks.position.tolist() == [[0, 0, 0], [256, 256, 255]]


def test_a_wide_sheet_is_drawn_evenly_from_end_to_end(draw):
    """Noise of too few values would draw the end of the volume more often than its beginning."""
    regions = torch.zeros(1, 3, 512, 400, dtype=torch.uint8)
    regions[:, 1] = 1
    generator = seeded(3)
    drawn = [sample_clicks(regions, 1, generator).position[0, 1].item() for _ in range(40)]
    assert stats.kstest(drawn, stats.uniform(0, 512).cdf).pvalue > 1e-4


def test_the_same_seed_gives_the_same_clicks(draw):
    regions = torch.randint(0, 4, (2, 12, 12, 12), generator=seeded(0), dtype=torch.uint8)
    first, second, other = (sample_clicks(regions, 3, seeded(seed)).position for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_generator_a_sample_makes_the_batch_irrelevant(draw):
    regions = torch.randint(0, 4, (3, 12, 12, 12), generator=seeded(0), dtype=torch.uint8)
    together = sample_clicks(regions, 3, [seeded(seed) for seed in range(3)])
    alone = [sample_clicks(regions[seed : seed + 1], 3, [seeded(seed)]) for seed in range(3)]
    assert torch.equal(together.position, torch.cat([clicks.position for clicks in alone]))


def test_a_wrong_number_of_generators_is_refused():
    with pytest.raises(ValueError, match="one generator for each of 2 samples"):
        sample_clicks(torch.ones(2, 3, 3, 3, dtype=torch.uint8), 1, [seeded(0)])


def test_a_code_without_a_class_is_refused():
    with pytest.raises(ValueError, match="at most 2"):
        sample_clicks(torch.full((1, 3, 3, 3), 3), 2)
