"""The planned network for exactly one subset of the modalities: the ceiling a model for any subset is measured against.

Legend: B batch, M modalities of the data set, S modalities of the subset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nnunetv2_mmkd.names import indices
from nnunetv2_mmkd.networks.dedicated import DedicatedUNet, StyleUNet
from nnunetv2_mmkd.networks.from_plans import planned_network
from nnunetv2_mmkd.networks.masking import check_channels, require_subset
from nnunetv2_mmkd.networks.request import NetworkRequest


def specialist(request: NetworkRequest) -> nn.Module:
    """The planned network with S input channels, and ``forward(x, available=None)`` on all M of the data set."""
    return take_channels(planned_network(request, len(request.subset)), request.modalities, request.subset)


def dedicated(request: NetworkRequest, with_style: bool = False) -> DedicatedUNet:
    """A network of the dedicated methods: the planned one for the subset of the request, or for all if it has none.

    Args:
        request: what is asked for.
        with_style: whether it has SMU-Net's style branch.
    """
    planned: Any = planned_network(request, len(request.subset or request.modalities))
    kind = StyleUNet if with_style else DedicatedUNet
    return kind(planned.encoder, planned.decoder, request.modalities, request.subset)


def take_channels(network: nn.Module, modalities: Sequence[str], subset: Sequence[str]) -> nn.Module:
    """Let a network for a subset take its channels, by name, out of an input ``[B, M, *spatial]``.

    The network stays the planned one: same class, same state-dict keys. The other channels are not read. There is
    nothing to detect: a channel of the subset that is blank is taken as it is, for it may be blank in a tile alone.

    Args:
        network: on ``[B, S, *spatial]``.
        modalities: names of the M channels of the input.
        subset: names of the S channels that the network takes, in its order.
    """
    positions = [indices([name], modalities)[0] for name in subset]

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        available = kwargs.pop("available", None)
        x, *rest = args
        if rest:
            (available,) = rest
        check_channels(x, modalities)
        require_subset(available, modalities, subset)
        return (torch.cat([x[:, position : position + 1] for position in positions], dim=1),), kwargs

    network.register_forward_pre_hook(hook, with_kwargs=True)
    return network
