"""Fine-tuning beside a server: it is told as clients read it, ends as it is asked to, and adopts what is not worse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepedit.errors import DeepEditError
from deepedit.io.phantom import write_phantom
from deepedit.network.checkpoint import load_model, read_entries, save_model
from deepedit.server import child, pruning
from deepedit.server.adopted import adopted_model
from deepedit.server.comparison import Comparison
from deepedit.server.errors import Busy
from deepedit.server.finetuning import FineTuning
from tests.cli.refusals import write_model

BETTER = Comparison(("study_1",), (0.5, 0.6), (0.6, 0.8))
WORSE = Comparison(("study_1", "study_2"), (0.5, 0.6), (0.4, 0.5))
LONG = {"max_minutes": 5}
SECONDS = 90
"""Longest wait for a process that is begun: others may be at work on the machine."""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", num_cases=6, seed=1, shape=(24, 24, 24))


@pytest.fixture
def studies(tmp_path, phantom):
    """A folder with five submitted cases and one that nobody has looked at."""
    final = tmp_path / "studies" / "labels" / "final"
    final.mkdir(parents=True)
    for number, path in enumerate(sorted((phantom / "imagesTr").iterdir())):
        shutil.copy(path, tmp_path / "studies" / f"study_{number}.nii.gz")
        if number < 5:
            shutil.copy(phantom / "labelsTr" / path.name, final / f"study_{number}.nii.gz")
    return tmp_path / "studies"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "run" / "model.pt"
    path.parent.mkdir()
    write_model(path)
    return path


@pytest.fixture
def tuning(model, studies):
    """Make a `FineTuning`, which is closed at the end; what it adopted and said is in its lists."""
    made = []

    def make(**more):
        adopted, said = [], []
        tuning = FineTuning(model, studies, adopted.append, said.append, device="cpu", **more)
        tuning.adopted, tuning.said = adopted, said
        made.append(tuning)
        return tuning

    yield make
    for each in made:
        each.close()


@pytest.fixture
def at_once(monkeypatch):
    """Let a process that copies a model take the place of training."""

    def start(module, arguments, log):
        options = dict(each.partition("=")[::2] for each in arguments)
        program = "import shutil, sys; shutil.copy(*sys.argv[1:])"
        output = os.path.join(options["--output"], "model.pt")
        command = [sys.executable, "-c", program, options["--init-weights"], output]
        return subprocess.Popen(command, stdin=subprocess.PIPE)

    monkeypatch.setattr(child, "start", start)


def until(holds):
    end = time.monotonic() + SECONDS
    while not (found := holds()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found


def ended(tuning):
    until(lambda: not tuning.running)
    return tuning.status()


def training_steps(tuning):
    """Wait until steps are made."""
    until(lambda: tuning._task.share() > 0 or not tuning.running)
    assert tuning.running, tuning.status()


@pytest.mark.slow
def test_a_training_is_told_as_clients_read_it_and_its_model_compared(tuning, model, studies):
    before = model.read_bytes()
    mine = tuning()
    assert mine.status() is None
    assert mine.stats() == {}
    answer = mine.start({"max_minutes": "0.05", "client_id": "user-xyz"})
    assert answer["status"] == "SUBMITTED"
    at_once = mine.status()
    assert (at_once["id"], at_once["status"]) == (answer["id"], "RUNNING")
    assert at_once["details"]
    time.strptime(at_once["start_ts"], "%Y-%m-%d %H:%M:%S")
    assert "end_ts" not in at_once
    with pytest.raises(Busy, match="under way"):
        mine.start({})
    (stats,) = mine.stats().values()
    assert 0 <= stats["epoch"] < stats["total_epochs"] == 100
    assert f"{stats['best_metric']:.4f}"
    assert "total_time" not in stats

    status = ended(mine)
    assert status["status"] == "DONE", status
    time.strptime(status["end_ts"], "%Y-%m-%d %H:%M:%S")
    assert len(status["details"]) <= 20
    assert "mean Dice 0." in status["details"][-1]
    assert mine.stats()["deepedit"]["epoch"] == 100
    assert "total_time" in mine.stats()["deepedit"]
    assert json.dumps([status, answer, mine.stats(), mine.trainers()])

    folder = mine._task.folder
    old, new = load_model(model), load_model(folder / "model.pt")
    comparison = json.loads((folder / "comparison.json").read_text())
    assert {*comparison["cases"]} <= {*new.validation_cases}
    assert not {*comparison["cases"]} & {*old.training_cases, *new.training_cases}
    assert not (folder / "last.pt").exists()
    assert model.read_bytes() == before
    assert mine.adopted == ([] if "stays as it was" in status["details"][-1] else [mine.current])


def test_a_model_that_is_better_is_served_from_then_on_and_the_old_one_kept(tuning, at_once, model, studies):
    before = model.read_bytes()
    mine = tuning(compare=lambda old, new: BETTER)
    mine.start(LONG)
    assert ended(mine)["status"] == "DONE"
    (adopted,) = mine.adopted
    assert mine.current == adopted
    assert mine.stats()["deepedit"]["best_metric"] == pytest.approx(0.7)
    assert "0.7000 of the new model, 0.5500 of the old one" in mine.said[0]
    assert model.read_bytes() == before
    # After a restart, too, and what is adopted next derives from it.
    path, line = adopted_model(model, studies)
    assert path == adopted
    assert f"serving {adopted}, which was fine-tuned from {model}" in line
    again = tuning(compare=lambda old, new: BETTER)
    assert again.current == adopted
    again.start(LONG)
    assert ended(again)["status"] == "DONE"
    assert again.current != adopted
    assert adopted_model(model, studies)[0] == again.current
    assert adopted.exists()
    # Another model in its place derives from nothing here.
    save_model(model, load_model(model), {"best": 0.5})
    assert adopted_model(model, studies) == (model, f"serving {model}")


def test_a_model_that_is_worse_is_not_adopted(tuning, at_once, model, studies):
    mine = tuning(compare=lambda old, new: WORSE)
    mine.start(LONG)
    status = ended(mine)
    assert status["status"] == "DONE"
    assert "the model stays as it was" in status["details"][-1]
    assert "0.4500 of the new model, 0.5500 of the old one, on 2 cases" in status["details"][-1]
    assert (mine.adopted, mine.current) == ([], model)
    assert adopted_model(model, studies)[0] == model
    assert mine.stats()["deepedit"]["best_metric"] == pytest.approx(0.55)


def test_a_model_that_the_server_cannot_take_leaves_the_old_one(tuning, at_once, model, studies):
    mine = tuning(compare=lambda old, new: BETTER)

    def refuse(path):
        raise DeepEditError("no memory for it; close other programs")

    mine.adopt = refuse
    mine.start(LONG)
    status = ended(mine)
    assert status["status"] == "ERROR"
    assert status["details"][-1] == "training failed: no memory for it; close other programs"
    assert mine.current == adopted_model(model, studies)[0] == model


def test_an_adoption_that_cannot_be_recorded_is_taken_back(tuning, at_once, model, studies):
    mine = tuning(compare=lambda old, new: BETTER)
    (mine.folder / "adopted.json").mkdir(parents=True)
    mine.start(LONG)
    status = ended(mine)
    assert status["status"] == "ERROR"
    assert "adopted.json: is there already and is not a regular file" in status["details"][-1]
    assert mine.adopted == [mine.folder / f"{mine._task.folder.name}.pt", model]
    assert mine.current == adopted_model(model, studies)[0] == model


def test_an_adopted_model_that_is_damaged_is_told_and_not_served(tuning, at_once, model, studies):
    mine = tuning(compare=lambda old, new: BETTER)
    mine.start(LONG)
    ended(mine)
    mine.current.write_bytes(b"damaged")
    path, line = adopted_model(model, studies)
    assert path == model
    assert line.startswith(f"serving {model}, as the model that was fine-tuned from it cannot be read")
    (mine.current.parent / "adopted.json").write_text("{}")
    assert adopted_model(model, studies)[0] == model


@pytest.mark.parametrize(
    ("submitted", "missing"), [(0, "submit one first"), (1, "submit 4 more"), (4, "submit 1 more")]
)
def test_too_few_cases_are_refused_with_how_many_are_missing(tuning, studies, submitted, missing):
    for number in range(submitted, 5):
        (studies / "labels" / "final" / f"study_{number}.nii.gz").unlink()
    mine = tuning()
    with pytest.raises(DeepEditError, match=missing):
        mine.start({})
    assert mine.status() is None
    assert not (studies / ".deepedit" / "training").exists()


def test_a_new_model_is_taken_unproven_if_that_was_asked_for(tuning, at_once, studies):
    for number in range(1, 5):
        (studies / "labels" / "final" / f"study_{number}.nii.gz").unlink()
    mine = tuning(unproven=True, compare=lambda old, new: WORSE)
    mine.start(LONG)
    assert ended(mine)["status"] == "DONE"
    assert mine.adopted == [mine.current]
    assert "without a comparison" in mine.said[0]


def test_cases_that_were_all_trained_on_prove_nothing(tuning, model):
    seen = load_model(model)
    seen.training_cases = tuple(f"study_{number}" for number in range(5))
    save_model(model, seen)
    with pytest.raises(DeepEditError, match="trained on all 5 submitted cases"):
        tuning().start({})


@pytest.mark.parametrize("minutes", [25, 0.5, "25", " 7.5 ", 10080])
def test_minutes_may_be_a_number_or_text(tuning, at_once, minutes):
    mine = tuning(compare=lambda old, new: WORSE)
    assert mine.start({"max_minutes": minutes})["request"] == {"max_minutes": float(minutes)}


@pytest.mark.parametrize("minutes", [0, -1, "", "soon", "nan", "inf", 1e9, None, True, [25], 10**400, "1e999"])
def test_other_minutes_are_refused_in_a_sentence(tuning, minutes):
    mine = tuning()
    with pytest.raises(DeepEditError, match="max_minutes should be a number of minutes above 0") as error:
        mine.start({"max_minutes": minutes})
    assert "\n" not in str(error.value)
    assert not mine.running


@pytest.mark.slow
def test_a_training_that_is_stopped_saves_its_state_and_another_may_begin(tuning, model):
    mine = tuning()
    assert mine.stop() is None
    mine.start(LONG)
    training_steps(mine)
    process = mine._task.process
    status = mine.stop()
    assert status["status"] == "STOPPED"
    assert status["details"][-1] == "training was stopped; the model stays as it was"
    assert process.poll() == 130
    folder = mine._task.folder
    assert read_entries(folder / "last.pt")["training"]["trainer"]["step"] > 0
    assert mine.stop()["status"] == mine.status()["status"] == "STOPPED"
    assert (mine.adopted, mine.current) == ([], model)
    mine.start(LONG)
    assert mine.running
    assert mine.stop()["status"] == "STOPPED"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_process_that_is_killed_is_an_error_with_a_sentence(tuning):
    mine = tuning()
    mine.start(LONG)
    until(lambda: mine._task.process)
    mine._task.process.send_signal(signal.SIGKILL)
    status = ended(mine)
    assert status["status"] == "ERROR"
    assert "ended by signal 9, perhaps as memory ran out" in status["details"][-1]


@pytest.mark.slow
def test_a_process_that_does_not_listen_is_killed(tuning, monkeypatch):
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
    )

    def start(module, arguments, log):
        with open(log, "ab") as lines:
            return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=lines)

    usual = child.end
    monkeypatch.setattr(child, "start", start)
    monkeypatch.setattr(child, "end", lambda process: usual(process, 0.3))
    mine = tuning()
    mine.start(LONG)
    until(lambda: "deaf" in mine.status()["details"])
    assert mine.stop()["status"] == "STOPPED"
    assert mine._task.process.poll() is not None


@pytest.mark.slow
def test_what_the_training_complains_of_is_the_error(tuning, studies):
    for path in (studies / "labels" / "final").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    mine = tuning()
    mine.start(LONG)
    status = ended(mine)
    assert status["status"] == "ERROR"
    assert "no case with a label map of liver, spleen, aorta can be used" in status["details"][-1]


SERVER = """
import sys, time
from pathlib import Path
from deepedit.server.finetuning import FineTuning
tuning = FineTuning(Path(sys.argv[1]), Path(sys.argv[2]), print, print, device="cpu")
tuning.start({"max_minutes": 5})
while tuning._task.share() == 0:
    time.sleep(0.05)
