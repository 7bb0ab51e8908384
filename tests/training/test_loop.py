"""Training: it learns, it is a function of its seed, and it goes on where it stopped, to the bit."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from deepedit.errors import TrainingError
from deepedit.network.checkpoint import read_entries, save_model
from deepedit.training.config import TrainingConfig
from deepedit.training.loop import Trainer, build_optimizers, move_average
from deepedit.training.schedule import REFINING
from tests.devices import DEVICES
from tests.training.conftest import ball_case, tiny_model

CONFIG = TrainingConfig(epochs=4, batch_size=2, amp="off", clicks_from=0.1, learning_rate=5e-3)


def trained(plan, cases, config, stop_at=None, state=None):
    model = tiny_model(plan)
    trainer = Trainer(model, cases, config)
    if state:
        trainer.restore(state)
    seen = []

    def on_step(progress):
        seen.append(progress.loss.get("automatic"))

    trainer.train(on_step, stop=lambda: trainer.progress.step == stop_at)
    return trainer, seen


def test_the_loss_falls(plan, cases):
    _, seen = trained(plan, cases, dataclasses.replace(CONFIG, epochs=25))
    assert np.mean(seen[-20:]) < 0.7 * seen[0]


def test_two_runs_with_one_seed_end_with_the_same_weights(plan, cases):
    one, two, other = (trained(plan, cases, dataclasses.replace(CONFIG, seed=seed))[0] for seed in (0, 0, 1))
    same = [torch.equal(a, b) for a, b in zip(one.network.parameters(), two.network.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(one.network.head.weight, other.network.head.weight)


def test_a_run_may_go_on_in_float16_that_began_in_another_precision(plan, cases):
    state = trained(plan, cases, CONFIG, stop_at=1)[0].state()
    trainer = Trainer(tiny_model(plan), cases, CONFIG)
    trainer.scaler = torch.amp.GradScaler("cpu")
    trainer.restore(state)
    assert trainer.progress.step == 1


@pytest.mark.parametrize("stop_at", [1, 5, 9])
def test_a_run_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(plan, cases, tmp_path, stop_at):
    whole, _ = trained(plan, cases, CONFIG)
    stopped, _ = trained(plan, cases, CONFIG, stop_at=stop_at)
    assert stopped.progress.step == stop_at < whole.progress.step
    save_model(tmp_path / "last.pt", stopped.model, {"trainer": stopped.state()})
    state = read_entries(tmp_path / "last.pt")["training"]["trainer"]
    resumed, _ = trained(plan, cases, CONFIG, state=state)
    assert resumed.progress.step == whole.progress.step
    for part in ("network", "average"):
        pairs = zip(getattr(whole, part).parameters(), getattr(resumed, part).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def gradients_of_a_step(plan, cases, config, device):
    trainer, seen = Trainer(tiny_model(plan).to(device), cases, config), {}
    for parameter in trainer.network.parameters():
        parameter.register_post_accumulate_grad_hook(lambda each: seen.update({each: each.grad.clone()}))
    trainer.train(lambda progress: None, stop=lambda: True)
    return [seen[each] for each in trainer.network.parameters()]


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_in_parts_has_the_gradients_of_the_whole(plan, cases, device):
    config = dataclasses.replace(CONFIG, batch_size=4)
    whole, parts = (
        gradients_of_a_step(plan, cases, dataclasses.replace(config, accumulate=parts), device) for parts in (1, 2)
    )
    largest = max(float(each.abs().max()) for each in whole)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-2 * largest)


@pytest.fixture
def one_process(tmp_path):
    """A group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_gradients_are_exchanged_once_in_a_step_however_many_parts_it_has(plan, cases, monkeypatch, parts):
    exchanged = []

    def exchange(state, bucket):
        exchanged.append(bucket)
        result = torch.futures.Future()
        result.set_result(bucket.buffer())
        return result

    def averaged(network):
        made = DistributedDataParallel(network)
        made.register_comm_hook(None, exchange)
        return made

    trainer = Trainer(tiny_model(plan), cases, dataclasses.replace(CONFIG, batch_size=4, accumulate=parts))
    monkeypatch.setattr(trainer.ranks, "averaged", averaged)
    trainer.train(lambda progress: None, stop=lambda: True)
    assert len(exchanged) == 1


@pytest.mark.parametrize("more", [{"accumulate": 3}, {"accumulate": 9}, {"checkpointing": True}])
def test_what_saves_memory_leaves_the_weights(plan, cases, more):
    config = dataclasses.replace(CONFIG, batch_size=4, epochs=2)
    whole, _ = trained(plan, cases, config)
    saving, _ = trained(plan, cases, dataclasses.replace(config, **more))
    for a, b in zip(whole.network.parameters(), saving.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_weights_that_are_no_longer_finite_are_not_saved(plan, cases):
    trainer, _ = trained(plan, cases, CONFIG, stop_at=2)
    with torch.no_grad():
        trainer.network.head.weight[0] = float("nan")
    with pytest.raises(TrainingError, match="finite"):
        trainer.state()


def test_gradients_that_overflow_are_skipped_and_reach_no_other_parameter(plan, cases):
    trainer = Trainer(tiny_model(plan), cases, CONFIG)
    trainer.scaler = torch.amp.GradScaler("cpu")
    weight = trainer.network.encoder[0].conv1.weight
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * float("inf"))
    trainer.train(lambda progress: None, stop=lambda: trainer.progress.step == 2)
    assert torch.equal(weight, before)
    assert all(parameter.isfinite().all() for parameter in trainer.network.parameters())


def test_a_run_by_the_clock_ends_by_the_clock(plan, cases):
    config = dataclasses.replace(CONFIG, max_minutes=0.02)
    trainer, _ = trained(plan, cases, config)
    assert trainer.progress.share == 1
    # The rest of the time is that of the refiner.
    assert trainer.progress.seconds >= 1.2 * (1 - REFINING)


def test_a_loss_that_is_not_a_number_stops_and_names_the_cases(plan):
    case = ball_case("broken_case", 0)
    bad = dataclasses.replace(case, image=np.full_like(case.image, np.nan))
    with pytest.raises(TrainingError, match="broken_case"):
        trained(plan, [bad], CONFIG)


def test_the_average_follows_the_weights(plan):
    average, network = tiny_model(plan, 0).network, tiny_model(plan, 1).network
    start = average.head.weight.clone()
    move_average(average, network, 0.9, step=1000)
    expected = 0.9 * start + 0.1 * network.head.weight
    torch.testing.assert_close(average.head.weight, expected)


def test_every_parameter_has_one_optimizer_and_the_last_layer_is_not_orthogonalized(plan):
    network = tiny_model(plan).network
    muon, adamw = build_optimizers(network, CONFIG)
    of = [{id(parameter) for group in one.param_groups for parameter in group["params"]} for one in (muon, adamw)]
    assert of[0] | of[1] == {id(parameter) for parameter in network.parameters()}
    assert not of[0] & of[1]
    assert of[0] == {id(parameter) for parameter in network.parameters() if parameter.ndim == 5} - {
        id(network.head.weight)
    }
