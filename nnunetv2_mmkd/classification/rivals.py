"""The papers' rivals for classification: the network and the objective of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from nnunetv2_mmkd.classification.auto_encoder import AutoEncoderClassifier, AutoEncoderCompletion
from nnunetv2_mmkd.classification.flex_moe import FlexMoE, FlexMoEClassifier
from nnunetv2_mmkd.classification.network import MultiModalClassifier, build_classifier
from nnunetv2_mmkd.classification.shared_specific import build_shared_specific
from nnunetv2_mmkd.classification.smil import SMIL, SMILClassifier
from nnunetv2_mmkd.methods.base import Method
from nnunetv2_mmkd.methods.shaspec import ShaSpec

Builder = Callable[[Callable[[str], nn.Module], Sequence[str], int, int], MultiModalClassifier]
"""``(make_encoder, modalities, classes, seed) -> network``."""


@dataclass(frozen=True)
class Rival:
    """A rival.

    Attributes:
        build: makes its network.
        method: makes its objective.
    """

    build: Builder
    method: Callable[[], Method[Any]]


RIVALS: Mapping[str, Rival] = {
    "ShaSpec": Rival(build_shared_specific, ShaSpec),
    "AutoEncoder": Rival(partial(build_classifier, kind=AutoEncoderClassifier), AutoEncoderCompletion),
    "SMIL": Rival(partial(build_classifier, kind=SMILClassifier), SMIL),
    "Flex-MoE": Rival(partial(build_classifier, kind=FlexMoEClassifier), FlexMoE),
}
"""By the names of :data:`~nnunetv2_mmkd.classification.catalogue.RIVALS_ABOUT`."""


def builder_of(name: str) -> Builder:
    """How the network of a method is made: a rival's own, or that of all other methods."""
    return RIVALS[name].build if name in RIVALS else build_classifier
