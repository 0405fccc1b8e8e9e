"""DeMoSeg's network: the planned U-Net whose first convolutions are decoupled, so that modalities can lend.

Legend: B batch, M modalities, C channels of the stem's result, W channels of a sub-space, n samples that have a
modality.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.networks.decoupled_stem import ModalityStem
from nnunetv2_mmkd.networks.fusion.base import run
from nnunetv2_mmkd.networks.lending import check_lenders
from nnunetv2_mmkd.networks.masking import resolve
from nnunetv2_mmkd.networks.multi_stream import compile_modules


@dataclass(frozen=True)
class Subspaces:
    """Features of the stems.

    Attributes:
        rows: modality -> the samples that have it.
        features: modality -> ``[n, M, W, *spatial]``; entry k is how the modality expresses modality k.
        convolved: the same before the channel exchange, which the distillation compares; empty if not asked for.
    """

    rows: Mapping[int, list[int]]
    features: Mapping[int, Tensor]
    convolved: Mapping[int, Tensor] = field(default_factory=dict)


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
        gated: see :class:`~nnunetv2_mmkd.networks.decoupled_stem.ChannelExchange`.

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

    def trace(
        self, x: Tensor, available: Tensor | None = None, *, convolved: bool = False
    ) -> tuple[Tensor | list[Tensor], Subspaces]:
        """:meth:`forward`, with the features of the stems, and, if asked for, with those before the exchange."""
        mask = resolve(x, available, self.modalities)
        found = self.subspaces(x, mask, convolved)
        features = self.project(self.lend(found, mask))
        skips = []
        for stage in self.encoder.stages:
            features = stage(features)
            skips.append(features)
        outputs: Tensor | list[Tensor] = self.decoder(skips)
        return outputs, found

    def subspaces(self, x: Tensor, mask: Tensor, convolved: bool = False) -> Subspaces:
        """Run the stems of the available modalities, each in a call of its own."""
        recompute = self.recomputed_stages > 0 and self.training
        rows, features, before = {}, {}, {}
        for modality, stem in enumerate(self.stems):
            own = torch.nonzero(mask[:, modality]).flatten().tolist()
            if not own:
                continue
            assert isinstance(stem, ModalityStem)
            images = torch.stack([x[sample, modality] for sample in own])[:, None]
            if convolved:
                found = run(partial(stem.convolutions, images), recompute)
                before[modality] = found.unflatten(1, (len(self.modalities), -1))
                whole = run(partial(stem.exchanged, found), recompute)
            else:
                whole = run(partial(stem, images), recompute)
            rows[modality], features[modality] = own, whole.unflatten(1, (len(self.modalities), -1))
        return Subspaces(rows, features, before)

    def lend(self, found: Subspaces, mask: Tensor) -> Tensor:
        """Fill the slots of each sample: ``[B, M·W, *spatial]``."""
        row_of = {(b, m): row for m, own in found.rows.items() for row, b in enumerate(own)}
        samples = []
        for sample, present in enumerate(mask.tolist()):
            slots = []
            for modality, there in enumerate(present):
                lender = modality if there else next(each for each in self.lenders[modality] if present[each])
                slots.append(found.features[lender][row_of[sample, lender], modality])  # RCR
            samples.append(torch.cat(slots))
        return torch.stack(samples)
