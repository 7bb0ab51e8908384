"""Stands in for what of ``torch.cuda`` needs a driver, for generators, pinned memory and gradients."""

import importlib
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor


class _AnyGenerator(type(torch.Generator)):
    """Those that were made before are generators as well."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, torch._C.Generator)


class Generator(torch.Generator, metaclass=_AnyGenerator):
    """Says that it is on CUDA, and lies on the CPU: what it draws there is never looked at."""

    _living: ClassVar[WeakValueDictionary[int, "Generator"]] = WeakValueDictionary()

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        self = super().__new__(cls)
        self._device = torch.device(device)
        cls._living[self._cdata] = self
        return self

    def __init__(self, device: torch.device | str = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:
        return self._device

    @classmethod
    def device_of(cls, generator: torch.Generator) -> torch.device:
        """The device of a generator as an operator sees it, which is no longer an object of this class."""
        made = cls._living.get(generator._cdata)
        return generator.device if made is None else made.device


class PinnedMemory:
    """Remembers what was pinned. Nothing of it is given back before the end, so that no address is used again."""

    def __init__(self) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}

    def pin(self, tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        storage = copy.untyped_storage()
        self._storages[storage.data_ptr()] = storage
        return copy

    def holds(self, tensor: Tensor) -> bool:
        return tensor.numel() == 0 or tensor.untyped_storage().data_ptr() in self._storages


def stand_in(pinned: PinnedMemory, capability: tuple[int, int], memory: int) -> ExitStack:
    """Patches of torch that hold until the stack is closed.

    Args:
        capability: of the device, as ``torch.cuda.get_device_capability`` tells it.
        memory: of the device, bytes, all of them free.
    """
    make = torch.tensor

    def tensor(data: Any, *, pin_memory: bool = False, **options: Any) -> Tensor:
        made = make(data, **options)
        return pinned.pin(made) if pin_memory else made

    properties = SimpleNamespace(
        name="dry", major=capability[0], minor=capability[1], total_memory=memory, multi_processor_count=132
    )
    replaced: dict[str, Callable] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "synchronize": lambda *_: None,
        "make_graphed_callables": lambda module, *_, **__: module,
        "empty_cache": lambda: None,
        "is_bf16_supported": lambda *_, **__: capability >= (8, 0),
        "_exchange_device": lambda *_: 0,
        "_maybe_exchange_device": lambda *_: 0,
        "get_device_capability": lambda *_: capability,
        "get_device_properties": lambda *_: properties,
        "get_device_name": lambda *_: properties.name,
        "mem_get_info": lambda *_: (memory, memory),
    }
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        # Copying a network looks whether there is anything to copy.
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        for name, value in replaced.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mock.patch.object(torch, "tensor", tensor))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda self, *_: pinned.pin(self)))
        stack.enter_context(mock.patch.object(Tensor, "is_pinned", lambda self, *_: pinned.holds(self)))
        stack.enter_context(mock.patch.object(Tensor, "backward", make_gradients))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", convert))
        # Lists of tensors go to the kernels for lists only if their types are known there.
        for name in ("torch.utils._foreach_utils", "torch.optim.optimizer"):
            module = importlib.import_module(name)
            known = [*module._foreach_supported_types, FakeTensor]
            stack.enter_context(mock.patch.object(module, "_foreach_supported_types", known))
        # One copy, as on a GPU, and not one for each value.
        stack.enter_context(mock.patch.object(FakeTensor, "tolist", lambda self: self.cpu().tolist()))
        return stack.pop_all()


def convert(module: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """Change all parameters and buffers of a module, as its `to` does.

    Torch would exchange what fake tensors hold, which it refuses where anything else remembers them.
    """
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(change(parameter.detach()), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = change(buffer)
    return module


def make_gradients(loss: Tensor, *_: Any, **__: Any) -> None:
    """Give every parameter that a loss depends on a gradient.

    The engine of a CPU build has no thread for an accelerator, so that the way back itself is not followed.
    """
    seen, ahead = set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.empty_like(node.variable)
        ahead += [function for function, _ in node.next_functions]
