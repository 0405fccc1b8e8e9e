"""Values as JSON keeps them without loss, and hashes of what is too long."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def digest(value: Any) -> str:
    """SHA-256 of nested containers of tensors, arrays and plain values; independent of the order of keys."""
    found = hashlib.sha256()

    def feed(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            item = item.detach().cpu().contiguous().numpy()
        if isinstance(item, Mapping):
            found.update(f"mapping {len(item)}".encode())
            for key in sorted(item, key=str):
                found.update(f"key {key!s}".encode())
                feed(item[key])
        elif isinstance(item, (list, tuple)):
            found.update(f"list {len(item)}".encode())
            for each in item:
                feed(each)
        elif isinstance(item, np.ndarray):
            found.update(f"array {item.dtype.str} {item.shape}".encode())
            found.update(np.ascontiguousarray(item).tobytes())
        else:
            found.update(f"{type(item).__name__} {exact(item)}".encode())

    feed(value)
    return found.hexdigest()


def exact(value: Any) -> Any:
    """A number or text as JSON keeps it without loss."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value.hex() if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of nested containers by name; a list of plain values is one leaf."""
    if isinstance(value, Mapping) and value:
        for key in sorted(value, key=str):
            yield from leaves(value[key], f"{name}/{key}")
    elif isinstance(value, (list, tuple)) and any(isinstance(each, (Mapping, list, tuple)) for each in value):
        for number, each in enumerate(value):
            yield from leaves(each, f"{name}/{number}")
    elif isinstance(value, (list, tuple)):
        yield name, [exact(each) for each in value]
    else:
        yield name, "empty mapping" if isinstance(value, Mapping) else exact(value)


def key_paths(value: Any, name: str = "") -> list[str]:
    """All keys of nested mappings and lists, as paths; at the leaves with shapes of tensors and types of the rest."""
    if isinstance(value, Mapping) and value:
        return [path for key in sorted(value, key=str) for path in key_paths(value[key], f"{name}/{key}")]
    if isinstance(value, (list, tuple)) and value:
        return [path for number, each in enumerate(value) for path in key_paths(each, f"{name}/{number}")]
    kind = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
    return [f"{name}: {kind}"]


def euclidean(state: Mapping[str, Any]) -> str:
    """The norm of all weights: tells how far apart two networks are whose hashes differ."""
    total = sum(float(tensor.double().square().sum()) for tensor in state.values() if tensor.is_floating_point())
    return math.sqrt(total).hex()
