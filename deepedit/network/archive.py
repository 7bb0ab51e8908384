"""Reading the tensors of a TorchScript archive without running any of its code."""

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import IO, Any

import torch
from torch import Tensor

from deepedit.errors import ModelError

DEEPEST = 64
"""Greatest depth of nested modules; a file that nests deeper was not made from a network."""

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}

LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")


def is_archive(stream: IO[bytes]) -> bool:
    """Whether a file is a TorchScript archive. A file of ``torch.save`` is a zip archive, too, but holds no code."""
    if not zipfile.is_zipfile(stream):
        return False
    stream.seek(0)
    with zipfile.ZipFile(stream) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_archive(stream: IO[bytes]) -> dict[str, Tensor]:
    """Parameters and buffers by their names in the network. A module with two names is listed under the first one.

    Raises:
        ModelError: if the archive holds anything but modules, tensors and plain values.
        Exception: of any other type if the archive is damaged.
    """
    with zipfile.ZipFile(stream) as archive:
        records = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(records) != 1:
            raise ModelError("the archive has no data.pkl")
        with archive.open(records[0]) as data:
            network = _Unpickler(data, archive, records[0].removesuffix("data.pkl")).load()
    if not isinstance(network, _Module):
        raise ModelError("the archive holds no network")
    return dict(_tensors(network, "", set()))


class _Module:
    """A stand-in for a module of any class, with its attributes and without its code."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that builds modules, tensors and lists, and refuses every other name that a pickle might call.

    Args:
        stream: the archive's ``data.pkl``.
        archive, folder: the archive, and the folder in it that holds the tensors' bytes.
    """

    def __init__(self, stream: IO[bytes], archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(stream)
        self.archive, self.folder = archive, folder
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
            ("torch.jit._pickle", "restore_type_tag"): lambda value, tag: value,
            ("collections", "OrderedDict"): OrderedDict,
            **{("torch.jit._pickle", each): list for each in LISTS},
        }
        if (module, name) not in known:
            raise ModelError(f"the archive calls {module[:40]}.{name[:40]}, which no network needs")
        return known[module, name]

    def persistent_load(self, key: Any) -> Tensor:
        _, dtype, name, _, count = key
        if name not in self.storages:
            size = count * torch.empty(0, dtype=dtype).element_size()
            record = self.archive.getinfo(f"{self.folder}data/{name}")
            if record.file_size != size or record.compress_type != zipfile.ZIP_STORED:
                raise ModelError(f"the archive's tensor {str(name)[:40]} is damaged")
            content = bytearray(self.archive.read(record))
            self.storages[name] = torch.frombuffer(content, dtype=dtype) if count else torch.empty(0, dtype=dtype)
        return self.storages[name]


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    # A stride of 0 would make a few bytes look like terabytes.
    if math.prod(size) > len(storage):
        raise ModelError("a tensor of the archive is larger than its bytes")
    return storage.as_strided(size, stride, offset)


def _tensors(module: _Module, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    if prefix.count(".") > DEEPEST:
        raise ModelError("the archive's modules are nested too deeply")
    seen.add(id(module))
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module) and name != "skip_layers" and id(value) not in seen:
            yield from _tensors(value, f"{prefix}{name}.", seen)
