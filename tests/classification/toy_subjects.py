"""Small made-up subjects, and a classifier for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch

from nnunetv2_mmkd.classification.encoders import TabularEncoder
from nnunetv2_mmkd.classification.flex_moe import FlexMoEClassifier
from nnunetv2_mmkd.classification.network import MultiModalClassifier
from nnunetv2_mmkd.classification.shared_specific import SharedSpecificClassifier
from nnunetv2_mmkd.classification.smil import SMILClassifier
from nnunetv2_mmkd.classification.subjects import Subjects

CLASSES = ("no", "yes")
Network = TypeVar("Network", bound=MultiModalClassifier)


def toy(count: int = 48, seed: int = 0, missing: float = 0.4, name: str = "s") -> Subjects:
    """Two tables ``a`` (informative) and ``b`` (noisy); each subject has at least one, missing rows are NaN."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    a = torch.randn(count, 3, generator=generator) + 2 * labels[:, None]
    b = torch.randn(count, 5, generator=generator) + 0.5 * labels[:, None]
    present = torch.rand(count, 2, generator=generator) > missing
    present[~present.any(1), 0] = True
    a[~present[:, 0]] = torch.nan
    b[~present[:, 1]] = torch.nan
    return Subjects(tuple(f"{name}{i}" for i in range(count)), {"a": a, "b": b}, present, labels, CLASSES)


def classifier(seed: int = 0, dropout: float = 0.5) -> MultiModalClassifier:
    """A network for :func:`toy`."""
    torch.manual_seed(seed)
    return MultiModalClassifier({"a": TabularEncoder(3, 6), "b": TabularEncoder(5, 6)}, 2, hidden=8, dropout=dropout)


def shared_specific(seed: int = 0) -> SharedSpecificClassifier:
    """ShaSpec's network for :func:`toy`."""
    torch.manual_seed(seed)
    first, second = ({"a": TabularEncoder(3, 6), "b": TabularEncoder(5, 6)} for _ in range(2))
    return SharedSpecificClassifier(first, second, 2, hidden=8)


def rival(kind: type[Network], seed: int = 0) -> Network:
    """Another kind of network for :func:`toy`."""
    torch.manual_seed(seed)
    return kind({"a": TabularEncoder(3, 6), "b": TabularEncoder(5, 6)}, 2, hidden=8)


class SMILForToy(SMILClassifier):
    """Two priors of each modality."""

    def __init__(self, encoders: Mapping[str, torch.nn.Module], classes: int, **how: float) -> None:
        super().__init__(encoders, classes, priors=2, **how)


class FlexMoEForToy(FlexMoEClassifier):
    """As many heads as divide the toy's width."""

    def __init__(self, encoders: Mapping[str, torch.nn.Module], classes: int, **how: float) -> None:
        super().__init__(encoders, classes, experts=5, k=2, heads=2, **how)
