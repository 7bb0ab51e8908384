"""The conversation in a batch: who is clicked when, and what the network is shown."""

import dataclasses
import threading

import numpy as np
import pytest
import torch

from deepedit.clicks import Annotator
from deepedit.inference.history import Click
from deepedit.inference.scene import Scene
from deepedit.inference.segmentation import Segmentation
from deepedit.io.click_files import PointClick
from deepedit.plan import Labels, MergePolicy
from deepedit.ranks import Ranks
from deepedit.training.batch import PatchStream, RollingBatch
from deepedit.training.config import TrainingConfig
from deepedit.training.data import PreparedCase, middle
from deepedit.transforms.augmentation import Augmentation
from deepedit.transforms.corrupt import outline_of
from deepedit.transforms.geometry import network_grid

CPU = torch.device("cpu")


def steady(**changes):
    config = TrainingConfig(
        batch_size=3, annotator=Annotator.perfect(), edit_probability=0.0, redraw_probability=0.0, clicks_from=0.0
    )
    return dataclasses.replace(config, **changes)


def logits_of(classes, num_classes=3):
    return 10 * torch.nn.functional.one_hot(classes.long(), num_classes).movedim(-1, 1).float()


def test_an_automatic_sample_has_neither_clicks_nor_a_previous_segmentation(cases, plan):
    batch = RollingBatch(cases, plan, steady(), CPU)
    batch.fill(click_share=0.0)
    inputs = batch.inputs()
    assert inputs.shape == (3, 6, *plan.patch_size)
    assert inputs[:, 1:].abs().sum() == 0
    assert inputs[:, :1].abs().sum() > 0
    assert batch.nearness().sum() == 0


def test_a_click_answers_an_error_and_the_prediction_comes_back(cases, plan):
    batch = RollingBatch(cases, plan, steady(), CPU)
    batch.fill(click_share=1.0)
    wrong = torch.zeros_like(batch.label)
    batch.answer(logits_of(wrong))
    assert torch.equal(batch.previous, wrong)
    assert batch.used == [1, 1, 1]
    for sample in range(3):
        i, j, k = batch.position[sample, 0].tolist()
        assert batch.label[sample, i, j, k] == batch.wanted[sample, 0] != 0
    guidance = batch.inputs()[:, 1:4]
    assert guidance.amax((2, 3, 4)).max(1).values.tolist() == [1, 1, 1]
    assert guidance[:, 0].sum() == 0
    assert (batch.nearness().amax((1, 2, 3)) == 1).all()


def test_clicks_gather_until_the_sample_leaves_and_a_new_one_starts_clean(cases, plan):
    batch = RollingBatch(cases, plan, steady(max_clicks=3), CPU)
    batch.fill(click_share=1.0)
    batch.passes_left = [4, 4, 4]
    for clicks in (1, 2, 3):
        batch.answer(logits_of(torch.zeros_like(batch.label)))
        assert batch.used == [clicks] * 3
        assert batch.begun == [1, 1, 1]
    batch.answer(logits_of(torch.zeros_like(batch.label)))
    batch.fill(click_share=1.0)
    assert batch.begun == [2, 2, 2]
    assert batch.used == [0, 0, 0]
    assert batch.inputs()[:, 1:].sum() == 0


@pytest.mark.parametrize("policy", [MergePolicy(), MergePolicy.plain()])
@pytest.mark.parametrize("edits", [0.0, 1.0])
def test_the_annotator_sees_what_a_session_shows_with_the_same_clicks(cases, plan, model, policy, edits):
    plan = model.plan = dataclasses.replace(plan, merge=policy)
    model.network.eval()
    batch = RollingBatch(cases, plan, steady(edit_probability=edits), CPU)
    batch.fill(click_share=1.0)
    batch.passes_left = [5] * 3
    grid = network_grid(plan.patch_size, np.eye(4), plan.spacing)
    initial = [batch.initial[sample].numpy() if edits else None for sample in range(3)]
    scenes = [
        Scene(model, batch.image[sample], grid, plan.patch_size, initial[sample], amp="off") for sample in range(3)
    ]
    sessions = [Segmentation.begin(scene) for scene in scenes]
    for _ in range(4):
        clicks = [[click_of(batch, sample, number) for number in range(batch.used[sample])] for sample in range(3)]
        with torch.inference_mode():
            batch.answer(model.network(batch.inputs()))
        for sample, session in enumerate(sessions):
            if clicks[sample]:
                session.answer(clicks[sample][-1:], clicks[sample][:-1])
            assert torch.equal(batch.previous[sample], session.classes)


def click_of(batch, sample, number):
    """A click of a batch as one of a session on the same grid."""
    voxel, label = tuple(batch.position[sample, number].tolist()), int(batch.wanted[sample, number])
    return Click(PointClick(f"{number}", voxel, "voxel"), label, voxel, tuple(map(float, voxel)), voxel)


