"""What the commands answer at once: their help, with the defaults that hold, and their version."""

import re
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import version

import pytest

import deepedit
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit_cli import evaluate, infer, serve, train

PROGRAMS = {"train": train, "infer": infer, "evaluate": evaluate, "serve": serve}
# Each of them takes as long to import as the rest of the command, or longer.
HEAVY = {"torch", "scipy", "nibabel", "SimpleITK", "tensorboard", "matplotlib", "PIL", "fastapi", "uvicorn", "tqdm"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_waits_for_nothing_heavy(program):
    code = f"""
import sys
from deepedit_cli.{program} import main
try:
    main(["--help"])
finally:
    print(*sorted(sys.modules))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    *lines, loaded = answer.stdout.splitlines()
    assert lines[0].startswith(f"usage: deepedit-{program} ")
    assert "numpy" in loaded.split()
    assert not HEAVY & set(loaded.split())


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_tells_the_version_of_the_package(program, capsys):
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[program].main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"deepedit {deepedit.__version__}\n"
    assert deepedit.__version__ == version("deepedit")


def test_the_defaults_that_help_tells_are_those_of_the_settings():
    text = " ".join(train.command_line().format_help().partition("\noptions:")[2].split())
    told = dict(re.findall(r"--([a-z-]+) [A-Z_]+ (?:(?! --).)*?\(default: ([0-9.]+)\)", text))
    settings = {each.name: each.default for kind in (RunSettings, TrainingConfig) for each in fields(kind)}
    assert {name: float(value) for name, value in told.items()} == {
        name: settings[name.replace("-", "_")]
        for name in (
            *("split", "split-seed", "workers", "epochs", "batch-size", "accumulate", "learning-rate"),
            *("click-probability", "max-clicks", "seed"),
        )
    }
