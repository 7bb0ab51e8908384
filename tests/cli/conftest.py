"""What these tests share: a folder to work in, a way to call the command lines, and a run of training."""

import shutil

import pytest

from deepedit.io.phantom import write_phantom
from deepedit.network.architectures import NETWORKS, UNetConfig
from deepedit_cli import evaluate, infer, serve, train
from tests.cli.refusals import TINY, write_model
from tests.cli.training_runs import arguments

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


@pytest.fixture
def small_network(monkeypatch):
    """An architecture that trains in seconds; everything else is as users have it."""
    monkeypatch.setitem(NETWORKS, "light", UNetConfig(filters=(4, 8, 8), strides=(1, 2, 2), kernels=(3, 3, 3)))
    monkeypatch.setattr(train, "on_terminal", lambda: False)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantom"
    return write_phantom(folder, num_cases=4, seed=0, shape=(24, 20, 16))


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """A run folder as a finished run leaves it."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "light", UNetConfig(filters=(4, 8, 8), strides=(1, 2, 2), kernels=(3, 3, 3)))
        assert train.main(arguments(dataset, run)) == 0
    return run
