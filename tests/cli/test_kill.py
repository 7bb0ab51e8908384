"""A training run that is killed and resumed, for real; ``python -m tests.soak.kill`` does it hundreds of times."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parent.parent / "soak" / "kill.py"


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_killed_run_loses_nothing_and_ends_with_the_weights_of_one_that_was_not():
    command = [sys.executable, str(SOAK), "--kills", "6", "--epochs", "120", "--longest", "0.25"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "weights equal to the bit" in answer.stdout
    assert ", 0 killed while they ran" not in answer.stdout
