"""The planned network for exactly one subset of the modalities: the ceiling a model for any subset is measured against.

Legend: B batch, M modalities of the data set, S modalities of the subset.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import mask_of, names_of
from nnunetv2_mmkd.names import indices, parse_names
from nnunetv2_mmkd.networks.from_plans import planned_network
from nnunetv2_mmkd.networks.masking import MISSING_VARIABLE, check_channels
from nnunetv2_mmkd.networks.request import NetworkRequest


def specialist(request: NetworkRequest) -> nn.Module:
    """The planned network with S input channels, and ``forward(x, available=None)`` on all M of the data set."""
    return take_channels(planned_network(request, len(request.subset)), request.modalities, request.subset)


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


@torch.compiler.disable  # type: ignore[untyped-decorator]  # masks are of the CPU, and looked at
def require_subset(available: Tensor | None, modalities: Sequence[str], subset: Sequence[str]) -> None:
    """Refuse a forward pass that may not use all of the subset.

    Args:
        available: bool ``[M]`` or ``[B, M]``; None: what the environment variable leaves, or all.
        modalities: names of the M modalities.
        subset: names of the S modalities that must be available.

    Raises:
        InputError: one of them is missing.
    """
    if available is None:
        variable = os.environ.get(MISSING_VARIABLE, "").strip()
        if not variable:
            return
        available = mask_of(modalities, missing=parse_names(variable))
    given = names_of(available.detach().cpu().reshape(-1, len(modalities)).all(dim=0), modalities)
    lacking = [name for name in subset if name not in given]
    if lacking:
        raise InputError(
            f"{lacking[0]} is missing: this model is a specialist for {' + '.join(subset)} and predicts only cases "
            "that have all of them. Use a model for any subset"
        )
