"""Availability encodings: how an early-fusion network is given which modalities a sample has.

After z-scoring a missing channel, zero, looks like mean tissue. A constant plane in addition to the images says
otherwise, but nearly in vain where an instance norm follows the first convolution, as nnU-Net plans it: there a
constant plane is a constant per feature map, which the norm subtracts again. What is left comes from the rim, where
padding changes it. Norms conditional on the missing modalities cost nothing and lose nothing.

Legend: B batch, M modalities, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import instance_norm
from torch.nn.modules.instancenorm import _InstanceNorm

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.stems import ModalityStems

ENCODINGS: Mapping[str, str] = {
    "none": "missing channels are zero, and that is all the network sees of it",
    "planes": "M constant planes in addition to the images, 1 where the modality is available",
    "norms": "scale and shift of every instance norm depend on the missing modalities",
    "stems": "each modality has a first convolution and norm of its own; those of missing ones are left out of the sum",
}
"""The availability encodings, by name."""


def check_encoding(encoding: str) -> None:
    """Refuse an unknown availability encoding.

    Raises:
        InputError: not a key of :data:`ENCODINGS`.
    """
    if encoding not in ENCODINGS:
        raise InputError(f"unknown availability encoding {encoding!r}: choose from {', '.join(ENCODINGS)}")


def with_planes(x: Tensor, mask: Tensor) -> Tensor:
    """Images ``[B, M, *spatial]`` followed by a constant plane per modality: ``[B, 2M, *spatial]``.

    Args:
        x: images, missing channels zero.
        mask: bool ``[B, M]``.
    """
    planes = mask.to(x.device, x.dtype, non_blocking=True).reshape(*mask.shape, *[1] * (x.ndim - 2)).expand_as(x)
    return torch.cat([x, planes], 1)


class AvailabilityNorm(nn.Module):
    r"""An affine instance norm whose scale and shift depend on what a sample lacks.

    .. math:: \gamma = \gamma_0 + \sum_{m \notin A} \gamma_m, \qquad \beta = \beta_0 + \sum_{m \notin A} \beta_m

    with :math:`\gamma_m, \beta_m` zero at first: it starts as the planned norm, and is that norm for complete samples.
    The sums are taken per sample before the norm, which then runs as the planned one does: no operation on the feature
    maps is added.

    Args:
        norm: the planned norm; its scale and shift are taken over, under their names.
        n_modalities: M.

    Attributes:
        missing: ``[B, M]``, 1 where the sample lacks the modality; set before each forward pass.
    """

    missing: Tensor | None

    def __init__(self, norm: _InstanceNorm, n_modalities: int) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.missing_weight = nn.Parameter(torch.zeros(n_modalities, norm.num_features))
        self.missing_bias = nn.Parameter(torch.zeros(n_modalities, norm.num_features))
        self.missing = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[B, C, *spatial]``."""
        assert self.missing is not None
        lacks = self.missing[:, :, None]
        weight = self.weight + (lacks * self.missing_weight).sum(1)  # products, not matmul: float32 under autocast
        bias = self.bias + (lacks * self.missing_bias).sum(1)
        samples, channels = x.shape[:2]
        merged = x.reshape(1, samples * channels, *x.shape[2:])  # as PyTorch's own instance norm does it
        return instance_norm(merged, weight=weight.flatten(), bias=bias.flatten(), eps=self.eps).reshape(x.shape)


def condition_norms(network: nn.Module, n_modalities: int) -> nn.Module:
    """Replace every affine instance norm of a network by an :class:`AvailabilityNorm`, in place.

    Raises:
        NotImplementedError: the network has none.
    """
    conditional = {
        norm: AvailabilityNorm(norm, n_modalities)
        for norm in network.modules()
        if isinstance(norm, _InstanceNorm) and norm.affine and not norm.track_running_stats
    }
    if not conditional:
        raise NotImplementedError(
            "the plans have no affine instance norms that could depend on what is available; choose "
            "availability='planes' (constant planes are seen through other norms)"
        )
    for parent in list(network.modules()):
        for name, child in parent._modules.items():  # a planned block holds its norm under two names
            if child in conditional:
                parent._modules[name] = conditional[child]
    return network


def set_missing(network: nn.Module, mask: Tensor, device: torch.device) -> None:
    """Set what the samples lack in the norms or stems of a network.

    Args:
        network: with norms from :func:`condition_norms`, or stems from :func:`.separate_stems`.
        mask: bool ``[B, M]``, what is available.
        device: of the images.
    """
    missing = (~mask).to(device, torch.float32, non_blocking=True)
    for module in network.modules():
        if isinstance(module, (AvailabilityNorm, ModalityStems)):
            module.missing = missing
