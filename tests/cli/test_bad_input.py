"""What users hand in by mistake, and attackers on purpose: one clear line, status 2, and nothing left half-written."""

import gzip
import io
import os
import pickle
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import torch

from deepedit.io.phantom import write_phantom
from deepedit.network.checkpoint import read_entries, save_model
from deepedit.network.unet import NETWORKS, UNetConfig
from deepedit_cli import infer, train
from tests.inference.networks import random_model
from tests.obedient import obedient_model, two_blocks
from tests.soak.fuzz import Bomb


def image_bytes(data=None, affine=None, **header):
    """A NIfTI file of two blocks, or of other data, with fields of its header overwritten."""
    image = nib.Nifti1Image(two_blocks().astype(np.float32) if data is None else data, np.eye(4), dtype=np.float32)
    image.header["sform_code"], image.header["vox_offset"] = 1, 352
    if affine is not None:
        for row, values in zip(("srow_x", "srow_y", "srow_z"), affine, strict=False):
            image.header[row] = values
    for field, values in header.items():
        image.header[field] = values
    content = io.BytesIO()
    image.header.write_to(content)
    return content.getvalue() + np.asarray(image.dataobj, np.float32).tobytes(order="F")


def with_voxel(value):
    data = two_blocks().astype(np.float32)
    data[3, 3, 3] = value
    return data


IMAGES = {
    "not NIfTI": (b"GIF89a" * 100, "not a NIfTI file"),
    "gzip cut short": (gzip.compress(image_bytes())[:-40], "cut short"),
    "zero bytes": (b"", "the file is empty"),
    "header promises more than there is": (image_bytes(dim=[3, 64, 64, 64, 1, 1, 1, 1]), "cut short"),
    "NaN voxel": (image_bytes(with_voxel(np.nan)), "1 of 4096 voxels"),
    "infinite voxel": (image_bytes(with_voxel(np.inf)), "1 of 4096 voxels"),
    "constant": (image_bytes(np.full((8, 8, 8), 7, np.float32)), "every voxel has the value 7"),
    "2D": (image_bytes(np.zeros((8, 8), np.float32)), "2D image"),
    "5D": (image_bytes(np.zeros((4, 4, 4, 2, 2), np.float32)), "5D image"),
    "zero affine": (image_bytes(affine=np.zeros((3, 4))), "affine is singular"),
    "singular affine": (image_bytes(affine=[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]), "affine is singular"),
    "spacing of 1e-6 mm": (image_bytes(affine=1e-6 * np.eye(4)[:3]), "cannot be right"),
    "spacing of 1e6 mm": (image_bytes(affine=1e6 * np.eye(4)[:3]), "cannot be right"),
}


@pytest.fixture
def call(capsys):
    """Run a command line that must fail; returns its lines on standard error."""

    def call(main, *arguments):
        assert main([*map(str, arguments), "--device", "cpu"]) == 2
        return capsys.readouterr().err.splitlines()

    return call


@pytest.fixture
def obedient(monkeypatch):
    """Whatever --model names, it is a small model that works."""
    monkeypatch.setattr(infer, "load_model", lambda path, device: obedient_model())


@pytest.mark.usefixtures("obedient")
@pytest.mark.parametrize(("content", "said"), IMAGES.values(), ids=IMAGES)
def test_a_bad_image_is_named_and_the_others_of_its_folder_are_done(call, tmp_path, content, said):
    folder, results = tmp_path / "images", tmp_path / "results"
    folder.mkdir()
    bad = folder / "bad.nii.gz"
    bad.write_bytes(content)
    (line,) = call(infer.main, "--model", "m.pt", "--input", bad, "--output", tmp_path / "seg.nii.gz")
    assert line.startswith(f"deepedit-infer: {bad}: ")
    assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    (folder / "good.nii.gz").write_bytes(image_bytes())
    line, summary = call(infer.main, "--model", "m.pt", "--input", folder, "--output", results)
    assert said in line
    assert "1 of 2 images failed" in summary
    assert [path.name for path in results.iterdir()] == ["good.nii.gz"]


