"""Validation of a network in training, and the time that it may take."""

import numpy as np
import pytest

from deepedit.io.phantom import write_phantom
from deepedit.network.architectures import NETWORKS, UNetConfig
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit.training.loop import Trainer
from deepedit.training.run import Run
from deepedit.training.validation import LEAST_CASES, validate
from tests.obedient import obedient_model, write_case

CASES = LEAST_CASES + 3


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("cases"), []
    for number in range(CASES):
        truth = np.zeros((16, 16, 16), np.uint8)
        truth[2:6, 2:6, 2 : 6 + number] = 1
        truth[10:14, 10:14, 10:14] = 2
        found.append(write_case(folder, f"case_{number}", np.where(truth == 2, 0, truth), truth))
    return found


def test_all_cases_are_validated_where_time_is_no_matter(cases):
    result = validate(obedient_model(), cases, pictures=1)
    assert result.cases == CASES
    assert result.dice[0] == {"left": 1.0, "right": 0.0}
    assert list(result.pictures) == ["case_0"]


def test_without_time_the_first_few_cases_are_validated_and_no_more(cases):
    result = validate(obedient_model(radius=2), cases, pictures=0, seconds=0.0)
    assert result.cases == LEAST_CASES
    assert result.dice == validate(obedient_model(radius=2), cases[:LEAST_CASES], pictures=0).dice


def test_a_validation_that_is_stopped_has_no_result(cases):
    assert validate(obedient_model(), cases, stop=lambda: True) is None


class TwoRanks:
    """The first of two ranks; the other one had the time for `others` cases."""

    def __init__(self, others):
        self.others = others

    def share(self, items):
        return items[::2]

    def gather(self, own):
        answer = next(iter(own.values()))
        return [own, dict.fromkeys(self.others, answer)]


@pytest.mark.parametrize(("others", "count"), [((1, 3, 5, 7), 6), ((1, 3), 5), ((1,), 3)])
def test_ranks_that_had_time_for_different_numbers_of_cases_keep_those_that_all_have(cases, others, count):
    assert validate(obedient_model(), cases, pictures=0, ranks=TwoRanks(others), seconds=0.0).cases == count


def test_a_run_by_the_clock_validates_the_same_few_cases_each_time_also_after_it_was_resumed(tmp_path, monkeypatch):
    data = write_phantom(tmp_path / "data", 2 * CASES, shape=(16, 16, 16), spacing=(10, 10, 10))
    config = TrainingConfig(max_minutes=60, validations=3, batch_size=1)
    monkeypatch.setitem(NETWORKS, "light", UNetConfig(filters=(4, 8), strides=(1, 2), kernels=(3, 3)))
    settings = RunSettings(data, split=0.5, patch_size=(8, 16, 16), config=config)
    said, numbers, names = [], [], []

    def counted(model, cases, *arguments, **options):
        result = validate(model, cases, *arguments, **options)
        numbers.append(result.cases)
        names.append([case.name for case in cases[: result.cases]])
        return result

    agree = Trainer._agree

    def by_steps(trainer, *arguments):
        stopped = agree(trainer, *arguments)
        trainer.progress.share = min(trainer.progress.step / 6, 1.0)
        return stopped

    # A clock that counts steps, so that the test does not depend on the pace of the machine.
    monkeypatch.setattr(Trainer, "_agree", by_steps)
    monkeypatch.setattr("deepedit.training.run.VALIDATING", 0.0)
    monkeypatch.setattr("deepedit.training.run.validate", counted)
    run = Run(tmp_path / "run", settings, said.append, "cpu")
    run.train(stop=lambda: bool(numbers))
    resumed = Run(tmp_path / "run", settings, said.append, "cpu", resume=True)
    resumed.train()
    # The last one is made with a refiner.
    assert numbers == [LEAST_CASES] * 4
    count = len(run.model.validation_cases)
    assert len(resumed.model.validation_cases) == count > LEAST_CASES
    assert names == [names[0]] * 4
    # The first by name may be much alike.
    assert sorted(names[0]) != list(run.model.validation_cases[:LEAST_CASES])
    assert sum(f"{LEAST_CASES} of {count} cases are validated" in line for line in said) == 1


def test_pictures_show_the_patients_sides_however_files_are_stored(tmp_path):
    truth = np.zeros((20, 16, 12), np.uint8)
    truth[2:8, 3:7, 2:9] = 1
    pictures = []
    for name, flips in (("ras", (1, 1, 1)), ("lps", (-1, -1, 1))):
        affine = np.diag([*flips, 1.0])
        affine[:3, 3] = [0 if flip > 0 else side - 1 for flip, side in zip(flips, truth.shape, strict=True)]
        stored = truth[:: flips[0], :: flips[1], :: flips[2]]
        (tmp_path / name).mkdir()
        case = write_case(tmp_path / name, "case", stored, stored, affine=affine)
        pictures.append(validate(obedient_model(), [case], pictures=1).pictures["case"])
    np.testing.assert_array_equal(*pictures)
