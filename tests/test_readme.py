"""The Python of README and of the pages of docs runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

from deepedit.inference.session import InteractiveSession
from deepedit.io.nifti import read_label, write_label, write_volume
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model, save_model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan
from deepedit.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = [
    pytest.param(block, id=page.name)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
]
TINY = UNetConfig(filters=(4, 4), strides=(1, 2), kernels=(3, 3))


@pytest.fixture
def model(tmp_path):
    labels = Labels(("spleen",), (1,))
    network = build_network(input_channels(1, labels.num_classes), labels.num_classes, TINY, seed=0)
    path = tmp_path / "runs" / "spleen" / "model.pt"
    path.parent.mkdir(parents=True)
    save_model(path, Model(network.eval(), Plan(labels, (4.0, 4.0, 4.0), (32, 32, 32), Intensity("zscore", 0.5, 99.5))))
    return path


@pytest.mark.parametrize("block", BLOCKS)
def test_the_library(model, tmp_path, monkeypatch, block):
    """With files at the places that it names, and a model that was not trained."""
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = 60, -80, 20
    image = Volume(np.random.default_rng(0).normal(size=(128, 112, 60)).astype(np.float32), affine)
    write_volume(tmp_path / "case.nii.gz", image.data, like=image)
    other = np.zeros(image.shape, np.uint8)
    other[100:125, 60:100, 30:50] = 255
    write_label(tmp_path / "other_tool.nii.gz", other, like=image)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "block", "exec"), {})
    assert read_label("seg.nii.gz").shape == image.shape


def test_a_session_of_a_file_takes_all_options(model):
    session = InteractiveSession.from_checkpoint(model, "cpu", amp="off", tta=False, overlap=0.25)
    session.set_image(np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32))
    assert session.predict().shape == (20, 20, 20)
