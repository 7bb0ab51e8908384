"""Teaching a refiner: what is recorded of a click, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepedit.errors import Cancelled
from deepedit.inference.refine import INSIDE
from deepedit.inference.session import InteractiveSession
from deepedit.metrics import dice
from deepedit.network.refiner import RADIUS, SIDE, build_refiner, piece_channels
from deepedit.training.config import TrainingConfig
from deepedit.training.refining import STOPPED, Recorded, far_gain, learn_refiner, record, refining_loss, teach
from deepedit.training.schedule import REFINING, generator_for, training_minutes
from deepedit.transforms.geometry import network_grid
from tests.devices import DEVICES
from tests.inference.conftest import ball
from tests.obedient import obedient_model, two_blocks, write_case
from tests.training.conftest import same

CONFIG = TrainingConfig(refiner_cases=3, max_clicks=2, amp="off")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Cases of which the network misses the right block."""
    truth = two_blocks()
    folder = tmp_path_factory.mktemp("cases")
    return [write_case(folder, f"case_{number}", np.where(truth == 2, 0, truth), truth) for number in range(4)]


def recorder(model):
    refiner = build_refiner(1, 3, seed=0).eval()
    return InteractiveSession(replace(model, refiner=refiner), amp="off"), refiner


def test_a_click_is_recorded_with_the_truth_around_it(cases):
    session, refiner = recorder(obedient_model(radius=1))
    clicks = list(record(session, refiner, cases[0], clicks=2))
    first = clicks[0]
    assert len(clicks) == 2
    voxel, truth = session.clicks[0].position, two_blocks()
    middle = np.full((SIDE, SIDE, SIDE), -1)
    for at in np.ndindex(*truth.shape):
        place = tuple(np.subtract(at, voxel).astype(int) + RADIUS)
        if all(0 <= step < SIDE for step in place):
            middle[place] = truth[at]
    np.testing.assert_array_equal(first.belongs.numpy(), middle == 2)
    np.testing.assert_array_equal(first.counts.numpy(), (middle >= 0) & ball(middle.shape, (RADIUS,) * 3, RADIUS))
    np.testing.assert_array_equal(first.piece[INSIDE].numpy(), middle >= 0)
    assert not refiner._forward_pre_hooks


def test_where_the_truth_is_not_known_nothing_counts(tmp_path):
    truth = two_blocks()
    truth[:, :, 10:] = 9
    case = write_case(tmp_path, "case", np.where(truth == 2, 0, truth % 9), truth)
    model = obedient_model(radius=1)
    session, refiner = recorder(replace(model, plan=replace(model.plan, ignore=9)))
    for click in record(session, refiner, case, clicks=2):
        counted = np.argwhere(click.counts.numpy())
        # The click is before slice 10 of the volume, and so is all that counts.
        assert 0 < np.ptp(counted[:, 2]) < 10


def shown(place):
    """A piece whose image alone, bright from a plane on, tells what belongs to the class."""
    piece = torch.zeros(piece_channels(1, 3) - 3, SIDE, SIDE, SIDE, dtype=torch.float16)
    piece[INSIDE + 1, :, :, place:] = 1
    counts = torch.from_numpy(ball((SIDE,) * 3, (RADIUS,) * 3, RADIUS))
    return Recorded(piece, 1, piece[INSIDE + 1] > 0, counts, far=0)


def test_a_refiner_learns_what_the_answers_lack(monkeypatch):
    monkeypatch.setattr("deepedit.training.refining.STEPS", 100)
    recorded = [shown(place) for place in range(5, 21)] * 4
    refiner = build_refiner(1, 3, seed=0)
    assert teach(refiner, recorded, CONFIG) == ""
    click = shown(12)
    is_label = torch.zeros(1, 3, SIDE, SIDE, SIDE)
    is_label[:, click.label] = 1
    with torch.no_grad():
        leads = refiner(torch.cat([click.piece[None].float(), is_label], dim=1))
    assert ((leads[0] > 0) == click.belongs)[click.counts].float().mean() > 0.95
    assert not refiner.training


