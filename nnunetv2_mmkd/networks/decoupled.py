"""DeMoSeg's network: the planned U-Net whose first convolutions are decoupled, so that modalities can lend.

Legend: B batch, M modalities, C channels of the stem's result, W channels of a sub-space, n samples that have a
modality.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import Tensor, nn

from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.fusion.base import run
from nnunetv2_mmkd.networks.lending import check_lenders
from nnunetv2_mmkd.networks.lending import lending_order as lending_order  # nnUNetTrainerDeMoSeg imports it from here
from nnunetv2_mmkd.networks.masking import resolve
from nnunetv2_mmkd.networks.multi_stream import compile_modules

SQUEEZE = 4
"""The perceptron that scores channels has a quarter as many hidden units as there are channels (released code)."""


class ChannelExchange(nn.Module):
    r"""Channel-wise sparse self-attention: each channel attends to exactly one other.

    .. math:: x_c + s_{o(c)}\, x_{o(c)}, \qquad s = \sigma(\mathrm{MLP}(\bar x)), \quad o = \operatorname{argsort}(-s)

    Args:
        channels: of x.
        gated: whether the channel that is attended to is multiplied by its score. Without it, as in the released
            code, the perceptron has no gradient, for an order has none, and stays as it was initialised.

    References:
        Yang et al., DeMoSeg, arXiv 2408.08708.
    """

    def __init__(self, channels: int, gated: bool) -> None:
        super().__init__()
        hidden = max(1, channels // SQUEEZE)
        self.score = nn.Sequential(nn.Linear(channels, hidden), nn.LeakyReLU(0.01), nn.Linear(hidden, channels))
        self.gated = gated
        if not gated:
            self.score.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, channels, *spatial]`` -> the same."""
        with torch.autocast(x.device.type, enabled=False):
            scores = self.score(x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2).mean(2)).sigmoid()
        order = scores.argsort(1, descending=True)
        samples = index_of(range(len(x)), x.device)[:, None]
        exchanged = x[samples, order]
        if self.gated:
            factors = scores[samples, order].to(x.dtype)
            exchanged = exchanged * factors.reshape(*factors.shape, *[1] * (x.ndim - 2))
        return x + exchanged


