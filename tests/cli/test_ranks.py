"""Several processes, as torchrun starts them: the same weights and figures as one, and no hang when one dies."""

import csv
import json
import shutil
import socket
import time

import pytest
import torch

from deepedit.io.phantom import write_phantom
from deepedit.network.checkpoint import load_model, read_entries
from deepedit_cli import evaluate, infer, train
from tests.cli.refusals import write_model
from tests.forked import Forked

OPTIONS = ("--device", "cpu", "--amp", "off")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", num_cases=4, seed=0, shape=(24, 20, 16))


def start(dataset, run, *more, program=train, **surroundings):
    return Forked(program.main, ["--input", dataset, "--output", run, *OPTIONS, *more], run.parent, surroundings)


def start_two(dataset, run, *more, **program):
    """Both ranks of a run, with the surroundings that torchrun gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [start(dataset, run, *more, RANK=rank, LOCAL_RANK=rank, **given, **program) for rank in range(2)]


def test_two_processes_end_with_the_weights_of_one(dataset, tmp_path):
    # Sums in another order differ by rounding, which AdamW divides by the gradient: a parameter whose gradient is next
    # to nothing would differ by a share of the rate. This rate moves four of five parameters by more than ten
    # tolerances, and with this seed no gradient comes that near to nothing.
    more = ("--epochs", 4, "--batch-size", 4, "--click-probability", 0.5, "--learning-rate", 1e-2, "--seed", 1)
    alone = start(dataset, tmp_path / "one", *more)
    said, errors = alone.communicate(timeout=300)
    assert alone.returncode == 0, errors
    two = start_two(dataset, tmp_path / "two", *more)
    answers = [process.communicate(timeout=300) for process in two]
    assert [process.returncode for process in two] == [0, 0], answers
    one, other = (read_entries(tmp_path / name / "last.pt")["training"]["trainer"] for name in ("one", "two"))
    assert other["step"] == one["step"] >= 3
    assert sorted(other["slots"]) == sorted(one["slots"])
    for name, weight in one["network"].items():
        torch.testing.assert_close(other["network"][name], weight, atol=1e-5, rtol=0)
    models = [load_model(tmp_path / name / "model.pt") for name in ("one", "two")]
    assert models[0].training_cases == models[1].training_cases
    # The first rank alone talks, and says what a single process says.
    told, silent = (answer[0] for answer in answers)
    assert silent == ""
    assert len(told.splitlines()) == len(said.splitlines())
    assert not any("Warning" in answer[1] for answer in answers)


@pytest.mark.parametrize("dies", [0, 1])
def test_a_rank_that_dies_ends_the_run_with_a_message(dataset, tmp_path, dies):
    run = tmp_path / "run"
    progress = tmp_path / "progress.json"
    two = start_two(dataset, run, "--epochs", 10000, "--batch-size", 4, "--progress", progress)
    try:
        patience = time.monotonic() + 120
        while not progress.exists():  # once a step is done
            assert two[0].poll() is None, two[0].communicate(0)
            assert time.monotonic() < patience
            time.sleep(0.1)
        two[dies].kill()
        _, errors = two[1 - dies].communicate(timeout=120)
    finally:
        for process in two:
            process.kill()
    assert two[1 - dies].returncode == 2, errors
    assert "another process of this run has ended" in errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    load_model(run / "last.pt")


def test_a_batch_that_cannot_be_shared_evenly_is_an_error(dataset, tmp_path):
    two = start_two(dataset, tmp_path / "run", "--batch-size", 3)
    for process in two:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 2
        assert "--batch-size" in errors


def test_two_processes_evaluate_as_one_does_and_a_bad_case_costs_itself_only(dataset, tmp_path):
    data, model = shutil.copytree(dataset, tmp_path / "data"), tmp_path / "model.pt"
    (data / "labelsTr" / "phantom_01.nii.gz").write_bytes(b"damaged")  # the second rank's
    (data / "imagesTr" / "phantom_09.nii").write_bytes(b"")  # to be told of once
    write_model(model)
    more = ("--model", model, "--cases", "all", "--limit", 3, "--max-clicks", 2, "--oracle")
    runs = {1: [start(data, tmp_path / "1", *more, program=evaluate)]}
    runs[2] = start_two(data, tmp_path / "2", *more, program=evaluate)
    said = {size: [process.communicate(timeout=300) for process in run] for size, run in runs.items()}
    # Of two only the first fails, and last: torchrun ends all processes as soon as one of them fails.
    assert [process.returncode for run in runs.values() for process in run] == [2, 2, 0], said
    assert said[2][1] == ("", "")
    one, two = (each[0] for each in said.values())
    assert "phantom_01 is left out" in one[1]
    assert two[1] == one[1]
    cases = [line for line in one[0].splitlines() if ": Dice" in line]
    assert [line[:10] for line in cases] == ["phantom_00", "phantom_02"]
    assert [line for line in two[0].splitlines() if ": Dice" in line] == cases
    assert report_without_seconds(tmp_path / "2") == report_without_seconds(tmp_path / "1")


def test_two_processes_share_images_and_a_bad_one_costs_itself_only(dataset, tmp_path):
    images, model, out = shutil.copytree(dataset / "imagesTr", tmp_path / "images"), tmp_path / "model.pt", "out"
    names = sorted(path.name for path in images.iterdir())
    (images / names[1]).write_bytes(b"damaged")  # the second rank's
    write_model(model)
    more = ("--model", model, "--save-clicks", tmp_path / "clicks")
    two = start_two(images, tmp_path / out, *more, program=infer)
    said = [process.communicate(timeout=300) for process in two]
    assert [process.returncode for process in two] == [2, 0], said
    assert names[1] in said[1][1]
    assert f"1 of {len(names)} images failed" in said[0][1]
    assert sorted(path.name for path in (tmp_path / out).iterdir()) == [names[0], *names[2:]]
    # What is there already is refused by all, before any of them begins.
    again = start_two(images, tmp_path / out, *more, program=infer)
    assert all("is there already" in process.communicate(timeout=300)[1] for process in again)
    assert [process.returncode for process in again] == [2, 2]


def test_with_more_processes_than_images_some_have_nothing_to_do(dataset, tmp_path):
    image, model = tmp_path / "images" / "case.nii.gz", tmp_path / "model.pt"
    image.parent.mkdir()
    shutil.copy(next((dataset / "imagesTr").iterdir()), image)
    write_model(model)
    two = start_two(image.parent, tmp_path / "out", "--model", model, program=infer)
    said = [process.communicate(timeout=300) for process in two]
    assert [process.returncode for process in two] == [0, 0], said
    assert (tmp_path / "out" / image.name).exists()


def report_without_seconds(folder):
    report = json.loads((folder / "report.json").read_text())
    del report["clicks"]["seconds"]
    with open(folder / "report.csv", newline="") as stream:
        rows = [{**row, "seconds": None} for row in csv.DictReader(stream)]
    return sorted(path.name for path in folder.iterdir()), report, rows
