"""Files of weights that MONAI's users have, read without running anything in them."""

import contextlib
import pickle
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.errors import FileError, ModelError
from deepedit.network.monai import import_dynunet
from deepedit.network.monai_files import LANDMARK, count_heads, read_dynunet
from tests.network.dynunet import ORGANS, organ_weights, random_input


def saved(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrap", [[], ["net"], ["model"], ["state_dict"], ["model", "state_dict"]])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_checkpoints_of_all_kinds_are_read(tmp_path, wrap, prefix):
    weights = organ_weights()
    content = {prefix + name: tensor for name, tensor in weights.items()}
    for key in reversed(wrap):
        content = {key: content, "epoch": 3, "optimizer": {"state": {}}}
    found = read_dynunet(saved(tmp_path / "weights.pt", content))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_heads_for_deep_supervision_are_counted_and_left_out():
    weights = organ_weights()
    heads = {f"deep_supervision_heads.{each}.conv.conv.weight": torch.zeros(4, 5, 1, 1, 1) for each in range(2)}
    assert count_heads(weights | heads) == 2
    x = random_input(5)
    assert torch.equal(import_dynunet(weights | heads, ORGANS)(x), import_dynunet(weights, ORGANS)(x))


class Tree(torch.nn.Module):
    """Holds tensors under dotted names, so that TorchScript writes them as it writes a network's."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            *path, leaf = name.split(".")
            owner = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, Tree({}))
                owner = owner._modules[part]
            owner.register_parameter(leaf, torch.nn.Parameter(tensor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "network.ts"
    torch.jit.save(torch.jit.script(Tree(organ_weights())), path)
    return path


def test_torchscript_archives_are_read_without_running_them(archive, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", None)
    weights, found = organ_weights(), read_dynunet(archive)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_an_archive_that_calls_anything_else_is_refused(archive, tmp_path):
    class Harm:
        def __reduce__(self):
            return print, ("harm",)

    hostile = tmp_path / "hostile.ts"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(hostile, "w") as target:
        for name in source.namelist():
            target.writestr(name, pickle.dumps(Harm(), 2) if name.endswith("/data.pkl") else source.read(name))
    with pytest.raises(ModelError, match=r"hostile.ts: the archive calls .*print"):
        read_dynunet(hostile)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_damaged_archives_end_in_a_model_error_or_in_tensors(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "network.ts"
    torch.jit.save(torch.jit.script(Tree({LANDMARK: torch.zeros(2, 3)})), path)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    with contextlib.suppress(ModelError):
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_dynunet(path).values())


def test_files_without_weights_are_named(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_dynunet(tmp_path / "missing.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ModelError, match=r"text.pt: cannot be read as weights"):
        read_dynunet(tmp_path / "text.pt")
    with pytest.raises(ModelError, match="holds no weights"):
        read_dynunet(saved(tmp_path / "empty.pt", {"epoch": 3}))
    with pytest.raises(ModelError, match="more than tensors"):
        read_dynunet(saved(tmp_path / "network.pt", torch.nn.Linear(1, 1)))
    with pytest.raises(ModelError, match="`init_weights`"):
        read_dynunet(saved(tmp_path / "ours.pt", {"format": "deepedit"}))
    endless = {}
    endless["model"] = endless
    with pytest.raises(ModelError, match="holds no weights"):
        read_dynunet(saved(tmp_path / "endless.pt", endless))
