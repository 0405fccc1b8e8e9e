"""Networks of the dedicated methods (ACN, SMU-Net): for exactly one subset, and their teacher for all modalities.

Legend: B batch, M modalities, S modalities of the subset, C channels of the bottleneck, K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, adaptive_max_pool3d

from nnunetv2_mmkd.names import indices
from nnunetv2_mmkd.networks.masking import check_channels, require_subset, resolve, zero_missing

LEVELS = 3
"""The style is made of so many scales, the bottleneck among them."""


@dataclass(frozen=True)
class DedicatedTrace:
    """A forward pass with what is compared between teacher and student.

    Attributes:
        output: logits ``[B, K, *spatial]`` or the deep supervision list of them, largest first.
        content: the encoder's bottleneck, ``[B, C, *bottleneck]``.
        style: of the same shape; None in a network without a style branch.
    """

    output: Tensor | list[Tensor]
    content: Tensor
    style: Tensor | None

    @property
    def logits(self) -> Tensor:
        """The largest output."""
        return self.output[0] if isinstance(self.output, list) else self.output


class DedicatedUNet(nn.Module):
    """The planned U-Net on one subset of the modalities, or on all of them; its state-dict keys are nnU-Net's.

    With a subset it takes its channels, by name, out of the input of all modalities; the others are not read, and all
    of the subset must be available. Without, it takes all channels, those of missing modalities zero.

    Args:
        encoder: the planned encoder, for S channels, or for M.
        decoder: the planned decoder.
        modalities: names of the M channels of the input.
        subset: names of the S modalities; empty: all.
    """

    def __init__(self, encoder: Any, decoder: Any, modalities: Sequence[str], subset: Sequence[str] = ()) -> None:
        super().__init__()
        self.modalities, self.subset = tuple(modalities), tuple(subset)
        self.positions = [indices([name], modalities)[0] for name in subset]
        self.encoder = encoder
        self.decoder = decoder

    @property
    def width(self) -> int:
        """Channels of the bottleneck."""
        return int(self.encoder.output_channels[-1])

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        result: int = convert_conv_op_to_dim(self.encoder.conv_op)
        return result

    def forward(self, x: Tensor, available: Tensor | None = None) -> Tensor | list[Tensor]:
        """Segment.

        Args:
            x: ``[B, M, *spatial]``.
            available: bool ``[B, M]`` or ``[M]``; None: the environment variable, else all of the subset, or detection.

        Returns:
            logits ``[B, K, *spatial]``, or the deep supervision list of them, largest first.

        Raises:
            InputError: wrong number of channels, or a modality of the subset is missing.
        """
        return self.trace(x, available).output

    def trace(self, x: Tensor, available: Tensor | None = None) -> DedicatedTrace:
        """:meth:`forward`, with what is compared."""
        skips = list(self.encoder(self.inputs(x, available)))
        content = skips[-1]
        style = self.style_of(skips)
        if style is not None:
            skips[-1] = self.join(style, content)
        return DedicatedTrace(self.decoder(skips), content, style)

    def inputs(self, x: Tensor, available: Tensor | None) -> Tensor:
        """What the encoder sees."""
        if not self.subset:
            return zero_missing(x, resolve(x, available, self.modalities))
        check_channels(x, self.modalities)
        require_subset(available, self.modalities, self.subset)
        return torch.cat([x[:, position : position + 1] for position in self.positions], 1)

    def style_of(self, skips: Sequence[Tensor]) -> Tensor | None:
        """The style of a pass; None without a style branch."""
        return None

    def join(self, style: Tensor, content: Tensor) -> Tensor:
        """What the decoder gets in the place of the bottleneck."""
        raise NotImplementedError


class StyleUNet(DedicatedUNet):
    r"""SMU-Net's network: the bottleneck is content, and a style is made of it and of the two scales above.

    .. math:: s = W_s [\operatorname{pool}(e_{-3}), \operatorname{pool}(e_{-2}), e_{-1}], \qquad c = e_{-1}, \qquad
        d = W_d [s, c]

    with 1x1 convolutions; the planned decoder gets d in the place of the bottleneck.

    Args:
        encoder: see :class:`DedicatedUNet`.
        decoder: likewise.
        modalities: likewise.
        subset: likewise.

    References:
        Azad et al., SMU-Net, MIDL 2022, §2; the released code for what the style is made of.

    Deviations from the paper:
        Its U-Net has three downsamplings; here the scales are the last three that nnU-Net planned, max-pooled to the
        size of the bottleneck. No dropout: nnU-Net plans none.
    """

    def __init__(self, encoder: Any, decoder: Any, modalities: Sequence[str], subset: Sequence[str] = ()) -> None:
        super().__init__(encoder, decoder, modalities, subset)
        levels = [int(channels) for channels in encoder.output_channels[-LEVELS:]]
        self.style = encoder.conv_op(sum(levels), levels[-1], 1)
        self.fuse = encoder.conv_op(2 * levels[-1], levels[-1], 1)
        for module in (self.style, self.fuse):
            module.apply(InitWeights_He(1e-2))

    def style_of(self, skips: Sequence[Tensor]) -> Tensor:
        """s, ``[B, C, *bottleneck]``."""
        size = tuple(skips[-1].shape[2:])
        pool: Any = {2: adaptive_max_pool2d, 3: adaptive_max_pool3d}[len(size)]
        style: Tensor = self.style(torch.cat([*(pool(skip, size) for skip in skips[-LEVELS:-1]), skips[-1]], 1))
        return style

    def join(self, style: Tensor, content: Tensor) -> Tensor:
        """d, ``[B, C, *bottleneck]``."""
        fused: Tensor = self.fuse(torch.cat([style, content], 1))
        return fused
