"""Model files: what is written comes back, what is damaged or hostile is refused, and nothing is half-written."""

import os
import pickle
import zipfile

import pytest
import torch

from deepedit.errors import FileError, ModelError
from deepedit.network.checkpoint import FORMAT_VERSION, load_model, read_entries, save_model
from deepedit.network.refiner import build_refiner


def test_a_model_comes_back_as_it_was_saved(model, tmp_path):
    save_model(tmp_path / "model.pt", model)
    loaded = load_model(tmp_path / "model.pt")
    assert loaded.plan == model.plan
    assert loaded.network.config == model.network.config
    assert (loaded.training_cases, loaded.validation_cases) == (("a", "b"), ("c",))
    assert not loaded.network.training
    inputs = torch.randn(1, 6, 16, 16, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.network(inputs), model.network(inputs))


def test_a_refiner_comes_back_as_it_was_saved(model, tmp_path):
    model.refiner = build_refiner(model.plan.image_channels, model.plan.labels.num_classes, seed=4)
    save_model(tmp_path / "model.pt", model)
    loaded = load_model(tmp_path / "model.pt").refiner
    assert not loaded.training
    for name, tensor in model.refiner.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_file_of_a_version_without_refiners_has_none(model, tmp_path):
    save_model(tmp_path / "model.pt", model)
    entries = torch.load(tmp_path / "model.pt", weights_only=True)
    del entries["refiner"]
    torch.save({**entries, "version": 4}, tmp_path / "model.pt")
    assert load_model(tmp_path / "model.pt").refiner is None


def test_the_state_of_training_travels_beside_the_model(model, tmp_path):
    save_model(tmp_path / "last.pt", model, training={"step": 3, "tensor": torch.ones(2)})
    assert read_entries(tmp_path / "last.pt")["training"]["step"] == 3
    assert load_model(tmp_path / "last.pt").plan == model.plan


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(model, tmp_path, share):
    path = tmp_path / "model.pt"
    save_model(path, model)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match=r"model\.pt"):
        load_model(path)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_code_in_a_file_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "deepedit", "weights": Payload()}, tmp_path / "torch.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Payload()))
    for name in ("torch.pt", "plain.pt"):
        with pytest.raises(ModelError, match=name):
            load_model(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_other_files_and_newer_formats_are_named(model, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="not a model of this package"):
        load_model(tmp_path / "other.pt")
    save_model(tmp_path / "new.pt", model)
    entries = torch.load(tmp_path / "new.pt", weights_only=True)
    torch.save({**entries, "version": FORMAT_VERSION + 1}, tmp_path / "new.pt")
    with pytest.raises(ModelError, match="newer"):
        load_model(tmp_path / "new.pt")
    with pytest.raises(FileError, match="no such"):
        load_model(tmp_path / "missing.pt")


@pytest.mark.parametrize(
    ("entry", "damage"),
    [
        *((entry, damage) for entry in ("plan", "network", "weights") for damage in (None, 3, {"x": 1}, "text")),
        ("training_cases", None),
        ("training_cases", 3),
        *(("refiner", damage) for damage in (3, {"x": 1}, "text")),
    ],
)
def test_a_damaged_entry_is_an_error_of_the_package(model, tmp_path, entry, damage):
    save_model(tmp_path / "model.pt", model)
    entries = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save({**entries, entry: damage}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="damaged"):
        load_model(tmp_path / "model.pt")


def nested_without_end():
    """Small in memory, and endless as text."""
    value = ["ha"]
    for _ in range(30):
        value = [value] * 10
    return value


@pytest.mark.parametrize("value", [nested_without_end(), torch.ones(1).expand(10**7, 10**7)])
@pytest.mark.parametrize("path", [("version",), ("plan", "labels"), ("network", "filters"), ("training_cases",)])
def test_what_a_file_holds_is_neither_shown_in_full_nor_gone_through(model, tmp_path, path, value):
    save_model(tmp_path / "model.pt", model)
    entries = torch.load(tmp_path / "model.pt", weights_only=True)
    *parents, key = path
    place = entries
    for parent in parents:
        place = place[parent]
    place[key] = value
    torch.save(entries, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="damaged") as caught:
        load_model(tmp_path / "model.pt")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "harm",
    [
        lambda weight: weight.to("meta"),
        lambda weight: torch.zeros(1).expand(weight.shape),
        lambda weight: weight.to_sparse(),
        lambda weight: weight.to(torch.complex64),
        lambda weight: weight.long(),
        lambda weight: weight.tolist(),
        lambda weight: weight[None],
    ],
)
def test_weights_that_are_none_are_refused(model, tmp_path, harm, recwarn):
    save_model(tmp_path / "model.pt", model)
    entries = torch.load(tmp_path / "model.pt", weights_only=True)
    entries["weights"]["head.weight"] = harm(entries["weights"]["head.weight"])
    torch.save(entries, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"head\.weight"):
        load_model(tmp_path / "model.pt")


def test_a_flipped_bit_in_the_weights_is_seen(model, tmp_path):
    path = tmp_path / "model.pt"
    save_model(path, model)
    content = bytearray(path.read_bytes())
    at = content.index(model.network.head.weight.detach().numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)


def test_packed_files_are_not_unpacked(model, tmp_path):
    save_model(tmp_path / "model.pt", model)
    with (
        zipfile.ZipFile(tmp_path / "model.pt") as whole,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(ModelError, match="damaged"):
        load_model(tmp_path / "packed.pt")


def test_a_network_deeper_than_any_image_is_not_built(model, tmp_path):
    save_model(tmp_path / "model.pt", model)
    entries = torch.load(tmp_path / "model.pt", weights_only=True)
    entries["network"] |= {name: [1] * 100_000 for name in ("filters", "strides", "kernels")}
    torch.save(entries, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="16 levels"):
        load_model(tmp_path / "model.pt")


def test_weights_of_another_shape_are_refused(model, tmp_path):
    save_model(tmp_path / "model.pt", model)
    entries = torch.load(tmp_path / "model.pt", weights_only=True)
    entries["plan"]["labels"] = {"names": ["liver"], "values": [1]}
    torch.save(entries, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="damaged"):
        load_model(tmp_path / "model.pt")


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(model, tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    save_model(path, model)
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FileError, match="No space left"):
        save_model(path, model)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.pt"]


def test_where_the_training_cases_lie_is_remembered_and_may_be_missing(model, tmp_path):
    path = tmp_path / "model.pt"
    model.training_files = {"a": ("/data/a_0000.nii.gz", "/data/a_0001.nii.gz", "/labels/a.nii.gz")}
    save_model(path, model)
    model.inherited_cases = ("b", "z")
    save_model(path, model)
    loaded = load_model(path)
    assert loaded.training_files == model.training_files
    assert loaded.seen_cases == {"a", "b", "z"}
    entries = read_entries(path)
    del entries["training_files"], entries["inherited_cases"]
    torch.save(entries, path)
    assert load_model(path).training_files == {}
    assert load_model(path).seen_cases == {"a", "b"}


@pytest.mark.parametrize("files", [3, {"a": "image"}, {"a": ["image"]}, {"a": ["image", 3]}, {3: ["image", "label"]}])
def test_damaged_paths_are_refused(model, tmp_path, files):
    path = tmp_path / "model.pt"
    save_model(path, model)
    torch.save({**read_entries(path), "training_files": files}, path)
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)