def test_an_answer_that_is_right_gets_no_click(cases, plan):
    batch = RollingBatch(cases, plan, steady(), CPU)
    batch.fill(click_share=1.0)
    batch.answer(logits_of(batch.label))
    assert not batch.valid.any()


def test_a_sample_that_edits_starts_from_a_wrong_segmentation_and_one_click(cases, plan):
    batch = RollingBatch(cases, plan, steady(edit_probability=1.0), CPU)
    batch.fill(click_share=1.0)
    assert batch.used == [1, 1, 1]
    assert (batch.previous > 0).flatten(1).any(1).all()


def test_the_truth_of_another_hand_is_told_by_the_first_click_and_then_stays(cases, plan):
    batch = RollingBatch(cases, plan, steady(batch_size=8, redraw_probability=1.0), CPU)
    own = RollingBatch(cases, plan, steady(batch_size=8), CPU)
    for each in (batch, own):
        each.fill(click_share=1.0)
        each.passes_left = [4] * 8
    assert torch.equal(batch.label, own.label)
    batch.answer(logits_of(batch.label))
    redrawn = batch.label.clone()
    assert (redrawn != own.label).any()
    for sample in range(8):
        if batch.valid[sample, 0]:
            i, j, k = batch.position[sample, 0].tolist()
            assert redrawn[sample, i, j, k] == batch.wanted[sample, 0] != own.label[sample, i, j, k]
    batch.answer(logits_of(own.label))
    assert torch.equal(batch.label, redrawn)


def test_what_a_sample_meets_does_not_depend_on_its_company(cases, plan):
    alone = RollingBatch(cases, plan, steady(batch_size=1), CPU)
    together = RollingBatch(cases, plan, steady(batch_size=3), CPU)
    alone.fill(0.5)
    together.fill(0.5)
    assert torch.equal(alone.image[0], together.image[0])
    assert alone.passes_left[0] == together.passes_left[0]