@given(arrays(np.uint8, (3, 20, 30, 2), elements=st.integers(0, 2)), st.tuples(*[st.integers(0, 19)] * 3))
@settings(deadline=None)
def test_what_an_answer_does_far_away_is_counted_voxel_by_voxel(maps, target):
    before, after, truth = maps
    grid = network_grid(truth.shape, np.diag([-1.0, 0.5, 4.0, 1.0]), (1.0, 1.0, 1.0))
    gain = 0
    for at in np.ndindex(*truth.shape):
        if np.linalg.norm(grid.points_to_network([at])[0] - target) > RADIUS:
            gain += int(after[at] == truth[at]) - int(before[at] == truth[at])
    assert far_gain(before, after, truth, grid, np.array(target)) == gain


@pytest.mark.parametrize("gain", [-1, 0, 1])
def test_answers_count_far_away_only_if_they_did_good_there(cases, monkeypatch, gain):
    monkeypatch.setattr("deepedit.training.refining.far_gain", lambda *maps: gain)
    assert learn_refiner(obedient_model(radius=1), cases, CONFIG).far == (gain > 0)


def test_it_is_not_taught_without_time_or_clicks_or_from_what_is_no_number(monkeypatch):
    refiner, broken = build_refiner(1, 3, seed=0), shown(12)
    untaught = {name: tensor.clone() for name, tensor in refiner.state_dict().items()}
    assert "time" in teach(refiner, [shown(12)], CONFIG, seconds=0.0)
    broken.piece[INSIDE + 1] = np.nan
    with monkeypatch.context() as patch:
        patch.setattr("deepedit.training.refining.LEAST_STEPS", 30)
        assert "not enough errors" in teach(refiner, [shown(12)], CONFIG)
    assert all(torch.equal(untaught[name], tensor) for name, tensor in refiner.state_dict().items())
    assert "infinite" in teach(refiner, [broken], CONFIG)


@pytest.mark.parametrize("steps", [0, 3, 40])
def test_it_is_not_taught_if_stopped_while_it_learns(monkeypatch, steps):
    monkeypatch.setattr("deepedit.training.refining.STEPS", 50)
    asked = []
    clicks = [shown(12)] * 40

    def stop():
        asked.append(None)
        return len(asked) > steps

    assert teach(build_refiner(1, 3, seed=0), clicks, CONFIG, stop) == STOPPED


def test_the_loss_is_lowest_where_all_is_right_and_looks_only_where_it_counts():
    click = shown(12)
    belongs, counts = click.belongs[None], click.counts[None]
    right = torch.where(belongs, 20.0, -20.0)
    assert refining_loss(right, belongs, counts) < 1e-3
    assert refining_loss(-right, belongs, counts) > 5
    assert refining_loss(torch.where(counts, right, -right), belongs, counts) < 1e-3
    # Beyond the volume, where nothing may count, it is a number all the same.
    assert refining_loss(right, belongs, torch.zeros_like(counts)).isfinite()


def test_the_same_clicks_teach_the_same(cases):
    lines, model = [], obedient_model(radius=1)
    refiner = learn_refiner(model, cases, CONFIG, say=lines.append)
    assert lines == ["learned to refine answers from 6 clicks on 3 training cases"]
    assert same(refiner, learn_refiner(model, cases, CONFIG))
    assert not same(refiner, learn_refiner(model, cases, replace(CONFIG, seed=1)))


@pytest.mark.parametrize("device", DEVICES)
def test_clicks_on_training_cases_teach_what_a_click_means(cases, monkeypatch, device):
    monkeypatch.setattr("deepedit.training.refining.STEPS", 100)
    monkeypatch.setattr("deepedit.training.refining.EPOCHS", 100)
    model = obedient_model(radius=1).to(device)
    model.refiner = learn_refiner(model, cases, CONFIG)
    assert model.refiner.last.weight.device.type == device
    found = []
    for answering in (model, replace(model, refiner=None)):
        session = InteractiveSession(answering, amp="off")
        session.set_image(np.where(two_blocks() == 2, 0, two_blocks()))
        session.add_click((11, 8, 8), label="right")
        found.append(dice(session.predict() == 2, two_blocks() == 2))
    # The block is where it is in all cases, but the network changes no more than a voxel around a click.
    assert found[0] > 0.6 > 0.2 > found[1]


