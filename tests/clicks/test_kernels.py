"""The fused kernels against the oracles of what they stand in for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deepedit.clicks import (
    Annotator,
    chessboard_distance,
    error_regions,
    largest_error_click,
    sample_clicks,
    simulate_clicks,
)
from deepedit.clicks.largest_error import largest_errors
from tests.clicks.oracles import (
    assert_one_click_a_region,
    code_maps,
    few,
    slow_chessboard_distance,
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@few
@given(codes=code_maps(max_side=7))
def test_distance_equals_scipy(fused, codes):
    regions = torch.from_numpy(codes[None])
    distance = chessboard_distance(regions.to(fused))
    assert distance.dtype == torch.int32
    for sample, found in zip(regions.numpy(), distance.cpu().numpy(), strict=True):
        np.testing.assert_array_equal(found, slow_chessboard_distance(sample))


@pytest.mark.parametrize("shape", [(1, 1, 1024), (1, 700, 1), (600, 1, 2), (1, 1, 1)])
def test_distance_along_long_lines(fused, shape):
    codes = np.random.default_rng(0).random(shape) < 0.97
    distance = chessboard_distance(torch.from_numpy(codes).to(fused))
    np.testing.assert_array_equal(distance.cpu().numpy(), slow_chessboard_distance(codes))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64])
def test_distance_of_codes_of_every_type(fused, dtype):
    codes = np.random.default_rng(0).integers(0, 3, (4, 5, 6))
    codes = codes > 0 if dtype == torch.bool else codes * (-(2**40) if dtype == torch.int64 else 100)
    distance = chessboard_distance(torch.from_numpy(codes).to(dtype).to(fused))
    np.testing.assert_array_equal(distance.cpu().numpy(), slow_chessboard_distance(codes))


def test_a_volume_that_is_all_one_region_gets_its_greatest_side(fused):
    regions = torch.ones(2, 1, 257, 1, dtype=torch.uint8, device=fused)
    assert (chessboard_distance(regions) == 257).all()


@pytest.mark.parametrize("num_classes", [3, 300])
def test_error_regions_are_true_class_plus_one_where_wrong(fused, num_classes):
    label = torch.randint(0, 3, (2, 7, 9, 5), generator=seeded(0), dtype=torch.uint8)
    prediction = torch.randint(0, 3, label.shape, generator=seeded(1))
    regions = error_regions(prediction.to(fused), label.to(fused), num_classes)
    assert regions.dtype == (torch.uint8 if num_classes == 3 else torch.int32)
    assert torch.equal(regions.cpu().long(), (label.long() + 1) * (prediction != label))


@few
@given(codes=code_maps(max_side=7, max_code=3), seed=st.integers(0, 2**31))
def test_each_region_gets_a_click_inside_and_no_other_class_does(fused, codes, seed):
    regions = torch.from_numpy(np.stack([codes, codes[::-1].copy()])).to(fused)
    assert_one_click_a_region(sample_clicks(regions, 3, seeded(seed)), regions)


def test_voxels_are_drawn_with_the_weight_exp_d_minus_1(fused):
    from deepedit.clicks import kernels

    block = np.zeros((5, 5, 6), dtype=bool)
    block[1:4, :4, :5] = True
    block[:2, :2] = False
    copies, samples = 60, 15
    # Every class has the same region, each in a place of its own: a sample makes sixty draws.
    codes = np.concatenate([block * np.uint8(code) for code in range(1, copies + 1)])
    depth = slow_chessboard_distance(codes).astype(np.uint8)
    both = (torch.from_numpy(volume).expand(samples, *codes.shape).contiguous().to(fused) for volume in (codes, depth))
    keys = torch.full((samples, copies), kernels.NO_VOXEL, device=fused)
    kernels.draw(*both, torch.arange(samples, device=fused), None, keys, None)
    x, y, z = kernels.clicks_at_keys(keys, codes.shape)[2].T.cpu().numpy()
    assert np.array_equal(x // len(block), np.tile(np.arange(copies), samples))
    counts = np.zeros(block.shape)
    np.add.at(counts, (x % len(block), y, z), 1)
    weight = np.expm1(slow_chessboard_distance(block))[block]
    assert counts[block].sum() == copies * samples
    assert stats.chisquare(counts[block], weight / weight.sum() * copies * samples).pvalue > 1e-4


def test_the_noise_of_many_voxels_is_gumbels(fused):
    """Its maximum over N voxels is Gumbel noise moved by log N: so much depends on its upper tail."""
    from deepedit.clicks import kernels

    codes = torch.ones(100, 10, 20, 20, dtype=torch.uint8, device=fused)
    keys = torch.full((100, 1), kernels.NO_VOXEL, device=fused)
    evenly = torch.ones(100, dtype=torch.int64, device=fused)
    kernels.draw(codes, codes, torch.arange(100, device=fused), evenly, keys, None)
    bits = (keys >> 32).to(torch.int32).cpu()
    score = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32).flatten().numpy()
    assert stats.kstest(score - np.log(4000), stats.gumbel_r.cdf).pvalue > 1e-4


def test_depths_beyond_float32_exponentials_are_drawn(fused):
    regions = torch.ones(20, 1, 1, 400, dtype=torch.uint8)
    regions[..., 0] = 0
    drawn = sample_clicks(regions.to(fused), 1, [seeded(seed) for seed in range(20)]).position[:, 2].tolist()
    assert min(drawn) > 380
    assert len(set(drawn)) > 2


def test_a_generator_a_sample_makes_the_batch_irrelevant(fused):
    regions = torch.randint(0, 4, (3, 12, 12, 12), generator=seeded(0), dtype=torch.uint8).to(fused)
    together = sample_clicks(regions, 3, [seeded(seed) for seed in range(3)])
    alone = [sample_clicks(regions[seed : seed + 1], 3, [seeded(seed)]) for seed in range(3)]
    assert torch.equal(together.position, torch.cat([clicks.position for clicks in alone]))
    assert len(set(map(tuple, together.position.tolist()))) > 6


@few
@given(prediction=code_maps(max_side=7, max_code=2), seed=st.integers(0, 2**32 - 1), same=st.floats(0, 1))
def test_the_largest_error_is_that_of_evaluation(fused, prediction, seed, same):
    rng = np.random.default_rng(seed)
    label = np.where(rng.random(prediction.shape) < same, prediction, rng.integers(0, 3, prediction.shape))
    assert_largest_errors(fused, [prediction], [label])


def test_the_largest_error_of_some_samples(fused):
    label = np.ones((4, 5, 6, 7), dtype=np.uint8)
    prediction = label.copy()
    prediction[0, 2:4, 1:, 2:5] = 0
    prediction[2, 4, 5, 6] = prediction[2, 0, 0, 0] = 0
    prediction[3] = 0
    assert_largest_errors(fused, prediction, label, samples=[3, 0, 1, 2])


def spiral(side):
    """A corridor of one voxel that winds to the middle of every other slice, joined from slice to slice."""
    path, heading, place = np.zeros((side, side), dtype=bool), (0, 1), (0, 0)
    path[place] = True
    for length in [side - 1, *(n for n in range(side - 1, 0, -2) for _ in range(2))]:
        for _ in range(length):
            place = place[0] + heading[0], place[1] + heading[1]
            path[place] = True
        heading = heading[1], -heading[0]
    volume = np.zeros((side, side, side), dtype=bool)
    volume[::2] = path
    for gap in range(1, side - 1, 2):
        volume[gap][(0, 0) if gap % 4 == 1 else place] = True
    return volume


@pytest.mark.parametrize("turn", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_spiral_is_one_component(fused, turn):
    volume = spiral(9).transpose(turn)
    volume[0, 8, 8] = volume[8, 8, 0] = True
    label = np.zeros_like(volume, dtype=np.uint8)
    assert_largest_errors(fused, [volume, volume[::-1, :, ::-1], ~volume], [label, label, label])


def test_of_equal_components_and_voxels_the_first_is_taken(fused):
    checks = np.indices((6, 7, 8)).sum(0) % 2
    assert_largest_errors(fused, [checks, 1 - checks, np.ones_like(checks)], np.zeros((3, *checks.shape), dtype=int))


def assert_largest_errors(device, prediction, label, samples=None):
    prediction, label = (np.ascontiguousarray(np.stack(volumes).astype(np.uint8)) for volumes in (prediction, label))
    samples = list(range(len(label))) if samples is None else samples
    position, valid = largest_errors(
        torch.from_numpy(prediction).to(device), torch.from_numpy(label).to(device), 3, samples
    )
    for row, sample in enumerate(samples):
        click = largest_error_click(prediction[sample], label[sample])
        assert bool(valid[row]) == (click is not None)
        assert tuple(position[row].tolist()) == (click[0] if click else (0, 0, 0))


ANNOTATORS = [
    Annotator(),
    Annotator.perfect(),
    Annotator.steady(),
    Annotator(deepest=0.5, jitter=4, neighbour=1),
    Annotator(deepest=0, redundant=1),
    Annotator(deepest=0, centre=0, jitter=30),
]


@pytest.mark.parametrize("annotator", ANNOTATORS)
def test_a_simulated_click_carries_the_true_class_of_its_voxel(fused, annotator):
    prediction = torch.randint(0, 3, (3, 7, 9, 7), generator=seeded(1))
    label = prediction.to(torch.uint8)
    label[:, 2:7, 3:8, 2:6] = 1
    label[1] = prediction[1]
    sources = [seeded(seed) for seed in range(3)]
    clicks = simulate_clicks(prediction.to(fused), label.to(fused), 3, annotator, sources, clicks_per_sample=3).to(
        "cpu"
    )
    assert clicks.batch.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    wrong = prediction != label
    at = (clicks.batch, *clicks.position.T)
    assert torch.equal(clicks.label[clicks.valid], label[at].long()[clicks.valid])
    assert clicks.valid[clicks.batch != 1].all()
    if annotator == Annotator.steady():
        assert wrong[at][clicks.valid].all()
    if annotator.redundant == 1:
        assert clicks.valid.all()
    else:
        assert not clicks.valid[clicks.batch == 1].all()


def test_a_slip_out_of_a_region_is_as_far_as_its_rim(fused):
    label = torch.zeros(2, 11, 11, 11, dtype=torch.uint8)
    label[:, 3:8, 3:8, 3:8] = 1
    annotator = Annotator(deepest=0, jitter=0, neighbour=1, redundant=0)
    prediction = torch.zeros_like(label)
    clicks = simulate_clicks(prediction.to(fused), label.to(fused), 2, annotator, seeded(0), clicks_per_sample=6)
    beyond = (clicks.position.cpu() - 5).abs().amax(1)
    assert (beyond >= 3).any()
    assert beyond.max() <= 5


def test_classes_are_drawn_by_the_number_of_their_wrong_voxels(fused):
    label = torch.zeros(20, 6, 6, 6, dtype=torch.uint8)
    label[:, 0] = 1
    prediction = torch.full_like(label, 2)
    clicks = simulate_clicks(prediction.to(fused), label.to(fused), 3, Annotator.steady(), seeded(0), 3)
    assert clicks.valid.all()
    assert stats.binomtest(int((clicks.label == 1).sum()), 60, 1 / 6).pvalue > 1e-4


def operators(device):
    """Every operator, and arguments for it."""
    from deepedit.clicks import kernels
    from deepedit.clicks.kernels import components

    label = torch.randint(0, 3, (2, 4, 5, 6), generator=seeded(0), dtype=torch.uint8).to(device)
    prediction = torch.randint(0, 3, label.shape, generator=seeded(1)).to(device)
    rows, keys = torch.tensor([1, 0], device=device), torch.full((2, 3), kernels.NO_VOXEL, device=device)
    codes = kernels.error_codes(prediction, label, None, None, True)
    depth, parents = kernels.run_distance(codes, 6), components.run_starts(codes)
    largest, sizes = keys[:, :1].clone(), torch.zeros_like(parents)
    components.measure_components(parents, sizes, largest)
    squares = components.squared_distance(parents, largest, None, 2)
    clicks = kernels.clicks_at_keys(keys, label.shape[1:])
    each_sample = clicks[2].view(2, -1, 3), clicks[3].view(2, -1)
    return [
        (kernels.error_codes, (prediction, label, rows, rows, True)),
        (kernels.run_distance, (codes, 6)),
        (kernels.line_distance, (codes, depth, 1)),
        (kernels.draw, (codes, depth, rows, rows, keys, torch.zeros(2, 3, dtype=torch.int32, device=device))),
        (kernels.clicks_at_keys, (keys, (4, 5, 6))),
        (kernels.paint_guidance, (*clicks, (2, 3, 4, 5, 6), (2.0, 2.0, 2.0), (10, 10, 10), torch.float32)),
        (kernels.within_reach, (*each_sample, torch.ones(2, device=device), (4, 5, 6), 2.0)),
        (components.run_starts, (codes,)),
        (components.join_runs, (codes, parents)),
        (components.measure_components, (parents, torch.zeros_like(parents), torch.full_like(largest, -(2**63)))),
        (components.squared_distance, (parents, largest, squares, 1)),
        (components.find_deepest, (squares, torch.full_like(largest, -(2**63)))),
    ]


def test_operators_are_what_torch_is_told_of_them(fused):
    for operator, arguments in operators(fused):
        torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


def test_an_operator_is_one_launch(fused, monkeypatch):
    launches = []
    from triton.runtime.jit import KernelInterface

    take = KernelInterface.__getitem__
    monkeypatch.setattr(
        KernelInterface, "__getitem__", lambda kernel, grid: launches.append(kernel) or take(kernel, grid)
    )
    for operator, arguments in operators(fused):
        launches.clear()
        operator(*arguments)
        assert len(launches) == 1, operator
