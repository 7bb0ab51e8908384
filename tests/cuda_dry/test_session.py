"""A session on CUDA: a click is answered with few kernels, and waited for where its result comes back."""

import pytest

from tests.cuda_dry.scenes import LABELS, blocks, plan, session

CLICKS = [((10 + 9 * nth, 20, 15 + nth), f"label_{nth % LABELS + 1}") for nth in range(3)]


@pytest.fixture(autouse=True)
def needs_triton():
    pytest.importorskip("triton", reason="guidance is rendered by a kernel in Triton, which is not installed")


def waits(record):
    return [str(each) for each in record.waits]


def click_through(dry, asked):
    """Predict, click, undo, redo, click again; yields what each click took."""
    asked.predict()
    for position, label in CLICKS:
        with dry.recording() as record:
            asked.add_click(position, label)
        yield record
    with dry.recording() as record:
        asked.undo()
        asked.redo()
    assert not record.uploads
    asked.undo()
    with dry.recording() as record:
        asked.add_click((30, 30, 30), "background")
    yield record


def test_a_click_takes_less_than_200_kernels_and_two_waits(dry):
    for record in click_through(dry, session(plan(), (128, 128, 128))):
        assert record.launches < 200, record.kernels
        assert len(record.waits) <= 2, waits(record)
        assert not record.uploads, [str(each) for each in record.uploads]


@pytest.mark.parametrize(
    ("shape", "spacing", "given"),
    [((96, 80, 72), 1.0, True), ((150, 140, 90), 1.3, False), ((100, 80, 60), 0.9, True)],
)
def test_a_click_on_any_image_takes_two_waits_and_half_as_many_kernels_again(dry, shape, spacing, given):
    asked = session(plan(64, spacing), shape)
    if given:
        asked.set_segmentation(blocks(shape))
    for record in click_through(dry, asked):
        assert record.launches < 320, record.kernels
        assert len(record.waits) <= 2, waits(record)
        assert not record.uploads, [str(each) for each in record.uploads]


@pytest.mark.parametrize(("shape", "spacing"), [((128, 128, 128), 1.0), ((150, 140, 90), 1.3)])
def test_refining_an_answer_takes_80_kernels_more_and_waits_for_none(dry, shape, spacing):
    side = 128 if spacing == 1 else 64
    for record in click_through(dry, session(plan(side, spacing), shape, refines=True)):
        assert record.launches < (200 if spacing == 1 else 320) + 80, record.kernels
        assert len(record.waits) <= 2, waits(record)
        assert not record.uploads, [str(each) for each in record.uploads]


def test_everything_else_that_a_session_does_mixes_no_devices(dry, tmp_path):
    asked = session(plan(64, 1.2), (90, 70, 80))
    asked.predict()
    asked.add_click((3, 4, 5), "label_2")
    assert asked.probabilities("label_1").shape == (90, 70, 80)
    assert asked.probabilities().shape == (LABELS + 1, 90, 70, 80)
    assert asked.uncertainty().shape == (90, 70, 80)
    asked.save(tmp_path / "result.nii.gz")
    asked.reset()
    assert asked.clicks == []
    assert asked.predict().shape == (90, 70, 80)