@pytest.mark.usefixtures("obedient")
def test_an_image_larger_than_memory_is_estimated_and_not_read(call, tmp_path, monkeypatch):
    path = tmp_path / "large.nii"
    content = image_bytes(dim=[3, 30000, 30000, 2000, 1, 1, 1, 1])
    path.write_bytes(content)
    os.truncate(path, len(content) + 4 * 30000 * 30000 * 2000)  # a hole, which takes no room on the disk
    (line,) = call(infer.main, "--model", "m.pt", "--input", path, "--output", tmp_path / "seg.nii.gz")
    assert "large.nii" in line
    assert "GiB" in line


CLICKS = {
    "not JSON": ("[1, 2", "not valid JSON"),
    "NaN": ('{"left": [[NaN, 1, 2]]}', "NaN is not a JSON number"),
    "deep nesting": ("[" * 100_000, "nested too deeply"),
    "huge number": ('{"left": [[1e300, 1, 2]]}', "1e+300"),
    "number of a million digits": ('{"left": [[' + "1" * 1_000_000 + ", 1, 2]]}", "not valid JSON"),
    "wrong types": ('{"space": "ras", "clicks": {"label": 3}}', "clicks"),
    "unknown label": ('{"rihgt": [[1, 2, 3]]}', "did you mean right"),
    "outside of the image": ('{"left": [[1, 2, 300]]}', "outside the image"),
}


@pytest.mark.usefixtures("obedient")
@pytest.mark.parametrize(("content", "said"), CLICKS.values(), ids=CLICKS)
def test_bad_clicks_name_their_file(call, tmp_path, content, said):
    image, clicks = tmp_path / "case.nii.gz", tmp_path / "clicks.json"
    image.write_bytes(image_bytes())
    clicks.write_text(content)
    (line,) = call(
        infer.main, "--model", "m.pt", "--input", image, "--output", tmp_path / "seg.nii.gz", "--clicks", clicks
    )
    assert str(clicks) in line
    assert said in line
    assert len(line) < 400
    assert not (tmp_path / "seg.nii.gz").exists()


def truncated(path):
    path.write_bytes(path.read_bytes()[:-500])


def newer(path):
    torch.save({**read_entries(path), "version": 99}, path)


def with_code(path):
    with path.open("wb") as stream:
        pickle.dump(Bomb(path.parent / "executed"), stream)


def code_inside(path):
    torch.save({"format": "deepedit", "version": 1, "plan": Bomb(path.parent / "executed")}, path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, "damaged"),
        (newer, "newer"),
        (with_code, "more than weights"),
        (code_inside, "more than weights"),
    ],
)
def test_a_bad_model_is_named_and_runs_nothing(call, tmp_path, damage, said):
    image, model = tmp_path / "case.nii.gz", tmp_path / "model.pt"
    image.write_bytes(image_bytes())
    save_model(model, random_model())
    damage(model)
    (line,) = call(infer.main, "--model", model, "--input", image, "--output", tmp_path / "seg.nii.gz")
    assert line.startswith(f"deepedit-infer: {model}: ")
    assert said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case.nii.gz", "model.pt"]


def write_nifti(path, data, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)


def relabel(change):
    """Damage to the label file of a dataset's first case, as a change to its voxels."""

    def damage(folder):
        path = folder / "labelsTr" / "phantom_00.nii.gz"
        image = nib.load(path)
        write_nifti(path, change(np.asarray(image.dataobj)), image.affine)

    return damage


def other_affine(folder):
    path = folder / "labelsTr" / "phantom_00.nii.gz"
    image = nib.load(path)
    write_nifti(path, np.asarray(image.dataobj), image.affine + np.diag([0.5, 0, 0, 0]))


def duplicate(folder):
    (folder / "dataset.json").unlink()
    path = folder / "imagesTr" / "phantom_00.nii.gz"
    nib.save(nib.load(path), path.with_name("phantom_00.nii"))


def described(text):
    return lambda folder: (folder / "dataset.json").write_text(text)


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def with_value(value, dtype):
    def change(data):
        data = data.astype(dtype)
        data[0, 0, 0] = value
        return data

    return relabel(change)


