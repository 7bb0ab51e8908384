"""A training step on CUDA: it waits for nothing but its own look at the loss, and starts few kernels."""

import pytest

from deepedit.clicks import Annotator
from deepedit.training.loop import STEPS_BETWEEN_LOOKS
from tests.cuda_dry.dry import T4
from tests.cuda_dry.scenes import model, plan, train

EVERYTHING = {"edit_probability": 1.0, "redraw_probability": 1.0, "max_clicks": 2}


@pytest.fixture(autouse=True)
def needs_triton():
    pytest.importorskip("triton", reason="clicks are simulated by kernels in Triton, which is not installed")


def check_waits(records):
    """Each step does all that it does without waiting, but for the looks."""
    for step, record in enumerate(records):
        assert not record.uploads, [str(each) for each in record.uploads]
        looks = [str(each) for each in record.waits]
        assert len(looks) == (step % STEPS_BETWEEN_LOOKS == 0), looks
        assert all("training/loop.py" in each for each in looks)


@pytest.mark.parametrize(
    ("settings", "most"), [({}, 600), (EVERYTHING, 920)], ids=["as by default", "everything at once"]
)
def test_a_step_of_the_light_network_starts_few_kernels(dry, settings, most):
    # In the first, every sample begins, and the optimizers make their states.
    records = train(dry, STEPS_BETWEEN_LOOKS + 1, side=128, **settings)
    check_waits(records)
    assert max(record.launches for record in records) < most, [record.launches for record in records]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"amp": "off"},
        {"accumulate": 2},
        {"checkpointing": True},
        {"accumulate": 2, "checkpointing": True, "network": "reference"},
        {"annotator": Annotator.perfect()},
        {"annotator": Annotator.steady()},
        {"annotator": Annotator(deepest=0, redundant=1)},
        {"annotator": Annotator(deepest=0, neighbour=1, centre=0, jitter=2)},
        {"max_clicks": 0},
    ],
    ids=str,
)
def test_no_step_waits_or_mixes_devices_whatever_it_does(dry, settings):
    check_waits(train(dry, 3, side=32, **{"batch_size": 2, **EVERYTHING, **settings}))


@pytest.mark.parametrize(
    ("settings", "recorded"),
    [({}, True), ({"accumulate": 2}, False), ({"checkpointing": True}, False), ({"record_passes": False}, False)],
    ids=str,
)
def test_passes_are_recorded_only_where_a_batch_is_one_pass_that_keeps_all(dry, monkeypatch, settings, recorded):
    made = []

    def record(network, amp):
        made.append(network)
        return network

    monkeypatch.setattr("deepedit.training.loop.RecordedPasses", record)
    train(dry, 1, side=32, batch_size=2, **settings)
    assert bool(made) == recorded


def test_a_step_in_float16_that_may_overflow_is_checked_on_the_device(dry_cuda):
    with dry_cuda(T4) as dry:
        records = train(dry, 3, side=64, **EVERYTHING)
    check_waits(records)
    assert all(record.kernels["_amp_update_scale_"] == 1 for record in records)
    assert max(record.launches for record in records) < 900, [record.launches for record in records]


def test_muon_takes_its_step_in_less_than_150_kernels(dry):
    from deepedit.training.config import TrainingConfig
    from deepedit.training.loop import build_optimizers

    network = model(plan()).network
    muon, _ = build_optimizers(network, TrainingConfig())
    network(network.encoder[0].conv1.weight.new_zeros(1, network.in_channels, 16, 16, 16)).sum().backward()
    for _ in range(2):
        with dry.recording() as record:
            muon.step()
    assert record.launches < 150, record.kernels
    assert not record.waits
