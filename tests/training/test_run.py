"""A run and its refiner: which model learns, when it is kept, and where a run that was stopped goes on."""

import pytest

from deepedit.errors import Cancelled
from deepedit.io.phantom import write_phantom
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import load_model
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit.training.refining import learn_refiner
from deepedit.training.run import Run
from deepedit.training.validation import Validation
from tests.devices import DEVICES
from tests.training.conftest import same


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, num_cases=4, spacing=(8.0,) * 3)
    return folder


def run(phantom, folder, resume=False, max_clicks=1, device="cpu", **chosen):
    config = TrainingConfig(epochs=1, batch_size=2, validations=2, max_clicks=max_clicks, seed=3, refiner_cases=2)
    network = UNetConfig(filters=(4, 8), strides=(1, 2), kernels=(3, 3))
    settings = RunSettings(phantom, split=0.75, patch_size=(8, 8, 8), network=network, config=config, **chosen)
    lines = []
    return Run(folder, settings, lines.append, device, resume).train(), lines


def scores(monkeypatch, *values):
    """Let validations find these, in turn; None for one that is stopped."""
    left = list(values)

    def validation(model, cases, *args, **options):
        score = left.pop(0)
        return None if score is None else Validation({0: {"all": score}}, {}, len(cases))

    monkeypatch.setattr("deepedit.training.run.validate", validation)


def said(lines):
    """Which validations there were, and when answers were learned."""
    learned = sum(line.startswith("learned to refine answers") for line in lines)
    return [line.split(":")[0] for line in lines if line.startswith("validation")], learned


EARLY, LAST, REFINED = "validation at  67%", "validation at 100%", "validation with refined answers"


@pytest.mark.parametrize("better", ["early", "last"])
@pytest.mark.parametrize("gain", [-0.1, 0.0, 0.1])
def test_the_best_model_of_a_run_learns_and_is_kept_if_that_is_no_worse(phantom, tmp_path, monkeypatch, better, gain):
    scores(monkeypatch, *((0.6, 0.5) if better == "early" else (0.5, 0.6)), 0.6 + gain)
    taught = []

    def learning(model, *args):
        taught.append(model)
        return learn_refiner(model, *args)

    monkeypatch.setattr("deepedit.training.run.learn_refiner", learning)
    done, lines = run(phantom, tmp_path)
    assert done
    assert said(lines) == ([EARLY, LAST, REFINED], 1)
    best, last = load_model(tmp_path / "model.pt"), load_model(tmp_path / "last.pt")
    assert same(taught[0].network, best.network)
    assert same(taught[0].network, last.network) == (better == "last")
    assert (best.refiner is None) == (gain < 0) == any("model.pt stays as it was" in line for line in lines)
    assert last.refiner is None


def test_a_run_that_is_stopped_while_its_refiner_learns_goes_on_there(phantom, tmp_path, monkeypatch):
    def stopped(*args, **options):
        raise Cancelled("stopped")

    scores(monkeypatch, 0.1, 0.2, 0.3)
    with monkeypatch.context() as patch:
        patch.setattr("deepedit.training.run.learn_refiner", stopped)
        done, lines = run(phantom, tmp_path)
    assert not done
    assert said(lines) == ([EARLY, LAST], 0)
    done, lines = run(phantom, tmp_path, resume=True)
    assert done
    assert said(lines) == ([REFINED], 1)
    assert load_model(tmp_path / "model.pt").refiner is not None
    done, lines = run(phantom, tmp_path, resume=True)
    assert done
    assert said(lines) == ([], 0)


@pytest.mark.parametrize("device", DEVICES)
def test_a_refiner_learns_again_if_its_validation_was_stopped(phantom, tmp_path, monkeypatch, device):
    scores(monkeypatch, 0.1, 0.2, None, 0.3)
    assert not run(phantom, tmp_path, device=device)[0]
    assert load_model(tmp_path / "model.pt").refiner is None
    done, lines = run(phantom, tmp_path, resume=True, device=device)
    assert done
    assert said(lines) == ([REFINED], 1)
    assert load_model(tmp_path / "model.pt").refiner is not None


def test_a_refiner_that_was_written_is_not_taught_again(phantom, tmp_path, monkeypatch):
    keep = Run._keep

    def killed(of, model, result, refined=False):
        keep(of, model, result, refined)
        if refined:
            raise OSError("no space left")

    scores(monkeypatch, 0.1, 0.2, 0.3)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_keep", killed)
        with pytest.raises(OSError, match="no space left"):
            run(phantom, tmp_path)
    learned = load_model(tmp_path / "model.pt").refiner
    done, lines = run(phantom, tmp_path, resume=True)
    assert done
    assert said(lines) == ([], 0)
    assert same(load_model(tmp_path / "model.pt").refiner, learned)


@pytest.fixture
def with_refiner(phantom, tmp_path, monkeypatch):
    """The model of a run that learned to refine its answers."""
    with monkeypatch.context() as patch:
        scores(patch, 0.1, 0.2, 0.3)
        assert run(phantom, tmp_path / "first")[0]
    return tmp_path / "first" / "model.pt"


def test_a_run_that_begins_from_a_model_goes_on_with_its_refiner(phantom, tmp_path, with_refiner, monkeypatch):
    begun_with = []

    def learning(model, *args):
        begun_with.append(model.refiner)
        return learn_refiner(model, *args)

    monkeypatch.setattr("deepedit.training.run.learn_refiner", learning)
    scores(monkeypatch, 0.1, 0.2, 0.3)
    done, lines = run(phantom, tmp_path / "second", init_weights=with_refiner)
    assert done
    assert same(begun_with[0], load_model(with_refiner).refiner)
    assert not same(load_model(tmp_path / "second" / "model.pt").refiner, load_model(with_refiner).refiner)
    assert not any("not taken" in line for line in lines)


def test_a_run_keeps_the_refiner_that_it_began_with_if_more_learning_makes_it_worse(
    phantom, tmp_path, with_refiner, monkeypatch
):
    scores(monkeypatch, 0.1, 0.2, 0.15)
    done, lines = run(phantom, tmp_path / "second", init_weights=with_refiner)
    assert done
    assert any("model.pt stays as it was" in line for line in lines)
    assert same(load_model(tmp_path / "second" / "model.pt").refiner, load_model(with_refiner).refiner)


@pytest.mark.parametrize("other", [{"labels": {"organ": 1}}, {"spacing": (7.0, 8.0, 8.0)}])
def test_it_says_that_a_refiner_is_not_taken_where_it_would_see_something_else(phantom, tmp_path, with_refiner, other):
    done, lines = run(phantom, tmp_path / "second", init_weights=with_refiner, **other)
    assert done
    assert any(line.endswith("its refiner") for line in lines)
    assert any(line.startswith("learned to refine answers") for line in lines)


def test_a_refiner_stays_as_it_is_where_a_run_learns_from_no_clicks(phantom, tmp_path, with_refiner):
    assert run(phantom, tmp_path / "second", init_weights=with_refiner, max_clicks=0)[0]
    assert same(load_model(tmp_path / "second" / "model.pt").refiner, load_model(with_refiner).refiner)
