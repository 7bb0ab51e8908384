"""The next case: by every strategy, for several people, and in the background."""

import json
import math
import os
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.errors import Cancelled, DeepEditError
from deepedit.server.errors import NotFound
from deepedit.server.sampling import HANDED_OUT_SECONDS, Sampler
from deepedit.server.scores import Scores
from deepedit.server.studies import Studies
from tests.server.studies_folder import LABELS, image, label_map, segments, studies


class Clock:
    def __init__(self):
        self.now = 1e9

    def __call__(self):
        return self.now


class Background:
    """Keeps what is to be done until it is run; it may be stopped after some questions whether to stop."""

    def __init__(self):
        self.waiting = []

    def __call__(self, work):
        self.waiting.append(work)

    def run(self, stop_after=math.inf):
        asked = [0]

        def is_cancelled():
            asked[0] += 1
            return asked[0] > stop_after

        while self.waiting and asked[0] <= stop_after:
            work = self.waiting.pop(0)
            try:
                work(is_cancelled)
            except Cancelled:
                self.waiting.insert(0, work)


class Certainty:
    """Scores images by their names, and counts how often it is asked."""

    def __init__(self, **scores):
        self.scores, self.asked = scores, []

    def __call__(self, images, is_cancelled):
        name = images[0].name.split(".")[0]
        self.asked.append(name)
        if is_cancelled():
            raise Cancelled("stopped")
        score = self.scores[name]
        if isinstance(score, Exception):
            raise score
        return score


def sampler(found, seed=0, **options):
    return Sampler(found, np.random.default_rng(seed), **options)


def handed_out(sample, count, strategy="first"):
    return [sample.next(strategy, "user-xyz").get("id") for _ in range(count)]


def test_the_answer_is_as_slicer_reads_it(tmp_path):
    found = studies(tmp_path, "a.nii.gz", "b.nii.gz")
    os.utime(tmp_path / "a.nii.gz", (1643905192.5, 1643905192.5))
    assert sampler(found, clock=Clock()).next("first", "user-xyz") == {
        "id": "a",
        "name": "a.nii.gz",
        "path": str(tmp_path / "a.nii.gz"),
        "ts": 1643905192,
        "weight": 1,
        "checksum": found.checksum("a"),
        "strategy": {"first": {"ts": 10**9, "client_id": "user-xyz"}},
    }


def test_what_a_client_calls_itself_can_be_sent_back(tmp_path):
    found = studies(tmp_path, "a.nii.gz")
    json.dumps(sampler(found).next("first", "\ud800" * 10**5), ensure_ascii=False).encode()


def test_of_several_channels_the_first_is_loaded_and_that_is_said(tmp_path):
    found = studies(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz")
    answer = sampler(found).next("first", "")
    assert (answer["id"], answer["name"]) == ("a", "a_0000.nii.gz")
    assert answer["note"].startswith("the first of 2 channels")


def test_cases_with_a_final_label_are_not_asked_for(tmp_path):
    found = studies(tmp_path, "imagesTr/a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz")
    label_map(tmp_path / "labelsTr" / "a.nii.gz", 3)
    label_map(tmp_path / "labels" / "final" / "b.nii.gz", 3)
    label_map(tmp_path / "labels" / "original" / "c.nii.gz", 3)
    assert sorted(handed_out(sampler(found), 2, "random")) == ["c", "d"]


def test_nothing_is_left(tmp_path):
    found = studies(tmp_path, "a.nii.gz")
    label_map(tmp_path / "labels" / "final" / "a.nii.gz", 3)
    assert sampler(found).next("random", "") == {}


def test_an_unknown_strategy_is_not_found(tmp_path):
    found = studies(tmp_path, "a.nii.gz")
    for name in ("uncertainty", "", "last\n"):
        with pytest.raises(NotFound, match=r"choose one of first, random$"):
            sampler(found).next(name, "")
    assert set(sampler(found).strategies()) == {"first", "random"}


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 5),
    asked=st.integers(0, 12),
    strategy=st.sampled_from(["first", "random"]),
    seed=st.integers(0, 9),
)
def test_nobody_gets_what_another_has_while_others_are_left(tmp_path_factory, count, asked, strategy, seed):
    found = studies(tmp_path_factory.mktemp("s"), *(f"{number}.nii.gz" for number in range(count)))
    ids = handed_out(sampler(found, seed), asked, strategy)
    for start in range(0, asked, count):
        assert len(set(ids[start : start + count])) == len(ids[start : start + count])
    # Then whoever was given a case longest ago has most likely left it.
    assert ids[count:] == ids[: max(asked - count, 0)]