print(tuning._task.process.pid, tuning._task.folder, flush=True)
time.sleep(300)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_server_that_is_killed_leaves_no_training_behind(model, studies):
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(model), str(studies)], stdout=subprocess.PIPE, text=True
    )
    number, folder = server.stdout.readline().split(maxsplit=1)
    server.kill()
    server.wait()
    until(lambda: not alive(int(number)))
    assert "stopped; go on with" in (Path(folder.strip()) / "log.txt").read_text()


def alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    # Without anybody to wait for it, a process that has ended stays in the table.
    status = Path(f"/proc/{number}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_older_trainings_go_and_no_model_in_use_with_them(tuning, at_once, monkeypatch, model, studies):
    monkeypatch.setattr(pruning, "KEPT", 2)
    own = studies / ".deepedit"
    served = own / "training" / "2020-01-01_00-00-00-000000" / "model.pt"
    served.parent.mkdir(parents=True)
    shutil.copy(model, served)
    (own / "training" / "my notes").mkdir()
    everything = {path: path.read_bytes() for path in studies.rglob("*") if path.is_file() and own not in path.parents}
    first = tuning(compare=lambda old, new: BETTER, others=[served])
    first.start(LONG)
    ended(first)
    (entry,) = own.glob("models/*/*.pt")
    worse = tuning(compare=lambda old, new: WORSE, others=[served])
    for _ in range(3):
        worse.start(LONG)
        ended(worse)
        assert worse.current == entry
    better = tuning(compare=lambda old, new: BETTER, others=[served])
    for _ in range(3):
        better.start(LONG)
        ended(better)
    runs = sorted(path.name for path in (own / "training").iterdir())
    assert len(runs) == 4
    assert {served.parent.name, "my notes", better._task.folder.name} < {*runs}
    kept = sorted(own.glob("models/*/*.pt"))
    assert len(kept) == 3
    assert better.current == kept[-1] == adopted_model(model, studies)[0]
    assert not entry.exists()
    removed = [line for line in better.said if line.startswith("removed from .deepedit: ")]
    assert any(entry.stem in line for line in removed)
    assert everything.items() <= {path: path.read_bytes() for path in studies.rglob("*") if path.is_file()}.items()
    assert served.exists()
    assert model.exists()


def test_prepared_cases_that_a_training_did_not_use_go_when_it_is_over(tuning, at_once, studies):
    cache = studies / ".deepedit" / "cache"
    for name in ("old-0", "used-1"):
        (cache / name).mkdir(parents=True)
    os.utime(cache / "old-0", (1, 1))
    os.utime(cache / "used-1", (2**33, 2**33))
    mine = tuning(compare=lambda old, new: WORSE)
    mine.start(LONG)
    ended(mine)
    assert [path.name for path in cache.iterdir()] == ["used-1"]
    assert "removed from .deepedit: 1 prepared case of earlier trainings" in mine.said
