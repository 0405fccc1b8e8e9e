"""A stem for each modality: an early-fusion network whose first convolution and norm each modality has for itself.

Legend: B batch, M modalities, F features of the first convolution.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm


class ModalityStems(nn.Module):
    r"""First convolution and norm of each modality, summed over what is available.

    .. math:: y = \sum_{m \in A} N_m(W_m * x_m)

    A planned first convolution sums the modalities before its norm, so that the norm's statistics depend on what is
    missing; here each modality is normalised by itself. The nonlinearity and all that follows are the planned ones; the
    next norm undoes the size of the sum. The convolutions start as the planned one's columns.

    Args:
        conv: the planned convolution, of M channels.
        norm: the planned norm behind it.

    Attributes:
        missing: ``[B, M]``, 1 where the sample lacks the modality; set before each forward pass.
    """

    missing: Tensor | None

    def __init__(self, conv: nn.Conv2d | nn.Conv3d, norm: _InstanceNorm) -> None:
        super().__init__()
        count, features = conv.in_channels, conv.out_channels
        self.conv = copy.deepcopy(conv)
        self.conv.in_channels, self.conv.out_channels, self.conv.groups = count, count * features, count
        self.conv.weight = nn.Parameter(conv.weight.detach().transpose(0, 1).flatten(0, 1)[:, None].clone())
        if conv.bias is not None:
            self.conv.bias = nn.Parameter(conv.bias.detach().repeat(count))
        self.norm = copy.deepcopy(norm)
        self.norm.num_features = count * features
        self.norm.weight = nn.Parameter(norm.weight.detach().repeat(count))
        self.norm.bias = nn.Parameter(norm.bias.detach().repeat(count))
        self.count = count
        self.missing = None

    def forward(self, x: Tensor) -> Tensor:
        """From images ``[B, M, *spatial]``, missing channels finite, to ``[B, F, *spatial]``."""
        assert self.missing is not None
        maps = self.norm(self.conv(x)).unflatten(1, (self.count, -1))
        lacks = self.missing.bool().reshape(*self.missing.shape, *[1] * (x.ndim - 1))
        return torch.where(lacks, torch.zeros((), dtype=maps.dtype, device=maps.device), maps).sum(1)


def separate_stems(network: nn.Module) -> nn.Module:
    """Give a planned network a stem for each of its input channels, in place.

    Raises:
        NotImplementedError: its first block is no convolution with an affine instance norm.
    """
    # here: methods know of this module, and must not need nnU-Net's architectures
    from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU

    block = next((module for module in network.modules() if isinstance(module, ConvDropoutNormReLU)), None)
    norm = getattr(block, "norm", None)
    if block is None or not isinstance(norm, _InstanceNorm) or not norm.affine or norm.track_running_stats:
        raise NotImplementedError(
            "the plans' first block has no affine instance norm that each modality could have for itself; choose "
            "availability='none'"
        )
    others = [module for module in block.all_modules if module is not block.conv and module is not norm]
    block.all_modules = nn.Sequential(ModalityStems(block.conv, norm), *others)
    del block.conv, block.norm
    return network
