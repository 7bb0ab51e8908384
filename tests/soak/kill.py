"""Kill a training run at random moments, time and again, and resume it: nothing may be lost or half-written.

    python -m tests.soak.kill --kills 200

After every kill ``last.pt`` and ``model.pt`` must be readable, the step of the one and the score of the other no lower
than before. In the end the run is let finish, and its weights, and those of its best model and its refiner, must be
those of a run that was never killed, to the bit.
A checkpoint is written after every step, so that many of the kills fall into the writing.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from deepedit.files import UNFINISHED
from deepedit.io.phantom import write_phantom
from deepedit.network.architectures import NETWORKS, UNetConfig
from deepedit.network.checkpoint import load_model, read_entries
from deepedit.training import run as training_run
from deepedit_cli.train import main as deepedit_train


def soak(folder: Path, kills: int, epochs: int, longest: float, seed: int) -> str:
    """Do it; returns a line on what was seen.

    Args:
        longest: life of a process at most, as a share of what the whole run takes.

    Raises:
        AssertionError: if something was lost.
    """
    dataset = write_phantom(folder / "data", num_cases=4, seed=0, shape=(24, 20, 16))
    begin = ["--input", str(dataset), "--epochs", str(epochs), "--device", "cpu", "--workers", "1"]
    whole, run = folder / "whole", folder / "killed"
    clock = time.monotonic()
    wait_for(start([*begin, "--output", str(whole)]))
    longest *= time.monotonic() - clock
    again = [*begin, "--output", str(run), "--overwrite"]
    resume = ["--output", str(run), "--resume", "--device", "cpu", "--workers", "1"]
    moments = random.Random(seed)
    step, best, half_written, finished = -1, -1.0, 0, 0
    wait_for(start([*begin, "--output", str(run)]), moments.uniform(0, longest))
    for _ in range(kills):
        half_written += any(run.glob(UNFINISHED))
        begun = (run / "config.json").exists()
        if begun:
            step, best = no_less(run, step, best)
        finished += wait_for(start(resume if begun else again), moments.uniform(0, longest))
    # On a slow machine all of them may have been killed before the run began.
    wait_for(start(resume if (run / "config.json").exists() else again))
    one, two = (read_entries(each / "last.pt")["training"]["trainer"] for each in (whole, run))
    assert one["step"] == two["step"], (one["step"], two["step"])
    for part in ("network", "average"):
        assert same(one[part], two[part]), part
    kept, killed = (load_model(each / "model.pt") for each in (whole, run))
    assert same(kept.network.state_dict(), killed.network.state_dict()), "model.pt"
    assert (kept.refiner is None) == (killed.refiner is None), "a refiner"
    if kept.refiner is not None:
        assert same(kept.refiner.state_dict(), killed.refiner.state_dict()), "the refiner"
    assert not list(run.glob(UNFINISHED))
    return (
        f"{kills} starts, {kills - finished} killed while they ran, {half_written} of them while a file was written; "
        f"{two['step']} steps; weights equal to the bit, best {best:.4f}"
    )


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether weights are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def no_less(run: Path, step: int, best: float) -> tuple[int, float]:
    """Step and best score now; neither may have fallen."""
    if (run / "last.pt").exists():
        now = read_entries(run / "last.pt")["training"]["trainer"]["step"]
        assert now >= step, (now, step)
        step = now
    else:
        assert step == -1, "last.pt is gone"
    if (run / "model.pt").exists():
        now = read_entries(run / "model.pt")["training"]["best"]
        assert now >= best, (now, best)
        best = now
    else:
        assert best == -1, "model.pt is gone"
    return step, best


def start(arguments: list[str]) -> int:
    """A process that trains; a fork, so that torch need not be imported every time."""
    child = os.fork()
    if child:
        return child
    log = os.open(os.environ.get("SOAK_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    NETWORKS["light"] = UNetConfig(filters=(4, 8), strides=(1, 2), kernels=(3, 3))
    training_run.SECONDS_BETWEEN_CHECKPOINTS = 0
    status = 1
    try:
        status = deepedit_train(arguments)
    finally:
        os._exit(status)


def wait_for(child: int, seconds: float | None = None) -> bool:
    """Wait for its end, or kill it after so long; returns whether it came to its end."""
    deadline = time.monotonic() + (seconds or 3600)
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, f"training ended with status {os.waitstatus_to_exitcode(status)}; see SOAK_LOG"
            return True
        time.sleep(0.005)
    assert seconds is not None, "training hangs"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--epochs", type=int, default=1000, help="how long the run is; make it outlast the kills")
    options.add_argument("--longest", type=float, default=0.06, help="a process lives at most that share of the run")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print(soak(Path(scratch), given.kills, given.epochs, given.longest, given.seed))
    sys.exit(0)
