import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.clicks import Annotator, largest_error_click, simulate_clicks
from deepedit.clicks.largest_error import error_components
from tests.clicks.oracles import code_maps, slow_error_component, slow_largest_error_click


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_batch(samples=3, classes=3, side=12):
    prediction = torch.randint(0, classes, (samples, side, side, side), generator=seeded(1))
    label = prediction.clone()
    label[:, 2:9, 3:8, 4:10] = 1
    label[:, :4, :3, :3] = 2
    return prediction, label


@settings(max_examples=200)
@given(prediction=code_maps(max_side=7, max_code=2), seed=st.integers(0, 2**32 - 1), same=st.floats(0, 1))
def test_the_evaluation_click_equals_flood_fill_and_all_pairs(prediction, seed, same):
    rng = np.random.default_rng(seed)
    label = np.where(rng.random(prediction.shape) < same, prediction, rng.integers(0, 3, prediction.shape))
    assert largest_error_click(prediction, label) == slow_largest_error_click(prediction, label)
    for used_up in ({1}, {2}, {1, 2}):
        assert largest_error_click(prediction, label, used_up) == slow_largest_error_click(prediction, label, used_up)


def test_the_evaluation_click_takes_tensors_and_finds_nothing_where_all_is_right():
    label = torch.ones(4, 5, 6, dtype=torch.uint8)
    assert largest_error_click(torch.zeros(4, 5, 6, dtype=torch.int64), label) == ((1, 1, 1), 1)
    assert largest_error_click(label, label) is None
    with pytest.raises(ValueError, match="differ in shape"):
        largest_error_click(label, label[1:])


def test_of_equal_components_and_voxels_the_first_is_taken():
    label = np.zeros((3, 3, 9), dtype=int)
    label[1, 1, 7:] = 1
    prediction = np.zeros_like(label)
    prediction[0, 0, :2] = 2
    assert largest_error_click(prediction, label) == ((0, 0, 0), 0)


@settings(max_examples=100)
@given(prediction=code_maps(max_side=7, max_code=2), seed=st.integers(0, 2**32 - 1), same=st.floats(0, 1))
def test_error_components_come_by_size_and_hold_every_wrong_voxel_once(prediction, seed, same):
    rng = np.random.default_rng(seed)
    label = np.where(rng.random(prediction.shape) < same, prediction, rng.integers(0, 3, prediction.shape))
    covered = np.zeros(label.shape, int)
    order = []
    for component in error_components(prediction, label):
        covered[component.box] += component.mask
        voxels = {tuple(map(int, voxel)) for voxel in np.argwhere(component.mask) + [s.start for s in component.box]}
        assert component.deepest_voxel in voxels
        assert voxels == slow_error_component(prediction, label, min(voxels))
        assert label[min(voxels)] == component.label
        order.append((-len(voxels), min(voxels)))
    assert order == sorted(order)
    assert (covered == (prediction != label)).all()


def test_the_perfect_annotator_clicks_as_in_evaluation():
    prediction, label = random_batch()
    clicks = simulate_clicks(prediction, label, 3, Annotator.perfect(), seeded(0))
    for sample in range(3):
        voxel, true_class = largest_error_click(prediction[sample], label[sample])
        assert tuple(clicks.position[sample].tolist()) == voxel
        assert clicks.label[sample] == true_class
    assert clicks.batch.tolist() == [0, 1, 2]
    assert clicks.valid.all()


@pytest.mark.parametrize(
    "annotator",
    [
        Annotator(),
        Annotator.perfect(),
        Annotator.steady(),
        Annotator(deepest=0, jitter=4, neighbour=1),
        Annotator(deepest=0, redundant=1),
        Annotator(deepest=0, centre=0, jitter=30),
    ],
)
def test_a_click_carries_the_true_class_of_its_voxel(annotator):
    prediction, label = random_batch()
    clicks = simulate_clicks(prediction, label, 3, annotator, seeded(0), clicks_per_sample=20)
    assert clicks.batch.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert torch.equal(clicks.label, label[(clicks.batch, *clicks.position.T)])
    assert clicks.valid.all()


