"""What a fusion is: streams of the available modalities in, the decoder's skips out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.fusion.scale_spec import own_features
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams


class Fusion(nn.Module):
    """A fusion of all scales. Each sample is fused by itself, from the features that it has.

    Attributes:
        predicts_maps: whether the result has maps.
    """

    predicts_maps: bool = False

    def forward(self, streams: Streams, *, weights: ModalityWeights | None = None, recomputed_scales: int = 0) -> Fused:
        """Fuse the streams.

        Args:
            streams: encoded modalities.
            weights: factors of the modalities' features (MetaKD, Eq. 4, outer problem); None multiplies nothing.
            recomputed_scales: at so many of the largest scales activations are recomputed in backward.
        """
        raise NotImplementedError


def check_fused(fusion: Fusion, fused: Fused, streams: Streams) -> None:
    """Check what a fusion has returned, before the decoder's layers stumble over it.

    Raises:
        InputError: not one skip for each scale, with the scale's channels and size; the message names the fusion.
    """
    wanted = [(len(streams.available), *scale[0].shape) for scale in streams.scales]
    found = [tuple(skip.shape) for skip in fused.skips] if isinstance(fused, Fused) else type(fused).__name__
    if found != wanted:
        raise InputError(
            f"{type(fusion).__name__} returned {found}: expected Fused with a skip of each scale, [batch, channels, "
            f"*size], largest first: {wanted}"
        )


def run(function: Callable[[], Tensor], recompute: bool) -> Tensor:
    """Call a function; if asked for, its activations are recomputed in backward instead of stored."""
    if recompute and torch.is_grad_enabled():
        result: Tensor = checkpoint(function, use_reentrant=False)
        return result
    return function()


class FusionOfScales(Fusion, nn.ModuleList):
    """A fusion whose scales know nothing of each other, and that predicts no maps.

    It is a list of modules, largest scale first, each of which takes a sample's
    :data:`~nnunetv2_mmkd.networks.fusion.scale_spec.Own` and returns ``[1, C, *spatial]``.
    """

    def forward(self, streams: Streams, *, weights: ModalityWeights | None = None, recomputed_scales: int = 0) -> Fused:
        """See :meth:`Fusion.forward`; no maps."""
        streams = streams.weighted(weights)
        skips = []
        for scale, block in enumerate(self):
            owns = [own_features(streams, sample, scale) for sample in range(len(streams.available))]
            skips.append(torch.cat([run(partial(block, own), scale < recomputed_scales) for own in owns]))
        return Fused(skips, [])