def test_at_once_everyone_gets_another_case(tmp_path):
    found = studies(tmp_path, *(f"{number}.nii.gz" for number in range(8)))
    sample, ids = sampler(found), []
    threads = [threading.Thread(target=lambda: ids.append(sample.next("random", "")["id"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 8


def test_after_an_hour_a_case_is_free_again(tmp_path):
    clock = Clock()
    sample = sampler(studies(tmp_path, "a.nii.gz", "b.nii.gz"), clock=clock)
    assert handed_out(sample, 1) == ["a"]
    clock.now += HANDED_OUT_SECONDS - 1
    assert handed_out(sample, 1) == ["b"]
    clock.now += 1
    assert handed_out(sample, 1) == ["a"]


def test_a_case_whose_label_was_taken_back_is_free_again(tmp_path):
    found = studies(tmp_path / "root", "a.nii.gz", "b.nii.gz", "c.nii.gz")
    sample = sampler(found)
    assert handed_out(sample, 1) == ["a"]
    found.submit("a", label_map(tmp_path / "sent.nii.gz", 1), ".nii.gz", segments("spleen"))
    assert handed_out(sample, 1) == ["b"]
    found.remove_label("a", "final")
    assert handed_out(sample, 1) == ["a"]


def test_random_follows_its_seed_and_takes_every_case(tmp_path):
    found = studies(tmp_path, *(f"{number}.nii.gz" for number in range(4)))
    assert handed_out(sampler(found, 3), 4, "random") == handed_out(sampler(found, 3), 4, "random")
    first = Counter(handed_out(sampler(found, seed), 1, "random")[0] for seed in range(60))
    assert len(first) == 4


def test_a_case_that_cannot_be_read_is_passed_over(tmp_path, monkeypatch):
    found, said = studies(tmp_path, "a.nii.gz", "b.nii.gz"), []
    checksum = Studies.checksum

    def fails(self, name):
        if name == "a":
            raise DeepEditError("a.nii.gz: cannot be read")
        return checksum(self, name)

    monkeypatch.setattr(Studies, "checksum", fails)
    sample = sampler(found, say=said.append)
    assert handed_out(sample, 2) == ["b", "b"]
    assert "a is passed over as the next case: a.nii.gz: cannot be read" in said[0]


def scores(found, score, model="one", **options):
    background = Background()
    return Scores(found, score, model, background, **options), background


def test_the_least_certain_comes_first_and_what_is_not_scored_last(tmp_path):
    found = studies(tmp_path, *(f"{name}.nii.gz" for name in "abcd"))
    kept, background = scores(found, Certainty(a=0.1, b=0.3, c=0.2, d=0.4))
    sample = sampler(found, scores=kept)
    assert handed_out(sample, 1, "uncertainty") == ["a"]
    background.run(stop_after=7)  # twice for each case
    assert [kept.of((tmp_path / f"{name}.nii.gz",)) for name in "abcd"] == [0.1, 0.3, 0.2, None]
    assert handed_out(sample, 3, "uncertainty") == ["b", "c", "d"]


def test_every_case_is_scored_once_however_often_it_is_stopped(tmp_path):
    found = studies(tmp_path, *(f"{name}.nii.gz" for name in "abcd"))
    certainty = Certainty(a=0.1, b=0.3, c=0.2, d=0.4)
    kept, background = scores(found, certainty)
    for _ in range(3):
        kept.start()
    assert len(background.waiting) == 1
    stops = 0
    while background.waiting:
        background.run(stop_after=3)
        stops += 1
    assert stops > 2
    assert handed_out(sampler(found, scores=kept), 4, "uncertainty") == ["d", "b", "c", "a"]
    # Those that were stopped were begun again.
    assert set(certainty.asked) == set("abcd")
    kept.start()
    assert not background.waiting


def test_memory_that_does_not_suffice_is_left_to_who_can_free_some(tmp_path):
    found = studies(tmp_path, "a.nii.gz", "b.nii.gz")
    kept, background = scores(found, Certainty(a=MemoryError(), b=0.3))
    kept.start()
    with pytest.raises(MemoryError):
        background.run()
    kept.start()
    background.run()
    assert handed_out(sampler(found, scores=kept), 2, "uncertainty") == ["b", "a"]


def test_scores_are_kept_for_the_model_and_the_content(tmp_path):
    found = studies(tmp_path, "a.nii.gz", "b.nii.gz")
    for model, asked in (("one", 2), ("one", 0), ("two", 2), ("one", 0)):
        certainty = Certainty(a=0.1, b=0.3)
        kept, background = scores(found, certainty, model)
        kept.start()
        background.run()
        assert len(certainty.asked) == asked
        assert kept.of((tmp_path / "b.nii.gz",)) == 0.3
    image(tmp_path / "b.nii.gz", 9)
    assert kept.of((tmp_path / "b.nii.gz",)) is None
    kept.start()
    background.run()
    assert certainty.asked == ["b"]
    kept.replace_model("three")
    assert kept.of((tmp_path / "b.nii.gz",)) is None


def test_few_models_are_kept(tmp_path):
    found = studies(tmp_path, "a.nii.gz")
    for number in range(9):
        kept, background = scores(found, Certainty(a=0.1), f"model {number}")
        kept.start()
        background.run()
    stored = json.loads((tmp_path / ".deepedit" / "uncertainty.json").read_text())
    assert list(stored) == [f"model {number}" for number in range(5, 9)]


@pytest.mark.parametrize("failure", [DeepEditError("no"), RuntimeError("no\nno"), math.nan, math.inf])
def test_a_case_that_cannot_be_scored_costs_itself_only(tmp_path, failure):
    found, said = studies(tmp_path, "a.nii.gz", "b.nii.gz"), []
    certainty = Certainty(a=failure, b=0.3)
    kept, background = scores(found, certainty, say=said.append)
    kept.start()
    background.run()
    assert handed_out(sampler(found, scores=kept), 2, "uncertainty") == ["b", "a"]
    assert certainty.asked == ["a", "b"]
    assert len(said) == 1
    assert said[0].startswith("a.nii.gz: its uncertainty cannot be worked out")
    assert "\n" not in said[0]


def test_a_model_that_comes_in_between_is_not_given_the_scores_of_the_other(tmp_path):
    found = studies(tmp_path, "a.nii.gz")

    def score(images, is_cancelled):
        if len(asked) == 0:
            kept.replace_model("two")
        asked.append(images)
        return float(len(asked))

    asked: list = []
    kept, background = scores(found, score)
    kept.start()
    background.run()
    assert kept.of((tmp_path / "a.nii.gz",)) == 2


def test_damaged_scores_are_worked_out_again(tmp_path):
    (tmp_path / ".deepedit").mkdir()
    (tmp_path / ".deepedit" / "uncertainty.json").write_text('{"one": [], "two": {"x": "y"}')
    said = []
    kept, background = scores(Studies(tmp_path, LABELS), Certainty(a=0.1), say=said.append)
    image(tmp_path / "a.nii.gz")
    kept.start()
    background.run()
    assert kept.of((tmp_path / "a.nii.gz",)) == 0.1
    assert len(said) == 1