class Ranks:
    """One of two ranks, which does what both do, one after the other."""

    first = True

    def __init__(self, others=None):
        self.others = others

    def share(self, items):
        return items if self.others is None else items[::2]

    def sum(self, *values):
        return list(values)

    def gather(self, value):
        recorded = isinstance(value, dict) and all(isinstance(clicks, list) for clicks in value.values())
        return [value, self.others] if recorded and value and self.others is not None else [value]


def test_ranks_that_share_the_cases_learn_the_same_as_one_alone(cases):
    model, refiner = obedient_model(radius=1), build_refiner(1, 3, CONFIG.seed).eval()
    session = InteractiveSession(replace(model, refiner=refiner), amp="off")
    # The cases that are clicked are the first three; the other rank has the second one in their order.
    second = torch.randperm(3, generator=generator_for(CONFIG.seed, "refiner")).tolist()[1]
    others = {second: list(record(session, refiner, cases[second], CONFIG.max_clicks))}
    assert same(learn_refiner(model, cases, CONFIG, Ranks(others)), learn_refiner(model, cases, CONFIG))


def test_it_is_cancelled_if_stopped_and_learns_nothing_without_time(cases):
    model, lines = obedient_model(radius=1), []
    with pytest.raises(Cancelled):
        learn_refiner(model, cases, CONFIG, stop=lambda: True)
    assert learn_refiner(model, cases, CONFIG, seconds=0.0, say=lines.append) is None
    note = "note: answers are not refined: there was not enough time to learn, with 2 clicks on 1 training cases"
    assert lines == [note]


def test_a_case_that_fails_is_left_out_and_named(cases, tmp_path):
    lines, broken = [], replace(cases[0], name="broken", label=tmp_path / "gone.nii.gz")
    assert learn_refiner(obedient_model(radius=1), [broken, cases[1]], CONFIG, say=lines.append) is not None
    assert "no clicks on broken are learned from" in lines[0]
    assert lines[1] == "learned to refine answers from 2 clicks on 1 training cases"


def test_it_says_that_nothing_was_wrong(tmp_path):
    case, lines = write_case(tmp_path, "case", two_blocks(), two_blocks()), []
    assert learn_refiner(obedient_model(), [case], CONFIG, say=lines.append) is None
    assert "not enough errors" in lines[0]


def test_a_model_that_has_a_refiner_keeps_it_or_goes_on_from_it(cases):
    model, lines = obedient_model(radius=1), []
    model.refiner = before = build_refiner(1, 3, seed=5)
    assert learn_refiner(model, cases, CONFIG, seconds=0.0, say=lines.append) is before
    assert "refined as they were in the model that this one began with" in lines[0]
    further = learn_refiner(model, cases, CONFIG)
    anew = learn_refiner(replace(model, refiner=None), cases, CONFIG)
    assert not same(further, before)
    assert not same(further, anew)
    # Its last layer is 0 where it begins anew, and hardly changes in a few steps.
    change = (further.first.weight - before.first.weight).abs().max()
    assert change < (further.first.weight - anew.first.weight).abs().max() / 2


def test_cases_are_clicked_in_random_order_so_that_little_time_suffices_for_a_mixture(cases, monkeypatch):
    clicked = []

    def recording(session, refiner, case, clicks):
        clicked.append(case.name)
        return record(session, refiner, case, clicks)

    monkeypatch.setattr("deepedit.training.refining.record", recording)
    orders = set()
    for seed in range(4):
        learn_refiner(obedient_model(radius=1), cases, replace(CONFIG, refiner_cases=4, seed=seed))
        orders.add(tuple(clicked))
        assert sorted(clicked) == [case.name for case in cases]
        clicked.clear()
    assert len(orders) > 1


def test_a_run_by_the_clock_leaves_its_refiner_some_time():
    config = TrainingConfig(max_minutes=10)
    assert training_minutes(config) == pytest.approx(10 * (1 - REFINING))
    assert training_minutes(replace(config, refiner_cases=0)) == 10
    assert training_minutes(replace(config, max_clicks=0)) == 10
    assert training_minutes(replace(config, validations=0)) == 10
    assert training_minutes(TrainingConfig()) is None
