"""The order of the cases, the size of patches, the share of passes with clicks, the learning rate."""

from itertools import islice

import pytest
import torch

from deepedit.plan import Labels, Plan
from deepedit.training.config import TrainingConfig
from deepedit.training.schedule import (
    Visit,
    click_share,
    click_weight,
    draw_passes,
    generator_for,
    learning_rate,
    patch_sides,
    visits,
)


def test_every_epoch_visits_every_case_once_in_an_order_of_its_own():
    orders = [[visit.case for visit in islice(visits(9, seed=3), 9 * epoch, 9 * epoch + 9)] for epoch in range(3)]
    assert all(sorted(order) == list(range(9)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert [visit.epoch for visit in islice(visits(9, seed=3), 27)] == [0] * 9 + [1] * 9 + [2] * 9


def test_generators_depend_on_seed_epoch_case_and_use():
    def first(*key):
        return torch.rand((), generator=generator_for(*key)).item()

    assert first(0, 1, 2, "") == first(0, 1, 2, "")
    assert len({first(0, 1, 2, ""), first(1, 1, 2, ""), first(0, 2, 1, ""), first(0, 1, 2, "cut")}) == 4
    same = Visit(1, 2).generator(0), Visit(1, 2).generator(0)
    assert torch.rand((), generator=same[0]) == torch.rand((), generator=same[1])


def planned(patch_size, **options):
    return Plan(Labels(("one",), (1,)), (1.0, 1.0, 1.0), patch_size, **options)


def test_patches_are_small_at_first_and_always_fit_the_network():
    config, plan = TrainingConfig(small_patches=0.7), planned((40, 56, 128))
    found = [patch_sides(progress, plan, (8, 8, 16), config) for progress in (0, 0.69, 0.7, 1)]
    assert found == [(32, 48, 96), (32, 48, 96), (40, 56, 128), (40, 56, 128)]
    assert patch_sides(0, planned((16, 12, 8)), (8, 4, 8), config) == (16, 12, 8)
    assert patch_sides(0, plan, (8, 8, 16), TrainingConfig(small_patches=0.0)) == (40, 56, 128)
    fixed = planned((128, 128, 128), fixed_shape=(128, 128, 128))
    assert patch_sides(0, fixed, (8, 8, 8), config) == (128, 128, 128)


def test_clicks_begin_after_the_automatic_part_and_rise_to_their_share():
    config = TrainingConfig(click_probability=0.8, clicks_from=0.1)
    shares = [click_share(progress, config) for progress in (0, 0.05, 0.1, 0.25, 0.4, 0.9, 1)]
    assert shares == pytest.approx([0, 0, 0, 0.4, 0.8, 0.8, 0.8])
    assert click_share(0, TrainingConfig(click_probability=0.8, clicks_from=0)) == 0.8
    late = [click_share(progress, TrainingConfig(click_probability=0.8, clicks_from=0.9)) for progress in (0.8, 0.95)]
    assert late == pytest.approx([0, 0.8])


def test_what_is_around_the_clicks_counts_more_late():
    config = TrainingConfig(click_loss=4.0)
    found = [click_weight(progress, config) for progress in (0, 0.4, 0.5, 0.6, 1)]
    assert found == pytest.approx([2, 2, 3, 4, 4])


@pytest.mark.parametrize("edits", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.75])
def test_the_share_of_passes_with_clicks_is_what_was_asked_for(share, edits):
    config = TrainingConfig(max_clicks=10, edit_probability=edits)
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_passes(generator, share, config) for _ in range(20000)]
    automatic = sum(not edits for _, edits in drawn)
    passes = sum(count for count, _ in drawn)
    assert 1 - automatic / passes == pytest.approx(share, abs=0.01)


def test_every_number_of_clicks_is_as_likely():
    config = TrainingConfig(max_clicks=4, edit_probability=0)
    generator = torch.Generator().manual_seed(0)
    passes = [draw_passes(generator, 0.5, config)[0] for _ in range(20000)]
    counts = [passes.count(clicks + 1) for clicks in range(1, 5)]
    assert sum(counts) + passes.count(1) == len(passes)
    assert max(counts) < 1.15 * min(counts)


def test_as_many_samples_as_can_be_are_clicked_where_the_share_is_out_of_reach():
    config = TrainingConfig(max_clicks=3, edit_probability=0.5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(1000):
        passes, edits = draw_passes(generator, 1.0, config)
        assert passes in ((1, 2, 3) if edits else (2, 3, 4))


def test_without_clicks_every_pass_is_automatic():
    generator = torch.Generator().manual_seed(0)
    for config in (TrainingConfig(click_probability=0), TrainingConfig(max_clicks=0)):
        assert draw_passes(generator, config.click_probability, config) == (1, False)


def test_the_learning_rate_rises_and_falls_to_zero():
    config = TrainingConfig(learning_rate=1e-2, warmup=0.1)
    rates = [learning_rate(progress / 100, config) for progress in range(101)]
    assert max(rates) <= 1e-2
    assert rates.index(max(rates)) in (9, 10, 11)
    assert rates[0] > 0
    assert rates[100] == 0
