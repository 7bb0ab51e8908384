"""The blocks of code in README, CONTRIBUTING and the pages of docs, and how their commands are run in tests."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

FETCHES = "fetches packages from the network"
TEST_COMMAND = "a part of the test command itself"
NOT_RUN = {
    "python3 -m venv .venv": "makes the environment that packages are fetched into",
    ".venv/bin/pip install --quiet .[server]": FETCHES,
    ".venv/bin/pip install -e .[dev,docs,plot]": FETCHES,
    "pip install deepedit[server]": FETCHES,
    "pip install deepedit[server,dicom]": FETCHES,
    "pip install --no-deps monailabel==0.8.5": FETCHES,
    "[ -d .venv ] || python3 -m venv .venv": TEST_COMMAND,
    ".venv/bin/pip install --quiet -e .[dev,docs,plot]": TEST_COMMAND,
    ".venv/bin/ruff check .": TEST_COMMAND,
    ".venv/bin/ruff format --check .": TEST_COMMAND,
    ".venv/bin/mypy": TEST_COMMAND,
    ".venv/bin/python -m pytest -n 2 --dist loadfile": TEST_COMMAND,
    "deepedit-serve --model runs/spleen/model.pt --studies cases --dicomweb http://localhost:8042/dicom-web": (
        "needs a DICOM store; tests/server/test_dicomweb.py has one"
    ),
    "python -m benchmarks.gpu --minutes 8 --output gpu --input Task04_Hippocampus": "needs a GPU",
    "python -m benchmarks.click_pictures --model runs/phantom/model.pt --input runs/phantom/phantom --output docs": (
        "needs a well-trained model, since it looks for cases that show each rule"
    ),
    "python -m tests.soak.slicer": (
        "trains twice, for minutes; tests/server/test_slicer_training.py does the same with a tiny network"
    ),
    "python -m tests.soak.ohif --screenshots pictures": "needs OHIF and a DICOM store",
}
"""Commands that no test runs, and why."""

SHORTENED = {
    "deepedit-train": "--epochs 1",
    "deepedit-train --spacing": "--max-minutes 0.05 --limit 4 --spacing 12",
    "deepedit-train --import-monai": "--grid 32,32,32",
    "deepedit-train --export": "",
    "deepedit_cli.train": "--max-minutes 0.05",
    "deepedit-evaluate": "--max-clicks 1",
    "benchmarks.click_effects": "--cases 1 --max-clicks 1",
    "benchmarks.click_simulation": "--sizes 16 --repeats 1 --peer-seconds 0.1",
    "benchmarks.dicom_reading": "--size 32 --slices 8",
    "benchmarks.large_volume": "--slices 8 --side 32",
    "benchmarks.monai_parity": "--size 32 --filters 4 8 8 8 8 8 --repeats 1 --step-repeats 1",
    "benchmarks.orientation": "--max-clicks 1",
    "benchmarks.page": "--clicks 1 --quick",
    "benchmarks.page_answers": "--clicks 1 --quick",
    "benchmarks.refined_answers": "--cases 1 --max-clicks 1",
    "benchmarks.server_latency": "--clicks 1 --quick",
    "benchmarks.training_step": "--volume 32 --patch-size 32 --steps 1 --warmup 1",
    "benchmarks.tries": "--steps 2 --patch-size 16,16,16",
    "tests.soak.attack": "--requests 20",
    "tests.soak.fuzz": "--cases 20",
    "tests.soak.kill": "--kills 1 --epochs 1",
    # In so little time the memory that it starts with is not reached, so that more is allowed to grow.
    "tests.soak.serve": "--minutes 0.03 --clients 2 --kills 1 --memory 1",
    "curl": "--fail",
}
"""What a command is given besides, which replaces its own times and sizes, since the last one given counts. It is of
the last key whose words all stand in the command."""

MEASURING = ("benchmarks", "research")
"""Pages with a file of tests of their own, so that two workers share the time."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: that it stands on.
        line: of its fence.
        language: as it stands behind the fence.
        text: what it holds.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of its commands; lines that end in a backslash go on."""
        lines = self.text.replace("\\\n", " ").splitlines()
        commands = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
        return [words for words in commands if words]

    @property
    def code(self) -> str:
        """What it holds without the comments of a shell."""
        return self.text if self.language == "python" else "\n".join(map(" ".join, self.commands))

    @property
    def run(self) -> list[list[str]]:
        """The commands that a test runs."""
        if self.language == "python":
            return [["python", "-c", self.text]]
        return [words for words in self.commands if " ".join(words) not in NOT_RUN]


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page that are in one of the languages, from top to bottom."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for found in re.finditer(r"^ *```(\w+)\n(.*?)^ *```$", text, flags=re.DOTALL | re.MULTILINE)
        if found[1] in languages
    ]


def to_run(pages: Iterable[Path]) -> list[Block]:
    """The blocks of the pages that hold something to run, each once."""
    found: dict[str, Block] = {}
    for block in (block for page in pages for block in blocks(page, "bash", "python")):
        found.setdefault(block.text, block)
    return [block for block in found.values() if block.run]


def stands_in(key: str, words: list[str]) -> bool:
    """Whether all words of a key are among those of a command, whose program may be given by its path."""
    return {Path(words[0]).name, *words}.issuperset(key.split())


def shortened(words: list[str]) -> list[str]:
    """A command with small times and sizes."""
    more = [added for key, added in SHORTENED.items() if stands_in(key, words)]
    return [*words, *more[-1].split()] if more else words
