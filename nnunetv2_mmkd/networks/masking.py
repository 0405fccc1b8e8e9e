"""Which modalities a forward pass may use: an explicit mask, the environment variable, or detection.

Legend: B batch, M modalities.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import mask_of, names_of
from nnunetv2_mmkd.names import parse_names
from nnunetv2_mmkd.networks.availability import check_encoding, set_missing, with_planes

MISSING_VARIABLE = "nnUNet_missing_modalities"
"""Environment variable with the names of modalities that the stock ``nnUNetv2_predict`` shall take as missing."""


def check_channels(x: Tensor, modalities: Sequence[str]) -> None:
    """Refuse an input that has not one channel per modality.

    Raises:
        InputError: a ``ValueError`` (nnU-Net takes a ``RuntimeError`` for lack of memory and would retry).
    """
    if x.shape[1] != len(modalities):
        raise InputError(
            f"the input has {x.shape[1]} channels, this model has {len(modalities)} modalities "
            f"({', '.join(modalities)}). Channel files must not be left out under nnUNetv2_predict, which would shift "
            "the others: use `mmkd predict`, which completes absent files by their suffix, or give an all-zero image"
        )


def detect(x: Tensor) -> Tensor:
    """Availability ``[B, M]`` by looking: a channel that is all zero where other channels are not is missing.

    A sample that is blank in all channels (a background tile) counts as all available.
    """
    seen = (x != 0).flatten(2).any(dim=2).cpu()
    return seen | ~seen.any(dim=1, keepdim=True)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # masks are of the CPU, and looked at
def resolve(x: Tensor, available: Tensor | None, modalities: Sequence[str]) -> Tensor:
    """Availability of a batch: the explicit mask, else the environment variable, else detection.

    Args:
        x: images ``[B, M, *spatial]``.
        available: bool ``[M]`` or ``[B, M]``, or None.
        modalities: names of the channels.

    Returns:
        bool ``[B, M]`` on the CPU, no row empty.

    Raises:
        InputError: wrong number of channels, wrong shape of the mask, a sample without any modality, an unknown name
            in the environment variable.
    """
    check_channels(x, modalities)
    if available is None:
        variable = os.environ.get(MISSING_VARIABLE, "").strip()
        available = mask_of(modalities, missing=parse_names(variable)) if variable else detect(x)
    mask = available.detach().cpu().bool()
    if mask.ndim == 1:
        mask = mask[None].expand(x.shape[0], -1)
    if tuple(mask.shape) != (x.shape[0], len(modalities)):
        raise InputError(
            f"the availability mask has shape {tuple(mask.shape)}, expected {(x.shape[0], len(modalities))}"
        )
    if not mask.any(dim=1).all():
        raise InputError("a sample has no modality at all: at least one must be available")
    return mask


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


def zero_missing(x: Tensor, mask: Tensor) -> Tensor:
    """Images with the missing channels set to zero by selection, so that NaN and inf in them leave no trace."""
    where = mask.to(x.device, non_blocking=True).reshape(*mask.shape, *[1] * (x.ndim - 2))
    return torch.where(where, x, torch.zeros((), dtype=x.dtype, device=x.device))


def mask_inputs(network: nn.Module, modalities: Sequence[str], availability: str = "none") -> nn.Module:
    """Give an early-fusion network the argument ``available`` through a forward pre-hook.

    The network stays the planned one: same class, same state-dict keys.

    Args:
        network: takes ``[B, M, *spatial]``; with planes ``[B, 2M, *spatial]``.
        modalities: names of the M channels.
        availability: the availability encoding, in addition to the zero of missing channels, a key of
            :data:`~nnunetv2_mmkd.networks.availability.ENCODINGS`; for ``"norms"`` and ``"stems"`` it must have them.

    Raises:
        InputError: another ``availability``.
    """
    check_encoding(availability)

    def hook(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        available = kwargs.pop("available", None)
        x, *rest = args
        if rest:
            (available,) = rest
        mask = resolve(x, available, modalities)
        x = zero_missing(x, mask)
        if availability == "planes":
            x = with_planes(x, mask)
        elif availability in ("norms", "stems"):
            set_missing(module, mask, x.device)
        return (x,), kwargs

    network.register_forward_pre_hook(hook, with_kwargs=True)
    return network