def test_the_steady_annotator_only_clicks_on_errors():
    prediction, label = random_batch()
    clicks = simulate_clicks(prediction, label, 3, Annotator.steady(), seeded(0), clicks_per_sample=50)
    at = (clicks.batch, *clicks.position.T)
    assert (prediction[at] != label[at]).all()


def test_the_redundant_annotator_only_clicks_on_what_is_right_in_every_class():
    prediction, label = random_batch()
    annotator = Annotator(deepest=0, jitter=0, neighbour=0, redundant=1)
    clicks = simulate_clicks(prediction, label, 3, annotator, seeded(0), clicks_per_sample=100)
    at = (clicks.batch, *clicks.position.T)
    assert (prediction[at] == label[at]).all()
    assert torch.bincount(clicks.label).min() > 50


def test_classes_are_drawn_by_the_number_of_their_wrong_voxels():
    label = torch.zeros(1, 10, 10, 10, dtype=torch.int64)
    label[0, 0] = 1
    prediction = torch.full_like(label, 2)
    clicks = simulate_clicks(prediction, label, 3, Annotator.steady(), seeded(0), clicks_per_sample=400)
    assert 15 <= int((clicks.label == 1).sum()) <= 70


def test_where_all_is_right_there_is_no_click_unless_a_redundant_one():
    label = torch.ones(2, 5, 5, 5, dtype=torch.int64)
    assert not simulate_clicks(label, label, 2, Annotator.perfect(), seeded(0)).valid.any()
    none = simulate_clicks(label, label, 2, Annotator.steady(), seeded(0), clicks_per_sample=3)
    assert not none.valid.any()
    assert not none.position.any()
    assert simulate_clicks(label, label, 2, Annotator(deepest=0, redundant=1), seeded(0)).valid.all()


def test_a_slip_stays_within_its_jitter():
    label = torch.zeros(1, 21, 21, 21, dtype=torch.int64)
    label[0, 10, 10, 10] = 1
    annotator = Annotator(deepest=0, jitter=2, neighbour=0, redundant=0)
    clicks = simulate_clicks(torch.zeros_like(label), label, 2, annotator, seeded(0), clicks_per_sample=200)
    away = (clicks.position - 10).abs()
    assert away.max() == 2
    assert set(away.amax(1).tolist()) >= {1, 2}


def test_a_neighbours_click_leaves_a_thin_region():
    label = torch.zeros(1, 15, 15, 15, dtype=torch.int64)
    label[0, 7, 7, 7] = 1
    annotator = Annotator(deepest=0, jitter=0, neighbour=1, redundant=0)
    clicks = simulate_clicks(torch.zeros_like(label), label, 2, annotator, seeded(0), clicks_per_sample=30)
    assert ((clicks.position - 7).abs().sum(1) == 1).all()
    assert (clicks.label == 0).all()


def test_a_generator_a_sample_makes_the_batch_irrelevant():
    prediction, label = random_batch()
    together = simulate_clicks(prediction, label, 3, generator=[seeded(s) for s in range(3)], clicks_per_sample=8)
    for sample in range(3):
        alone = simulate_clicks(
            prediction[sample, None], label[sample, None], 3, generator=[seeded(sample)], clicks_per_sample=8
        )
        assert torch.equal(together.position[together.batch == sample], alone.position)
        assert torch.equal(together.label[together.batch == sample], alone.label)


def test_the_same_seed_gives_the_same_clicks_and_global_randomness_is_left_alone():
    prediction, label = random_batch()
    before = torch.random.get_rng_state()
    first = simulate_clicks(prediction, label, 3, generator=seeded(3), clicks_per_sample=5)
    second = simulate_clicks(prediction, label, 3, generator=seeded(3), clicks_per_sample=5)
    assert torch.equal(first.position, second.position)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("options", [{"deepest": 1.5}, {"neighbour": -0.1}, {"jitter": -1}, {"jitter": 0.5}])
def test_annotators_without_sense_are_refused(options):
    with pytest.raises(ValueError, match=r"is a share|whole number"):
        Annotator(**options)
