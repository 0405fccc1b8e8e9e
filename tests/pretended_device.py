"""A pretended accelerator: what a GPU would refuse or wait for is found without one.

Its tensors report another device, hold their data on the CPU, and refuse to be mixed with tensors of the CPU: a mask
left on the CPU, a buffer that was never moved. What makes a GPU wait for the host or the host for a GPU is counted.

Known limits: ``Module.to`` makes two copies of a parameter that two modules share, where a GPU has one; autocast does
nothing on it; what is made of Python numbers on the device, ``torch.tensor([0, 1], device=...)`` or an index by a list,
has no data here and is refused (a GPU waits for its copy).
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PRETENDED = torch.device("meta")
"""The one device whose tensors need no driver."""

COPIES = ("aten::copy_", "aten::_to_copy")
INDEXING = (
    "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index",
    "aten::_unsafe_index_put",
)  # fmt: skip
READS = (
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::is_nonzero",
    "aten::_unique2", "aten::unique_dim", "aten::repeat_interleave",
)  # fmt: skip
"""Operations whose result the host must know to go on."""


class DeviceMismatch(RuntimeError):
    """An operation mixed tensors of the pretended device and of the CPU."""


class PretendedTensor(Tensor):
    """A tensor of the pretended device; ``data_here`` holds its values on the CPU."""

    data_here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, data: Tensor) -> PretendedTensor:
        made: PretendedTensor = Tensor._make_wrapper_subclass(
            cls, data.size(), strides=data.stride(), storage_offset=data.storage_offset(), dtype=data.dtype,
            device=PRETENDED,
        )  # fmt: skip
        made.data_here = data
        return made

    def __repr__(self, **_: Any) -> str:
        return f"PretendedTensor({self.data_here!r})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {}, Counter())


class PretendedDevice(TorchDispatchMode):
    """Within it, ``device="meta"`` is the pretended device.

    Attributes:
        waits: what host and device would have waited for, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {}, self.waits)


def run(function: Any, args: Any, kwargs: dict[str, Any], waits: Counter[str]) -> Any:
    """Run an operation on the data, after the checks that a device makes."""
    name = function._schema.name
    tensors = list(tensors_in((args, kwargs)))
    ours = [tensor for tensor in tensors if isinstance(tensor, PretendedTensor)]
    theirs = [tensor for tensor in tensors if not isinstance(tensor, PretendedTensor)]
    to = kwargs.get("device")
    ours_out = bool(ours) if to is None else torch.device(to).type == PRETENDED.type
    check(name, args, ours, theirs)
    if wait := awaited(name, args, kwargs, ours, ours_out):
        waits[wait] += 1
    args_here, kwargs_here = data_of(args), data_of(kwargs)
    if to is not None:
        kwargs_here["device"] = torch.device("cpu")
    if name in COPIES and "non_blocking" in kwargs_here:
        kwargs_here["non_blocking"] = False
    kwargs_here.pop("pin_memory", None)
    result = function(*args_here, **kwargs_here)
    if function._schema.is_mutable and name.endswith("_"):
        return args[0]
    if name == "aten::_local_scalar_dense" or not ours_out:
        return result
    return pretended(result)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in the arguments of an operation (PyTorch's own walk takes half of the time)."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(each)


def data_of(value: Any) -> Any:
    """Arguments with the data of the device's tensors instead of these."""
    if isinstance(value, PretendedTensor):
        return value.data_here
    if isinstance(value, (list, tuple)):
        return type(value)(map(data_of, value))
    return {key: data_of(each) for key, each in value.items()} if isinstance(value, dict) else value


def pretended(result: Any) -> Any:
    """Results as tensors of the device."""
    if isinstance(result, (list, tuple)):
        return type(result)(map(pretended, result))
    return PretendedTensor(result) if type(result) is Tensor else result


def check(name: str, args: Any, ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Refuse what a GPU refuses: it takes numbers (tensors without axes) of the CPU, and indices from there."""
    if any(tensor.device == PRETENDED for tensor in theirs):
        raise DeviceMismatch(
            f"{name}: made of Python numbers, or indexed by a list of them: a GPU waits for their copy"
        )
    if not ours or name in COPIES:
        return
    if name in INDEXING:
        if not isinstance(args[0], PretendedTensor):
            raise DeviceMismatch(f"{name}: a tensor of the CPU, indexed by one of the device")
    elif any(tensor.dim() for tensor in theirs):
        shapes = [[tuple(tensor.shape) for tensor in side] for side in (ours, theirs)]
        raise DeviceMismatch(f"{name}: shapes {shapes[0]} on the device, {shapes[1]} on the CPU")


def awaited(name: str, args: Any, kwargs: Mapping[str, Any], ours: list[Tensor], ours_out: bool) -> str | None:
    """What an operation makes host or device wait for; None if it goes on at once."""
    if not ours and not (name in COPIES and ours_out):
        return None
    if name in READS:
        return name.removeprefix("aten::")
    if name in INDEXING:
        indices = list(tensors_in(args[1]))
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            return "indexing by a mask"
        return None if all(isinstance(index, PretendedTensor) for index in indices) else "indexing by a list"
    if name not in COPIES:
        return None
    to_device = isinstance(args[0], PretendedTensor) if name == "aten::copy_" else ours_out
    from_device = isinstance(args[1 if name == "aten::copy_" else 0], PretendedTensor)
    blocking = not kwargs.get("non_blocking", len(args) > 2 and args[2])
    if to_device == from_device or not blocking:
        return None
    return "copy to the device" if to_device else "copy to the host"


@contextlib.contextmanager
def pretended_device() -> Any:
    """The device, also in threads that start within, and nnU-Net's autocast without effect."""
    device, autocast, start = PretendedDevice(), torch.autocast, threading.Thread.run

    def on_device(thread: threading.Thread) -> None:
        with PretendedDevice():
            start(thread)

    def nothing(kind: str, *args: Any, **kwargs: Any) -> Any:
        return contextlib.nullcontext() if kind == PRETENDED.type else autocast(kind, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, device:
        patch.setattr(torch, "autocast", nothing)
        patch.setattr(torch._C, "_InferenceMode", lambda mode: torch.no_grad())  # tensors with data elsewhere have none
        patch.setattr(threading.Thread, "run", on_device)
        yield device


def waits_of(device: PretendedDevice, work: Callable[[], Any]) -> Counter[str]:
    """What host and device wait for in some work."""
    before = Counter(device.waits)
    work()
    return device.waits - before
