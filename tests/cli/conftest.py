"""What the tests of bad input share: a folder to work in, and a way to call the command lines."""

import shutil

import pytest

from deepedit.io.phantom import write_phantom
from deepedit.network.architectures import NETWORKS
from deepedit_cli import evaluate, infer, serve, train
from tests.cli.refusals import TINY, write_model

PROGRAMS = {"infer": infer.main, "train": train.main, "evaluate": evaluate.main, "serve": serve.main}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", num_cases=3, seed=0, shape=(16, 16, 16))


@pytest.fixture
def here(tmp_path, phantom, monkeypatch):
    """A folder to work in, with a dataset, an image and a model, and an architecture that trains in seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(NETWORKS, "light", TINY)
    shutil.copytree(phantom, "data")
    shutil.copy("data/imagesTr/phantom_01.nii.gz", "good.nii.gz")
    write_model("model.pt")
    return tmp_path


@pytest.fixture
def call(capfd):
    """Call a command line; returns its status, and the lines on standard output and standard error."""
    usual = {
        "infer": ("--model=model.pt", "--device=cpu"),
        "train": ("--output=run", "--epochs=1", "--batch-size=2", "--max-clicks=0", "--device=cpu"),
        "evaluate": ("--model=model.pt", "--output=report", "--max-clicks=0", "--device=cpu"),
        "serve": ("--model=model.pt", "--studies=data", "--device=cpu"),
    }

    def call(program, *arguments):
        status = PROGRAMS[program]([*usual[program], *map(str, arguments)])
        out, err = capfd.readouterr()
        return status, out.splitlines(), err.splitlines()

    return call
