"""Commands as processes of their own, without the seconds that each would take to import torch."""

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from types import MappingProxyType

import torch

from deepedit.network.architectures import NETWORKS, UNetConfig
from deepedit.training import refining

# Each is a fork of a process that has imported these and done nothing else.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["deepedit.training.run", "deepedit.evaluation", "torch.utils.tensorboard", __name__])

SMALL = UNetConfig(filters=(4, 8, 8), strides=(1, 2, 2), kernels=(3, 3, 3))
"""What these processes train by default, and their refiners for few steps; everything else is as users have it."""


class Forked:
    """A command in a process, used as a `subprocess.Popen`.

    Args:
        main: of the command, a function of a module.
        arguments: of the command.
        folder: for what it prints.
        environment: what is set for it alone.
    """

    def __init__(
        self,
        main: Callable[[Sequence[str]], int | None],
        arguments: Sequence[object],
        folder: Path,
        environment: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self._printed = Path(mkdtemp(dir=folder))
        variables = {name: str(value) for name, value in environment.items()}
        self._process = FORKS.Process(
            target=_perform, args=(main, [*map(str, arguments)], self._printed, variables), daemon=True
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it printed on standard output and standard error, once it has ended."""
        self._process.join(timeout)
        printed = (self._printed / "out").read_text(), (self._printed / "err").read_text()
        assert self._process.exitcode is not None, printed
        return printed


def _perform(main: Callable, arguments: list[str], printed: Path, variables: dict[str, str]) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(printed / name, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(variables)
    torch.set_num_threads(1)
    NETWORKS["light"], refining.STEPS, refining.LEAST_STEPS = SMALL, 3, 3
    raise SystemExit(main(arguments))