DATASETS = {
    "missing": (shutil.rmtree, "no such folder"),
    "empty": (emptied, "imagesTr"),
    "a duplicate case": (duplicate, "phantom_00"),
    "image and label of different shapes": (relabel(lambda data: data[:-1]), "phantom_00"),
    "image and label of different affines": (other_affine, "phantom_00"),
    "a negative label": (with_value(-1, np.int16), "-1"),
    "a fractional label": (with_value(0.5, np.float32), "0.5"),
    "an unknown label": (with_value(77, np.uint8), "77"),
    "description is not JSON": (described("{"), "not valid JSON"),
    "description is nested deeply": (described('{"labels":' * 50_000), "nested too deeply"),
    "description with NaN": (described('{"labels": {"1": NaN}}'), "NaN"),
    "description with a huge number": (described('{"labels": {"liver": 1e300}}'), "liver"),
    "description of wrong types": (described('{"labels": 3, "training": {}}'), "labels"),
}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", num_cases=3, seed=0, shape=(24, 20, 16))


@pytest.fixture
def dataset(phantom, tmp_path):
    return shutil.copytree(phantom, tmp_path / "dataset")


@pytest.mark.parametrize(("damage", "said"), DATASETS.values(), ids=DATASETS)
def test_a_bad_dataset_is_told_before_anything_is_trained(call, dataset, tmp_path, damage, said):
    damage(dataset)
    lines = call(train.main, "--input", dataset, "--output", tmp_path / "run")
    assert str(dataset) in lines[0]
    assert any(said in line for line in lines)
    assert len(lines) <= 3
    assert not list((tmp_path / "run").glob("*"))


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setitem(NETWORKS, "light", UNetConfig(filters=(2, 2), strides=(1, 2), kernels=(1, 1)))
    monkeypatch.setattr(train, "on_terminal", lambda: False)


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("cases", [1, 3])
def test_a_label_file_empty_of_foreground_and_a_single_case_train(dataset, tmp_path, capsys, cases):
    for number in range(cases, 3):
        for room in ("imagesTr", "labelsTr"):
            (dataset / room / f"phantom_0{number}.nii.gz").unlink()
    (dataset / "dataset.json").unlink()
    if cases > 1:
        relabel(np.zeros_like)(dataset)
    run = tmp_path / "run"
    assert train.main(["--input", str(dataset), "--output", str(run), "--epochs", "1", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert ("phantom_00" in said.split("try it")[0]) == (cases > 1), said
    assert (run / "model.pt").exists()


@pytest.mark.usefixtures("obedient")
def test_an_output_that_cannot_be_written_is_told_before_the_work(call, dataset, tmp_path):
    image, file = tmp_path / "case.nii.gz", tmp_path / "file"
    image.write_bytes(image_bytes())
    file.touch()
    (line,) = call(infer.main, "--model", "m.pt", "--input", image, "--output", file / "seg.nii.gz")
    assert str(file) in line
    (line,) = call(train.main, "--input", dataset, "--output", file / "run")
    assert str(file) in line
    assert file.read_bytes() == b""


@pytest.fixture
def full_disk(tmp_path):
    """A disk of two pages."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted without root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.usefixtures("small_network")
def test_a_full_disk_leaves_what_was_there(call, dataset, tmp_path, full_disk, monkeypatch):
    monkeypatch.setattr(infer, "load_model", lambda path, device: obedient_model())
    image, result = tmp_path / "case.nii.gz", full_disk / "seg.nii"
    image.write_bytes(image_bytes())
    result.write_bytes(b"earlier")
    (line,) = call(infer.main, "--model", "m.pt", "--input", image, "--output", result, "--overwrite")
    assert line == f"deepedit-infer: {result}: cannot be written: No space left on device; nothing was left behind"
    assert result.read_bytes() == b"earlier"
    assert os.listdir(full_disk) == ["seg.nii"]
    lines = call(train.main, "--input", dataset, "--output", full_disk / "run", "--cache-dir", tmp_path / "cache")
    assert "No space left on device" in lines[-1]
    assert not list((full_disk / "run").glob("*.pt"))
    lines = call(train.main, "--input", dataset, "--output", tmp_path / "run", "--cache-dir", full_disk)
    assert str(full_disk) in lines[-1]
    assert "No space left on device" in lines[-1]
    assert sorted(os.listdir(full_disk)) == ["run", "seg.nii"]
