"""CUDA code followed without a GPU: devices, shapes and types are real, no value is computed.

Tensors on CUDA are fake, those on the CPU are real. A mix of devices raises, as it does on a GPU. What the host waits
for and what the device would do is noted in a `Record`. What is copied to the CPU is zeros; a single value that is
asked for is 1, or False, so that both ways past an ``if`` can be told apart by the test that wants one of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.cuda_dry.guard import load_guard
from tests.cuda_dry.record import Record, event, operator_name
from tests.cuda_dry.stand_ins import Generator, PinnedMemory, stand_in

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
COPIES = {"_to_copy", "copy_"}
INDEXED = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}
COUNTED = {"nonzero", "_unique2", "unique_dim", "masked_select", "repeat_interleave", "bincount"}
"""Operators whose results have a size that depends on the data."""
FOUND = 3
"""How many values there are where that depends on the data."""

H100 = (9, 0)
T4 = (7, 5)
"""Compute capabilities: the second has no bfloat16."""


class DryCuda(TorchDispatchMode):
    """The device, for the length of a ``with`` block.

    Args:
        capability: of the device.
        memory: bytes.

    Attributes:
        record: of what happened so far.

    Example::

        with DryCuda() as dry:
            torch.zeros(5, device="cuda").sum().item()
        assert dry.record.launches == 2
        assert len(dry.record.waits) == 1
    """

    def __init__(self, capability: tuple[int, int] = H100, memory: int = 80 * 2**30) -> None:
        super().__init__()
        self.record = Record()
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._pinned = PinnedMemory()
        self._device = capability, memory

    def __enter__(self) -> "DryCuda":
        problem = load_guard()
        if problem:
            raise RuntimeError(problem)
        self._patches = stand_in(self._pinned, *self._device)
        # Else ``torch.tensor(..., device="cuda")`` would go past this mode.
        self._lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self._lifts)
        self._patches.close()

    @contextmanager
    def recording(self) -> Iterator[Record]:
        """A record of its own for a part of what happens."""
        before, self.record = self.record, Record()
        try:
            yield self.record
        finally:
            self.record = before

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = operator_name(func)
        wanted = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
        if kwargs.pop("pin_memory", False):
            return self._pinned.pin(func(*args, **kwargs))
        if not any(map(_on_cuda, tree_leaves((args, kwargs)))) and wanted != "cuda":
            return func(*args, **kwargs)
        if func.namespace == "prim":
            return self._run(func, name, args, kwargs)
        if torch.is_inference_mode_enabled() and func.has_kernel_for_dispatch_key(COMPOSITE):
            # Without gradients torch does not take such an operator apart before it comes here.
            with self._following():
                return func.decompose(*args, **kwargs)
        if name in COPIES and (wanted == "cpu" or (not _on_cuda(args[0]) and wanted is None)):
            return self._download(name, args, kwargs)
        self._check_generator(func, kwargs)
        if name in COPIES:
            args = self._upload(name, args, kwargs)
        if name in INDEXED:
            args = (args[0], self._indices(args[1]), *args[2:])
        args, kwargs = tree_map(lambda leaf: self._lift(func, leaf), (args, kwargs))
        result = self._run(func, name, args, kwargs)
        self.record.count(func, args, kwargs, result)
        return result

    @contextmanager
    def _following(self) -> Iterator[None]:
        """Operators come here again for the length of a block; what stands in for ``torch.cuda`` does already."""
        super().__enter__()
        try:
            yield
        finally:
            super().__exit__(None, None, None)

    def _run(self, func: OpOverload, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The operator on fake tensors; where its result depends on values, some result after a wait."""
        if name == "_local_scalar_dense":
            self._wait("item")
            return False if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1
        if name == "equal":
            self._wait(name)
            return True
        with self._fake:
            if name in COUNTED and kwargs.get("output_size") is None:
                self._wait(name)
                return _some_of(name, args[0])
            if name in ("_amp_foreach_non_finite_check_and_unscale_", "_amp_update_scale_"):
                return args[0] if name == "_amp_update_scale_" else None
            return func(*args, **kwargs)

    def _download(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        self._wait("copy to the CPU")
        if name == "_to_copy":
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return args[0].zero_()

    def _upload(self, name: str, args: tuple, kwargs: dict[str, Any]) -> tuple:
        """The arguments of a copy with what comes from the host on the device."""
        where = 0 if name == "_to_copy" else 1
        source = args[where]
        if _on_cuda(source):
            return args
        asynchronous = kwargs.get("non_blocking", False) or (name == "copy_" and len(args) > 2 and args[2])
        # A single number that is written to the device travels with the kernel.
        if name == "_to_copy" or source.ndim:
            if not asynchronous:
                self.record.uploads.append(event(f"a copy of {tuple(source.shape)} to the device that may block"))
            elif not self._pinned.holds(source):
                self.record.uploads.append(event(f"a copy of {tuple(source.shape)} from memory that is not pinned"))
        return (*args[:where], self._fake.from_tensor(source), *args[where + 1 :])

    def _indices(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Indices as an operator takes them that must not ask how many voxels of a mask are True."""
        result: list[Tensor | None] = []
        for index in indices:
            if index is None:
                result.append(None)
                continue
            if not _on_cuda(index):
                self._wait("an index on the CPU")
                index = self._fake.from_tensor(index)
            if index.dtype in (torch.bool, torch.uint8):
                self._wait("a mask as an index")
                with self._fake:
                    found = torch.empty(min(FOUND, index.numel()), dtype=torch.int64, device="cuda")
                result += [found] * index.ndim
            else:
                result.append(index)
        return result

    def _lift(self, func: OpOverload, leaf: Any) -> Any:
        """A single number on the CPU may go with tensors on the device; anything else must not."""
        if not isinstance(leaf, Tensor) or isinstance(leaf, FakeTensor):
            return leaf
        if leaf.ndim:
            raise RuntimeError(f"{func}: a tensor {tuple(leaf.shape)} on the CPU beside one on cuda")
        return self._fake.from_tensor(leaf)

    def _check_generator(self, func: OpOverload, kwargs: dict[str, Any]) -> None:
        generator = kwargs.get("generator")
        if generator is None:
            return
        if Generator.device_of(generator).type != "cuda":
            raise RuntimeError(f"{func}: a generator on the CPU for a tensor on cuda")
        kwargs["generator"] = None

    def _wait(self, what: str) -> None:
        self.record.waits.append(event(what))


def _some_of(name: str, tensor: Tensor) -> Any:
    """What an operator of `COUNTED` might return."""
    count = min(FOUND, tensor.numel())
    if name == "nonzero":
        return tensor.new_empty((count, tensor.ndim), dtype=torch.int64)
    if name == "masked_select":
        return tensor.new_empty(count)
    if name in ("repeat_interleave", "bincount"):
        return tensor.new_empty(count, dtype=torch.int64)
    inverse = tensor.new_empty(tensor.shape[:1] if name == "unique_dim" else tensor.shape, dtype=torch.int64)
    values = tensor.new_empty((count, *(tensor.shape[1:] if name == "unique_dim" else ())))
    return values, inverse, inverse.new_empty(count)


def _on_cuda(value: Any) -> bool:
    return isinstance(value, FakeTensor) and value.device.type == "cuda"
