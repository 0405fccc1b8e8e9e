"""What a trainer asks for when it wants a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager


@dataclass(frozen=True)
class NetworkRequest:
    """A network for a configuration of the plans.

    Attributes:
        configuration: nnU-Net's configuration, 2d or 3d.
        modalities: M names.
        heads: K, ``label_manager.num_segmentation_heads``.
        deep_supervision: whether the decoder returns all scales.
        exclusive: whether the heads are classes, one for each voxel (softmax), not regions (sigmoid).
        subset: names of the modalities that a specialist takes; empty for every other network.
        options: further arguments, from ``plans["mmkd"]["network"]``.
    """

    configuration: ConfigurationManager
    modalities: tuple[str, ...]
    heads: int
    deep_supervision: bool
    exclusive: bool = True
    subset: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_plans(
        cls, plans: PlansManager, configuration: ConfigurationManager, heads: int, deep_supervision: bool
    ) -> NetworkRequest:
        """The request that ``plans["mmkd"]`` makes; models of the first versions have less in it."""
        entry = plans.plans["mmkd"]
        return cls(
            configuration,
            tuple(entry["modalities"]),
            heads,
            deep_supervision,
            entry.get("exclusive", True),
            tuple(entry.get("subset", ())),
            entry.get("network", {}),
        )
