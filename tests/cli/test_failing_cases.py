"""Whatever goes wrong with one case of several costs that case only; a full disk and Ctrl-C end the run."""

import errno
import os

import pytest
import torch

from deepedit.errors import FileError
from deepedit.inference.session import InteractiveSession
from tests.cli.refusals import refused

pytestmark = pytest.mark.usefixtures("here")
NO_ROOM = OSError(errno.ENOSPC, "No space left on device")
FAILURES = {
    "a bug": (RuntimeError("Expected more\nthan that"), "failed unexpectedly (RuntimeError: Expected more)"),
    "memory": (MemoryError(), "too large for this machine's memory; crop or resample it"),
    "memory of torch": (RuntimeError("DefaultCPUAllocator: can't allocate"), "too large for this machine's memory"),
    "memory of a GPU": (torch.OutOfMemoryError("CUDA out of memory"), "too large for the memory of the GPU"),
    "a disk that fails": (OSError(errno.EIO, "Input/output error"), "failed unexpectedly (OSError: "),
}


@pytest.fixture
def failing(monkeypatch):
    """A function that makes the second image that a session is given fail."""

    def failing(error):
        calls, predict = [], InteractiveSession.predict

        def second_fails(session, *watch):
            if session._timeline.state is None:
                calls.append(session)
                if len(calls) == 2:
                    raise error
            return predict(session, *watch)

        monkeypatch.setattr(InteractiveSession, "predict", second_fails)

    return failing


@pytest.mark.parametrize(("error", "said"), FAILURES.values(), ids=FAILURES)
def test_an_image_that_fails_costs_itself_only(call, failing, error, said):
    failing(error)
    status, out, err = call("infer", "--input=data/imagesTr", "--output=out")
    assert (status, len(out), len(err)) == (2, 2, 2)
    assert err[0].startswith(f"deepedit-infer: data/imagesTr/phantom_01.nii.gz: {said}")
    assert err[1] == "deepedit-infer: 1 of 3 images failed, as said above; the others are in out"
    assert sorted(os.listdir("out")) == ["phantom_00.nii.gz", "phantom_02.nii.gz"]


@pytest.mark.parametrize(("error", "said"), FAILURES.values(), ids=FAILURES)
def test_a_case_that_fails_costs_itself_only(call, failing, error, said):
    failing(error)
    status, out, err = call("evaluate", "--input=data", "--cases=all")
    assert (status, len(err)) == (2, 2)
    assert err[0].startswith(f"deepedit-evaluate: phantom_01 is left out: {said}")
    assert err[1] == "deepedit-evaluate: 1 of 3 cases are left out, as said above"
    assert [line[:10] for line in out if ": Dice" in line] == ["phantom_00", "phantom_02"]


@pytest.mark.parametrize("error", [NO_ROOM, FileError("out/a.nii.gz: cannot be written: No space left on device")])
def test_a_full_disk_ends_the_run(call, failing, error):
    if error is not NO_ROOM:
        error.__cause__ = NO_ROOM
    failing(error)
    status, out, err = call("infer", "--input=data/imagesTr", "--output=out")
    assert (status, len(out), len(err)) == (2, 1, 1)
    assert "No space left on device" in err[0]
    failing(error)
    refused(call("evaluate", "--input=data", "--cases=all"), "No space left on device")


@pytest.mark.parametrize("program", [("infer", "--input=data/imagesTr", "--output=out"), ("evaluate", "--input=data")])
def test_an_interrupt_ends_the_run(call, failing, program):
    failing(KeyboardInterrupt())
    status, _, err = call(*program)
    assert (status, err) == (130, [f"deepedit-{program[0]}: interrupted"])


def test_a_single_image_that_does_not_fit_into_memory_is_one_line(call, monkeypatch):
    def fails(session, *watch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(InteractiveSession, "predict", fails)
    refused(
        call("infer", "--input=good.nii.gz", "--output=seg.nii.gz"), "good.nii.gz: too large for the memory of the GPU"
    )
