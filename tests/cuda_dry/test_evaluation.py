"""Sliding windows and evaluation on CUDA: no mix of devices."""

import numpy as np
import pytest
import torch

from deepedit.clicks import Clicks
from deepedit.evaluation import Corruption, evaluate_dataset
from deepedit.inference.sliding_window import sliding_window
from deepedit.io.msd import Case
from deepedit.io.nifti import write_label
from deepedit.training.validation import validate
from deepedit.volume import Volume
from tests.cuda_dry.scenes import LABELS, blocks, image, model, plan


@pytest.mark.parametrize("memory", [80 * 2**30, 2**20])
@pytest.mark.parametrize("skip_air", [False, True])
def test_a_sliding_window_gives_logits_where_they_have_room(dry_cuda, memory, skip_air):
    with dry_cuda(memory=memory) as dry:
        made = model(plan(64))
        volume = torch.zeros(1, 150, 70, 140, device="cuda")
        clicks = Clicks([0, 0], [1, 0], [[3, 4, 5], [100, 30, 60]]).to("cuda")
        previous = torch.zeros(150, 70, 140, dtype=torch.uint8, device="cuda")
        with dry.recording() as record:
            logits = sliding_window(made, volume, clicks, previous, skip_air=skip_air)
    assert logits.shape == (LABELS + 1, 150, 70, 140)
    assert logits.device.type == ("cuda" if memory > 2**30 else "cpu")
    if memory > 2**30 and not skip_air:
        assert not record.waits, [str(each) for each in record.waits]
        assert not record.uploads


@pytest.fixture
def cases(tmp_path):
    """Two on disk."""
    made = []
    for seed, shape in enumerate([(70, 60, 50), (40, 44, 90)]):
        like = Volume(image(shape, seed), np.eye(4))
        paths = tmp_path / f"image_{seed}.nii.gz", tmp_path / f"label_{seed}.nii.gz"
        for path, data in zip(paths, ((30 * like.data).clip(0).astype(np.int16), blocks(shape, seed)), strict=True):
            write_label(path, data, like)
        made.append(Case(f"case_{seed}", (paths[0],), paths[1]))
    return made


@pytest.mark.parametrize("initial", [None, Corruption(0.6, 0.8)])
def test_evaluation_mixes_no_devices(dry, cases, initial):
    def fail(case, reason):
        raise AssertionError(reason)

    rows = evaluate_dataset(model(plan(64)), cases, max_clicks=2, initial=initial, on_failure=fail)
    assert {row.case for row in rows} == {case.name for case in cases}


def test_validation_mixes_no_devices(dry, cases):
    assert validate(model(plan(64)), cases, pictures=0).dice.keys() >= {0, 1}
