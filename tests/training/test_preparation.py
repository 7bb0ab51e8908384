"""What is wrong with cases is found before a run begins, each by one rank."""

import shutil
import threading

import numpy as np
import pytest

from deepedit.io.msd import find_dataset
from deepedit.io.phantom import write_phantom
from deepedit.network.architectures import NETWORKS
from deepedit.ranks import Ranks
from deepedit.training.config import RunSettings
from deepedit.training.data import prepare_case
from deepedit.training.planning import make_plan
from deepedit.training.preparation import Preparation


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantom"
    return write_phantom(folder, num_cases=5, seed=1, shape=(24, 24, 24))


@pytest.fixture
def dataset(phantom, tmp_path):
    return find_dataset(shutil.copytree(phantom, tmp_path / "phantom"))


@pytest.fixture
def preparation(dataset, tmp_path):
    plan = make_plan(dataset, NETWORKS["light"])

    def make(ranks: Ranks, cache: str = "cache") -> Preparation:
        return Preparation(RunSettings(dataset.folder, workers=2), plan, tmp_path / cache, ranks)

    return make


class Gathered(Ranks):
    """One of some ranks that are threads of this process."""

    def __init__(self, rank, size, meeting, values):
        super().__init__(rank, size)
        self.meeting, self.values = meeting, values

    def gather(self, value):
        self.values[self.rank] = value
        self.meeting.wait(60)
        return self.values


def unseen(cases, count):
    return cases


def test_bad_cases_are_told_whether_they_are_trained_on_or_not_and_the_others_prepared(dataset, preparation, tmp_path):
    cases = dataset.cases
    training = {case.name for case in cases[:3]}
    for bad in (cases[1], cases[4]):
        bad.image[0].write_bytes(b"no image")
    counted = []
    problems, notes = preparation(Ranks()).look(
        cases, training, lambda looks, count: (counted.append(1) or each for each in looks)
    )
    assert list(problems) == [cases[1].name, cases[4].name]
    assert all(cases[n].image[0].name in problems[cases[n].name][0] for n in (1, 4))
    assert notes == []
    assert len(counted) == len(cases)
    assert sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "cache").iterdir()) == [
        cases[0].name,
        cases[2].name,
    ]


def test_ranks_look_at_each_case_once_and_are_told_the_same(dataset, preparation):
    cases, size = dataset.cases, 3
    cases[1].image[0].write_bytes(b"no image")
    names = {case.name for case in cases}
    alone = preparation(Ranks(), "alone").look(cases, names, unseen)
    meeting, values, found, looked = threading.Barrier(size), [None] * size, [None] * size, []

    def work(rank):
        ranks = Gathered(rank, size, meeting, values)
        found[rank] = preparation(ranks).look(cases, names, lambda looks, count: looked.append(count) or looks)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(looked) == len(cases)
    assert all(each == found[0] for each in found)
    assert found[0][0].keys() == alone[0].keys() == {cases[1].name}


def test_opened_cases_are_those_that_were_asked_for_in_order(dataset, preparation, tmp_path):
    cases = dataset.cases[::-1]
    opened = preparation(Ranks()).open(cases)
    assert [case.name for case in opened] == [case.name for case in cases]
    plan = make_plan(dataset, NETWORKS["light"])
    for one, case in zip(opened, cases, strict=True):
        assert np.array_equal(one.image, prepare_case(case, plan, tmp_path / "other").image)
