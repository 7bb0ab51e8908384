"""Does what a block of code says, as a reader of the page would."""

import contextlib
import multiprocessing
import os
import runpy
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.docs.files import lay_out
from tests.docs.pages import ROOT, Block, blocks, shortened

MODULES = {
    "deepedit-train": "deepedit_cli.train",
    "deepedit-infer": "deepedit_cli.infer",
    "deepedit-evaluate": "deepedit_cli.evaluate",
    "deepedit-serve": "deepedit_cli.serve",
    "torchrun": "torch.distributed.run",
    "tensorboard": "tensorboard.main",
}
"""Programs that are modules, too."""

SERVERS = ("deepedit-serve", "tensorboard")
ADDRESS = "127.0.0.1:8000"
"""Where requests on the pages go; here it is that of a port which is free."""

WEB = ("fastapi", "uvicorn", "python_multipart", "SimpleITK")
NEEDED = {
    "curl": WEB,
    "deepedit-serve": WEB,
    "seg.dcm": ("highdicom", "SimpleITK"),
    "--monai": ("monai",),
    "benchmarks.dicom_reading": ("SimpleITK",),
    "benchmarks.monai_parity": ("monai",),
    "benchmarks.page": (*WEB, "playwright"),
    "benchmarks.page_answers": WEB,
    "benchmarks.server_latency": WEB,
    "tests.soak.attack": WEB,
    "tests.soak.serve": WEB,
}
"""Packages of the extras, by a word of the commands that need them."""

PATIENCE = 300
SKIPPED = 77
LOG = "said.txt"

IMPORTED = (
    *("deepedit.training.run", "deepedit.evaluation", "deepedit.inference.session"),
    *("torch._dynamo", "torch.utils.tensorboard", "fastapi", "uvicorn"),
)

# Commands are forked from a process that has imported what they need: torch alone takes seconds.
FORKS = multiprocessing.get_context("forkserver") if sys.platform == "linux" else None
if FORKS:
    FORKS.set_forkserver_preload([*IMPORTED, __name__])


shell = pytest.mark.skipif(FORKS is None, reason="the commands on the pages are those of a shell on Linux")


def read(block: Block, folder: Path) -> None:
    """Do what a block says in a folder, where the files that it names lie.

    A server ends before the next one starts, or with the block. Requests in a block that starts none are sent to the
    last server of the page. What could not be run here is told as a skipped test.

    Raises:
        AssertionError: if a command fails.
    """
    others = [words for other in blocks(block.page, "bash") for words in other.run if "deepedit-serve" in words[0]]
    server = others[-1] if "curl " in block.code else []
    lay_out(f"{' '.join(server)}\n{block.code}", folder)
    reader = Reader(folder)
    with contextlib.ExitStack() as running:
        for words in [server, *block.run] if server else block.run:
            if lacking := missing(words):
                reader.left_out.append(f"{shlex.join(words)}: {lacking[0]} is not installed")
            elif Path(words[0]).name in SERVERS:
                running.close()
                running.enter_context(reader.serving(words))
            else:
                reader.run(words)
    if reader.left_out:
        pytest.skip("; ".join(reader.left_out))


def missing(words: list[str]) -> list[str]:
    """What a command needs besides the package, and is not installed."""
    packages = [name for word in words for name in NEEDED.get(word, ()) if find_spec(name) is None]
    return ["curl", *packages] if words[0] == "curl" and shutil.which("curl") is None else packages


class Reader:
    """Runs commands in a folder.

    Attributes:
        left_out: for each command that could not be run here, why.
    """

    def __init__(self, folder: Path) -> None:
        self.left_out: list[str] = []
        self._folder, self._port = folder, 0

    def run(self, words: list[str]) -> None:
        """A command that ends by itself, and leaves what ``--output`` names."""
        process = self._start([word.replace(ADDRESS, f"127.0.0.1:{self._port}") for word in shortened(words)])
        process.join(PATIENCE)
        process.kill()
        process.join()
        if process.exitcode == SKIPPED:
            self.left_out.append(f"{shlex.join(words)}: {self._said().splitlines()[-1]}")
            return
        assert process.exitcode == 0, self._said()
        if "--output" in words:
            assert (self._folder / words[words.index("--output") + 1]).exists(), self._said()

    @contextlib.contextmanager
    def serving(self, words: list[str]) -> Iterator[None]:
        """A server that answers, and is told to end by SIGTERM."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        process = self._start([*words, "--port", str(self._port)])
        try:
            end = time.monotonic() + PATIENCE
            while not self._answers():
                assert process.is_alive(), self._said()
                assert time.monotonic() < end, self._said()
                time.sleep(0.05)
            yield
            process.terminate()
            process.join(PATIENCE)
            assert process.exitcode == 0, self._said()
        finally:
            process.kill()
            process.join()

    def _answers(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/", timeout=60) as page:
                return page.status == 200
        except OSError:
            return False

    def _start(self, words: list[str]) -> BaseProcess:
        process = FORKS.Process(target=perform, args=(words, self._folder, self._folder / LOG))
        process.start()
        return process

    def _said(self) -> str:
        """What the commands printed, each after its own line."""
        return (self._folder / LOG).read_text()


def perform(words: list[str], folder: Path, log: Path) -> None:
    """Become the process of a command."""
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    print("$", shlex.join(words), flush=True)
    # Modules of the project are found by the processes that a command starts, and no page opens in a browser.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), BROWSER="echo %s", OMP_NUM_THREADS="1")
    program, *arguments = Path(words[0]).name, *words[1:]
    if program in MODULES:
        program, arguments = "python", ["-m", MODULES[program], *arguments]
    if program != "python":
        os.execvp(program, words)
    try:
        kind, target, *rest = arguments
        sys.argv = [kind, *rest]
        if kind == "-m":
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            exec(compile(target, "block", "exec"), {"__name__": "__main__"})
    except pytest.skip.Exception as reason:  # of what tests share, where the machine lacks something
        print(reason, flush=True)
        sys.exit(SKIPPED)