def test_samples_of_another_size_are_given_up_for_new_ones(cases, plan):
    batch = RollingBatch(cases, plan, steady(), CPU)
    small = tuple(side // 2 for side in plan.patch_size)
    for sides, begun in ((small, 1), (small, 1), (plan.patch_size, 2), (plan.patch_size, 2)):
        batch.fill(1.0, sides)
        batch.passes_left = [4, 4, 4]
        assert batch.inputs().shape == (3, 6, *sides)
        assert batch.begun == [begun] * 3
        batch.answer(logits_of(torch.zeros_like(batch.label)))
    assert batch.used == [2, 2, 2]


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_share_the_slots_of_one_batch(cases, plan, size):
    config = steady(batch_size=4, edit_probability=0.3, redraw_probability=0.5)

    def passes(batch):
        for _ in range(4):
            batch.fill(0.6)
            batch.answer(logits_of(torch.roll(batch.label, 2, 1)))
        batch.fill(0.6)
        return dict(zip(batch.slots, batch.inputs(), strict=True)), batch

    whole, batch = passes(RollingBatch(cases, plan, config, CPU))
    parts = [passes(RollingBatch(cases, plan, config, CPU, ranks=Ranks(rank, size))) for rank in range(size)]
    joined = {slot: inputs for part, _ in parts for slot, inputs in part.items()}
    assert sorted(joined) == [0, 1, 2, 3]
    assert all(torch.equal(joined[slot], whole[slot]) for slot in whole)
    alone = RollingBatch(cases, plan, config, CPU)
    alone.restore({slot: entry for _, part in parts for slot, entry in part.state().items()})
    assert torch.equal(alone.inputs(), batch.inputs())


@pytest.mark.parametrize("steps", [1, 4])
def test_a_restored_batch_goes_on_as_if_nothing_had_happened(cases, plan, steps):
    config = steady(edit_probability=0.3, redraw_probability=0.5, annotator=Annotator())
    batch = RollingBatch(cases, plan, config, CPU)

    def go_on(batch, count):
        for _ in range(count):
            batch.fill(0.6)
            batch.answer(logits_of(torch.roll(batch.label, 2, 1)))

    go_on(batch, steps)
    copy = RollingBatch(cases, plan, config, CPU)
    copy.restore(batch.state())
    for each in (batch, copy):
        go_on(each, 5)
        each.fill(0.6)
    assert torch.equal(batch.inputs(), copy.inputs())
    assert torch.equal(batch.label, copy.label)


def half_known(cases):
    """The cases with half of their voxels to ignore, whose class index is 3."""
    labels = [case.label.copy() for case in cases]
    for label in labels:
        label[:, :7] = 3
    return [dataclasses.replace(case, label=label) for case, label in zip(cases, labels, strict=True)]


def test_no_click_falls_on_what_is_to_be_ignored(cases, plan):
    plan = dataclasses.replace(plan, ignore=9)
    careless = Annotator(deepest=0.3, centre=0.5, jitter=2, neighbour=0.3, redundant=0.4)
    batch = RollingBatch(half_known(cases), plan, steady(annotator=careless, edit_probability=0.5), CPU)
    generator = torch.Generator().manual_seed(0)
    clicked = lost = 0
    for _ in range(40):
        batch.fill(click_share=1.0)
        assert (batch.label == 3).any()
        assert batch.previous.max() < 3
        for sample in range(3):
            for click in range(batch.used[sample]):
                place = (sample, *batch.position[sample, click].tolist())
                clicked += int(batch.valid[sample, click])
                lost += int(not batch.valid[sample, click])
                assert not batch.valid[sample, click] or batch.label[place] == batch.wanted[sample, click] < 3
        assert torch.isfinite(batch.inputs()).all()
        batch.answer(logits_of(torch.randint(0, 3, batch.label.shape, generator=generator)))
    assert clicked > lost > 0


def test_what_is_to_be_ignored_is_no_error(cases, plan):
    batch = RollingBatch(half_known(cases), dataclasses.replace(plan, ignore=9), steady(), CPU)
    batch.fill(click_share=1.0)
    right = batch.label.clone()
    right[right == 3] = 1
    batch.answer(logits_of(right))
    assert not batch.valid.any()


def test_another_hand_draws_only_what_is_known(cases, plan):
    config = steady(batch_size=16, redraw_probability=1.0)
    batch = RollingBatch(half_known(cases), dataclasses.replace(plan, ignore=9), config, CPU)
    batch.fill(click_share=1.0)
    batch.passes_left = [4] * 16
    before = batch.label.clone()
    batch.answer(logits_of(torch.zeros_like(before)))
    assert torch.equal(batch.label == 3, before == 3)
    assert not torch.equal(batch.label, before)


def stream_of(cases, names, **augmentation):
    config = steady(batch_size=1, augmentation=Augmentation(**augmentation))
    stream = PatchStream(cases, Labels(names, (1, 2)), config, [0], 1)
    stream.begin([0], (16, 8, 12))
    return [stream.take(0) for _ in range(30)]


def test_memory_is_pinned_by_the_thread_that_trains(cases, monkeypatch):
    pinned = []

    def pin(tensor):
        pinned.append((threading.current_thread(), tensor.shape))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    stream = PatchStream(cases, Labels(("one", "two"), (1, 2)), steady(batch_size=1), [0], 2, pinned=True)
    stream.begin([0], (16, 8, 12))
    pieces = [stream.take(0)[1:3] for _ in range(4)]
    assert pinned == [(threading.current_thread(), each.shape) for piece in pieces for each in piece]


def symmetric_cases(shift=0):
    """Two labels, each on its side, that are as far from the middle as in the mirror image, but for `shift`."""
    cases = []
    for number in range(8):
        label = np.zeros((20, 14, 16), np.uint8)
        wander = number % 4
        label[1 + wander : 5 + wander, 4:9, 5:10] = 1
        label[15 - wander + shift : 19 - wander + shift, 4:9, 5:10] = 2
        image = label[None].astype(np.float16)
        cases.append(
            PreparedCase(str(number), image, label, np.column_stack((label[label > 0], np.argwhere(label > 0))))
        )
    return cases


def test_pieces_are_mirrored_with_the_labels_of_the_two_sides_exchanged():
    plain = stream_of(symmetric_cases(), ("left", "right"), mirror_probability=0.0)
    some = stream_of(symmetric_cases(), ("left", "right"), mirror_probability=0.5)
    exchanged = torch.tensor([0, 2, 1], dtype=torch.uint8)
    mirrored = 0
    for (_, image, label, _), (_, other_image, other_label, outline) in zip(plain, some, strict=True):
        if not torch.equal(image, other_image):
            mirrored += 1
            image, label = image.flip(1), exchanged[label.flip(0).long()]
        assert torch.equal(other_image, image)
        assert torch.equal(other_label, label)
        assert outline == outline_of(middle(label, (16, 8, 12)), 3)
    assert 5 <= mirrored <= 25


@pytest.mark.parametrize(("names", "shift"), [(("one", "two"), 0), (("left", "right"), -9)])
def test_pieces_are_not_mirrored_where_the_cases_or_the_names_forbid_it(names, shift):
    cases = symmetric_cases(shift)
    plain, some = (stream_of(cases, names, mirror_probability=share) for share in (0.0, 1.0))
    assert all(torch.equal(one[1], other[1]) for one, other in zip(plain, some, strict=True))