class ModalityStem(nn.Module):
    """Two convolutions of one modality, a channel exchange, the planned norm and nonlinearity.

    Args:
        encoder: planned, for its kinds of layers.
        channels: M sub-spaces of W.
        stride: of the first convolution.
        gated: see :class:`ChannelExchange`.
    """

    def __init__(self, encoder: Any, channels: int, stride: Any, gated: bool) -> None:
        super().__init__()
        layers = (
            encoder.conv_bias, encoder.norm_op, encoder.norm_op_kwargs, encoder.dropout_op, encoder.dropout_op_kwargs,
            encoder.nonlin, encoder.nonlin_kwargs,
        )  # fmt: skip
        self.convolutions = StackedConvBlocks(2, encoder.conv_op, 1, channels, encoder.kernel_sizes[0], stride, *layers)
        self.exchange = ChannelExchange(channels, gated)
        finish: list[nn.Module] = []
        if encoder.norm_op is not None:
            finish.append(encoder.norm_op(channels, **(encoder.norm_op_kwargs or {})))
        if encoder.nonlin is not None:
            finish.append(encoder.nonlin(**(encoder.nonlin_kwargs or {})))
        self.finish = nn.Sequential(*finish)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, 1, *spatial]`` -> ``[n, M·W, *spatial]``."""
        result: Tensor = self.finish(self.exchange(self.convolutions(x)))
        return result


@dataclass(frozen=True)
class Subspaces:
    """Features of the stems.

    Attributes:
        rows: modality -> the samples that have it.
        features: modality -> ``[n, M, W, *spatial]``; entry k is how the modality expresses modality k.
    """

    rows: Mapping[int, list[int]]
    features: Mapping[int, Tensor]


class DecoupledUNet(nn.Module):
    """The planned U-Net with a stem for each modality, which expresses the modality itself and every other one.

    Each stem has M sub-spaces of W = ceil(C / M) channels. The stem's result has one slot for each modality: an
    available one fills it with its own sub-space (Self-feature), in the place of a missing one another lends the
    sub-space that expresses it (Mutual-feature). Who lends: the first available one of a list for each modality.
    Where M·W is not the planned C, a 1x1 convolution makes it so. All else is planned.

    Args:
        encoder: the planned encoder, for any number of channels; the layers that see the image are replaced.
        decoder: the planned decoder.
        modalities: names of the channels.
        lenders: for each modality all others, first the one that lends before the others.
        gated: see :class:`ChannelExchange`.

    Attributes:
        recomputed_stages: above 0 the stems' activations are recomputed in backward instead of stored.

    Raises:
        InputError: ``lenders`` is not such a list.

    References:
        Yang et al., Decoupling Feature Representations of Ego and Other Modalities for Incomplete Multi-modal Brain
        Tumor Segmentation, arXiv 2408.08708.

    Deviations from the paper:
        Its network is fixed (six stages, 32 channels, four modalities); here the planned one has the two convolutions
        of its first stage replaced, a residual encoder its stem. The channel exchange is in the stems alone, where the
        paper describes it; the released code has it behind every second convolution. Channels are sorted the same way
        in all stems (the released code sorts T1's the other way round).
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        modalities: Sequence[str],
        lenders: Sequence[Sequence[int]],
        *,
        gated: bool = True,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.lenders = check_lenders(lenders, modalities)
        self.encoder = encoder
        count, channels = len(self.modalities), int(encoder.output_channels[0])
        width = math.ceil(channels / count)
        residual = getattr(encoder, "stem", None) is not None
        stride = [1] * len(encoder.strides[0]) if residual else encoder.strides[0]
        if residual:
            encoder.stem = nn.Identity()
        else:
            encoder.stages[0] = nn.Identity()
        self.stems = nn.ModuleList(ModalityStem(encoder, count * width, stride, gated) for _ in self.modalities)
        self.project = nn.Identity() if count * width == channels else encoder.conv_op(count * width, channels, 1)
        self.decoder = decoder
        self.recomputed_stages = 0

    @property
    def n_scales(self) -> int:
        """Number of scales, the bottleneck included."""
        return len(self.encoder.output_channels)

    def optional_parameters(self) -> list[nn.Parameter]:
        """The stems: no sample of a batch may have a modality."""
        return list(self.stems.parameters())

    def compile_parts(self, **options: Any) -> None:
        """Compile what has no mask in it, in place: convolutions of the stems, the encoder's stages, the decoder."""
        stems: list[Any] = [stem.convolutions for stem in self.stems]
        compile_modules([*stems, *self.encoder.stages, self.decoder], **options)

    def forward(self, x: Tensor, available: Tensor | None = None) -> Tensor | list[Tensor]:
        """Segment with the available modalities.

        Args:
            x: ``[B, M, *spatial]``.
            available: bool ``[B, M]`` or ``[M]``; None: the environment variable, else detection.

        Returns:
            logits ``[B, K, *spatial]``, or the deep supervision list of them, largest first.
        """
        return self.trace(x, available)[0]

    def trace(self, x: Tensor, available: Tensor | None = None) -> tuple[Tensor | list[Tensor], Subspaces]:
        """:meth:`forward`, with the features of the stems."""
        mask = resolve(x, available, self.modalities)
        found = self.subspaces(x, mask)
        features = self.project(self.lend(found, mask))
        skips = []
        for stage in self.encoder.stages:
            features = stage(features)
            skips.append(features)
        outputs: Tensor | list[Tensor] = self.decoder(skips)
        return outputs, found

    def subspaces(self, x: Tensor, mask: Tensor) -> Subspaces:
        """Run the stems of the available modalities, each in a call of its own."""
        recompute = self.recomputed_stages > 0 and self.training
        rows, features = {}, {}
        for modality, stem in enumerate(self.stems):
            own = torch.nonzero(mask[:, modality]).flatten().tolist()
            if own:
                images = torch.stack([x[sample, modality] for sample in own])[:, None]
                whole = run(lambda stem=stem, images=images: stem(images), recompute)  # type: ignore[misc]
                rows[modality], features[modality] = own, whole.unflatten(1, (len(self.modalities), -1))
        return Subspaces(rows, features)

    def lend(self, found: Subspaces, mask: Tensor) -> Tensor:
        """Fill the slots of each sample: ``[B, M·W, *spatial]``."""
        row_of = {(b, m): row for m, own in found.rows.items() for row, b in enumerate(own)}
        samples = []
        for sample, present in enumerate(mask.tolist()):
            slots = []
            for modality, there in enumerate(present):
                lender = modality if there else next(each for each in self.lenders[modality] if present[each])
                slots.append(found.features[lender][row_of[sample, lender], modality])
            samples.append(torch.cat(slots))
        return torch.stack(samples)
