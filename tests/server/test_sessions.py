"""Whatever is requested in whatever order, an answer is that of a session that gets its clicks one by one."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.errors import Cancelled, ClickError, FileError, ImageTooLargeError, ModelError
from deepedit.inference import timeline
from deepedit.inference.session import InteractiveSession
from deepedit.io.nifti import write_label
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Labels
from deepedit.server import images
from deepedit.server.clicks import Orders
from deepedit.server.placing import placed_clicks
from deepedit.server.sessions import Question, Sessions
from deepedit.server.steps import one_by_one
from deepedit.volume import Volume
from tests.inference.networks import random_model
from tests.server.two_images import GRIDS, LABELS, LARGE, NAMES


@pytest.fixture
def passes(model):
    """Grows by one with each pass of the network."""
    made = []
    hook = model.network.register_forward_hook(lambda *_: made.append(1))
    yield made
    hook.remove()


def test_all_images_share_what_was_made_of_the_network(model, studies, monkeypatch):
    made = []

    def converted(network, *arguments):
        made.append(network)
        return network

    monkeypatch.setattr("deepedit.inference.opened.at_precision", converted)
    sessions = Sessions(model, LARGE)
    for image in studies:
        sessions.answer(Question(images=(image,)))
    assert len(made) == 1


def test_the_scores_of_images_cost_no_session(model, studies, monkeypatch):
    sessions = Sessions(model, LARGE)
    sessions.answer(Question(images=(studies[0],)))

    def refuse(grid, model):
        raise ImageTooLargeError("too large")

    monkeypatch.setattr("deepedit.inference.opened.refuse_too_large", refuse)
    with pytest.raises(ImageTooLargeError):
        sessions.uncertainty((studies[1],))
    assert len(list(sessions._cached)) == 1


@pytest.mark.parametrize("fits", [True, False])
def test_an_image_for_which_there_is_no_memory_gets_that_of_other_sessions(model, studies, monkeypatch, fits):
    sessions = Sessions(model, LARGE)
    sessions.answer(Question(images=(studies[0],)))
    cached = sessions._cached

    def refuse(grid, model):
        if list(cached) or not fits:
            raise ImageTooLargeError("too large")

    monkeypatch.setattr("deepedit.inference.opened.refuse_too_large", refuse)
    if fits:
        assert sessions.answer(Question(images=(studies[1],))).ranks is not None
        assert len(list(cached)) == 1
    else:
        with pytest.raises(ImageTooLargeError):
            sessions.answer(Question(images=(studies[1],)))


def sent(order):
    clicks = {name: [] for name in NAMES}
    for name, voxel in order:
        clicks[name].append(voxel)
    return clicks


def fresh_answer(model, question, order):
    """Class indices of a session of its own."""
    session = InteractiveSession(model, amp="auto", tta=question.tta)
    session.set_image(question.images[0])
    if question.start:
        session.set_segmentation(question.start)
    session.predict()
    for label, voxel in order:
        session.add_click(voxel, NAMES[label])
    return model.plan.labels.to_classes(session.predict())


@given(
    seed=st.integers(0, 2**32),
    requests=st.integers(2, 9),
    memory=st.sampled_from([0, 100_000, 250_000, LARGE]),
    kept=st.sampled_from([1, 2**28]),
)
@settings(max_examples=15, deadline=None)
def test_answers_are_those_of_a_session_of_its_own(model, studies, seed, requests, memory, kept):
    rng = np.random.default_rng(seed)
    said = []
    sessions, orders = Sessions(model, memory, said.append), Orders()
    users = [[], [], []]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline, "KEPT_BYTES", kept)
        for _ in range(requests):
            user = rng.integers(3)
            image = studies[user // 2]
            shape = GRIDS[("one window", "several windows")[user // 2]][0]
            clicks = users[user]
            for _ in range(rng.integers(3) * rng.integers(2)):
                if clicks:
                    del clicks[rng.integers(len(clicks))]
            for _ in range(rng.integers(3)):
                voxel = clicks[-1][1] if clicks and rng.integers(4) == 0 else tuple(rng.integers(0, shape).tolist())
                clicks.append((NAMES[rng.integers(4)], voxel))
            start = studies[2] if user == 0 and rng.integers(2) else None
            newest = NAMES[rng.integers(4)] if rng.integers(2) else None
            question = Question((image,), sent(clicks), newest, start, bool(rng.integers(5) == 0))
            if rng.integers(4) == 0:
                left = iter(range(int(rng.integers(3))))
                with suppress(Cancelled):
                    sessions.answer(question, cancelled=lambda left=left: next(left, None) is None)
            answer = sessions.answer(question)
            placed, _ = placed_clicks(question.clicks, LABELS, shape)
            index = None if newest is None else LABELS.index(newest)
            order = orders.order((image, question.start, question.tta), placed, index)
            assert_array_equal(answer.ranks, fresh_answer(model, question, order))
            assert answer.ranks.flags.f_contiguous
            assert answer.ranks.dtype == np.uint8
            assert sessions._cached.held(list(sessions._cached)) <= memory
            for each in sessions._cached:
                assert one_by_one([(LABELS.index(c.label), c.position) for c in each.session.clicks]) == tuple(
                    each.order
                )
                assert each.memory == each.session.memory
    assert said or memory
    assert not said or memory < LARGE


def test_what_a_session_has_already_is_not_worked_out_again(model, studies, passes):
    sessions = Sessions(model, LARGE)
    clicks = []

    def passes_of(*changed):
        clicks[:] = changed
        before = len(passes)
        sessions.answer(Question(studies[:1], sent(clicks), clicks[-1][0] if clicks else None))
        return len(passes) - before

    one, two, three = ("a", (1, 1, 1)), ("b", (5, 5, 5)), ("a", (9, 9, 9))
    assert passes_of() == 1
    assert passes_of(one) == 1
    assert passes_of(one) == 0
    assert passes_of(one, two) == 1
    assert passes_of(one, two, three) == 1
    assert passes_of(one, two) == 0
    assert passes_of(one, three) == 1
    assert passes_of() == 0
    # Of another user, whose session shares the automatic result.
    assert passes_of(("c", (3, 3, 3))) == 1
    assert passes_of(one, three) == 0
    assert passes_of(("c", (3, 3, 3)), ("c", (7, 3, 3))) == 1


def test_two_users_on_one_image_keep_a_session_each(model, studies, passes):
    sessions = Sessions(model, LARGE)
    clicks = {user: [("a", (1, 1, 1))] for user in range(2)}  # they begin alike
    for step in range(2, 8):
        for user, own in clicks.items():
            own.append(("b", (step, 2 + user, 3)))
            before = len(passes)
            sessions.answer(Question(studies[:1], sent(own), "b"))
            made = len(passes) - before
            assert made == 1 or step < 5
    tensors = {id(each.session._timeline.scene.image) for each in sessions._cached}
    assert len(tensors) == 1


def test_files_are_read_once_for_as_long_as_they_stay_the_same(model, studies, tmp_path, monkeypatch):
    read, read_case = [], images.read_case
    monkeypatch.setattr(images, "read_case", lambda *given: read.append(1) or read_case(*given))
    sessions = Sessions(model, LARGE)
    image = tmp_path / "x.nii.gz"
    image.write_bytes(studies[0].read_bytes())
    for _ in range(2):
        sessions.answer(Question((image,)))
    assert len(read) == 1
    # The same content uploaded again is known by its digest.
    again = tmp_path / "y.nii.gz"
    again.write_bytes(image.read_bytes())
    sessions.answer(Question((again,)))
    assert len(sessions._cached) == 1
    image.write_bytes(studies[1].read_bytes())
    assert sessions.answer(Question((image,))).ranks.shape == GRIDS["several windows"][0]


def test_clicks_just_outside_are_moved_in_and_others_refused(model, studies):
    sessions = Sessions(model, LARGE)
    answer = sessions.answer(Question(studies[:1], {"a": [(-1, 3, 12)], "b": [[4.0, 4.4, 3.6]]}))
    assert len(answer.notes) == 1
    assert "(-1, 3, 12)" in answer.notes[0]
    assert next(iter(sessions._cached)).order == list(one_by_one([(1, (0, 3, 11)), (2, (4, 4, 4))]))
    for hostile in ([(-2, 0, 0)], [(0, 0, 13)], [(1, 2)], [(1, 2, None)], ["abc"], [(0, float("nan"), 0)], 3, "abc",
                    [(1e300, 0, 0)], [(10**400, 0, 0)], [{}], [None], [[[1], [2], [3]]], {"x": 1}):  # fmt: skip
        with pytest.raises(ClickError):
            sessions.answer(Question(studies[:1], {"a": hostile}))
    with pytest.raises(ClickError, match="did you mean"):
        sessions.answer(Question(studies[:1], {"backgroun": []}))
    with pytest.raises(ClickError, match="tumor"):
        sessions.answer(Question(studies[:1], {}, newest="tumor"))
    with pytest.raises(ClickError, match="at most"):
        sessions.answer(Question(studies[:1], {"a": [(1, 1, 1)] * 3000}))
    # What was refused has left nothing behind.
    assert next(iter(sessions._cached)).order == list(one_by_one([(1, (0, 3, 11)), (2, (4, 4, 4))]))


def test_files_that_do_not_fit_are_refused_in_a_line(model, studies, tmp_path):
    sessions = Sessions(model, LARGE)
    with pytest.raises(FileError, match="no such file"):
        sessions.answer(Question((tmp_path / "none.nii.gz",)))
    with pytest.raises(FileError, match="2 channel"):
        sessions.answer(Question((studies[0], studies[0])))
    affine = np.eye(4)
    affine[:3, 3] = 1000
    far = Volume(np.full((4, 4, 4), 2, np.uint8), affine)
    write_label(tmp_path / "far.nii.gz", far.data, far)
    with pytest.raises(FileError, match="lies beside its image"):
        sessions.answer(Question(studies[:1], start=tmp_path / "far.nii.gz"))
    assert not sessions._cached


def test_several_channels_come_in_several_files(studies):
    model = random_model(channels=2, labels=LABELS, patch=(12, 12, 12))
    answer = Sessions(model, LARGE).answer(Question((studies[0], studies[0]), {"a": [(2, 2, 2)]}))
    assert answer.ranks[2, 2, 2] == 1


def test_models_without_a_previous_segmentation_are_served_but_correct_none(studies):
    trained = random_model(labels=LABELS, patch=(12, 12, 12))
    plan = replace(trained.plan, previous=False)
    network = build_network(input_channels(1, 4, previous=False), 4, trained.network.config, seed=1)
    model = Model(network.eval(), plan)
    sessions = Sessions(model, LARGE)
    assert sessions.answer(Question(studies[:1], {"a": [(2, 2, 2)]})).ranks[2, 2, 2] == 1
    with pytest.raises(ModelError, match="takes no previous segmentation"):
        sessions.answer(Question(studies[:1], start=studies[2]))


def test_more_labels_than_a_byte_holds_are_refused():
    labels = Labels(tuple(f"label {number}" for number in range(256)), tuple(range(1, 257)))
    with pytest.raises(ModelError, match=r"256 labels.*255"):
        Sessions(random_model(labels=labels, patch=(8, 8, 8)), LARGE)


def test_another_model_answers_from_the_next_request_on(model, studies):
    sessions = Sessions(model, LARGE)
    question = Question(studies[:1], sent([("a", (1, 1, 1)), ("b", (5, 5, 5))]))
    before = sessions.answer(question).ranks
    other = random_model(labels=LABELS, patch=(12, 12, 12))
    for weights in other.network.parameters():
        weights.data.mul_(-0.5)
    sessions.replace_model(other)
    after = sessions.answer(question).ranks
    assert_array_equal(after, fresh_answer(other, question, [(1, (1, 1, 1)), (2, (5, 5, 5))]))
    assert (before != after).any()
    sessions.replace_model(model)
    assert_array_equal(sessions.answer(question).ranks, before)


@pytest.mark.parametrize("image", [0, 1])
def test_uncertainty_is_that_of_the_automatic_result_and_keeps_no_session(model, studies, passes, image):
    sessions = Sessions(model, LARGE)
    session = InteractiveSession(model)
    session.set_image(studies[image])
    expected = session.uncertainty().mean()
    assert sessions.uncertainty((studies[image],)) == pytest.approx(expected)
    assert not sessions._cached
    sessions.answer(Question((studies[image],), {"a": [(1, 1, 1)]}))
    passes.clear()
    assert sessions.uncertainty((studies[image],)) == pytest.approx(expected)
    assert not passes
    sessions.forget()
    with pytest.raises(Cancelled):
        sessions.uncertainty((studies[image],), cancelled=lambda: True)


def test_progress_counts_all_windows_of_a_request(model, studies):
    sessions, seen = Sessions(model, LARGE), []
    clicks = [("a", (1, 1, 1)), ("b", (5, 25, 5)), ("c", (3, 3, 3))]
    sessions.answer(Question(studies[1:2], sent(clicks)), on_progress=lambda *counts: seen.append(counts))
    done, needed = zip(*seen, strict=True)
    assert done == tuple(sorted(done))
    assert set(needed) == {done[-1]}


def test_a_request_that_was_cancelled_goes_on_where_it_was(model, studies, passes):
    sessions = Sessions(model, LARGE)
    clicks = sent([("a", (step, 1, 1)) for step in range(8)])
    with pytest.raises(Cancelled):
        sessions.answer(Question(studies[:1], clicks), cancelled=lambda: len(passes) >= 5)
    sessions.answer(Question(studies[:1], clicks))
    assert len(passes) == 9
