"""Counting bytes: what autograd keeps for backward, and what is alive at the peak."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def storage_key(tensor: Tensor) -> int:
    """Identity of a tensor's storage: equal for views of each other; works on fake tensors too."""
    return int(tensor.untyped_storage()._cdata)


class _SavedTensor:
    """What the graph holds in place of a saved tensor: it dies with the graph."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class SavedBytes:
    """Bytes that autograd holds for backward, by storage (each counted once), parameters excluded.

    Only what living graphs hold counts, so a graph that was used up or dropped does not. Regions under
    ``torch.utils.checkpoint(use_reentrant=False)`` count with what they keep, their inputs: checkpoint saves these
    through the hooks in force outside the region and hides what is saved inside.

    Args:
        parameters: tensors that do not count (they exist with or without a graph).

    References:
        ``torch.autograd.graph.saved_tensors_hooks``.
    """

    def __init__(self, parameters: Iterable[Tensor] = ()) -> None:
        self._excluded = {storage_key(parameter) for parameter in parameters}
        self._kept: weakref.WeakSet[_SavedTensor] = weakref.WeakSet()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count what is saved in this context."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept.tensor):
            yield

    def _pack(self, tensor: Tensor) -> _SavedTensor:
        kept = _SavedTensor(tensor.detach())  # attached, an operation's own result would hold the graph that holds it
        self._kept.add(kept)
        return kept

    @property
    def total(self) -> int:
        """Bytes held now."""
        sizes = {storage_key(kept.tensor): kept.tensor.untyped_storage().nbytes() for kept in self._kept}
        return sum(size for key, size in sizes.items() if key not in self._excluded)


class LiveBytes(TorchDispatchMode):
    """Largest number of bytes alive at once among storages that came to be in this context.

    Counts activations, gradients and what recomputation brings back, on any machine and on fake tensors; not the
    workspace of convolutions or what an allocator wastes.
    """

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        """Start from zero; the storages of ``known`` tensors (parameters, inputs) do not count."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = {storage_key(tensor) for tensor in known}
        self._now = 0
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
            self._now -= size
            self._seen.pop(key, None)

        self._seen[key] = weakref.ref(storage, gone)
        self._now += size
        self.peak = max(self.peak, self._now)
