"""Counting bytes: what is alive now, and at the peak."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def storage_key(tensor: Tensor) -> int:
    """Identity of a tensor's storage: equal for views of each other; works on fake tensors too."""
    return int(tensor.untyped_storage()._cdata)


class LiveBytes(TorchDispatchMode):
    """Bytes alive among storages that came to be in this context, each counted once.

    Counts activations, gradients and what recomputation brings back, on any machine and on fake tensors; not the
    workspace of convolutions or what an allocator wastes. When a forward pass is over and only its loss is held, what
    is alive is what backward needs.

    Attributes:
        now: bytes alive.
        peak: the most at once.
    """

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        """Start from zero; the storages of ``known`` tensors (parameters, inputs) do not count."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = {storage_key(tensor) for tensor in known}
        self.now = 0
        self._seen: dict[int, weakref.ref[Any]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and look at the storages of its results."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return result

    def _see(self, tensor: Tensor) -> None:
        key = storage_key(tensor)
        if key in self._known or key in self._seen:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()

        def gone(_: Any) -> None:
            self.now -= size
            self._seen.pop(key, None)

        self._seen[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
