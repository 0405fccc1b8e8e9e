"""Decoders of images, for methods that reconstruct what they encode. They are trained only, never deployed."""

from __future__ import annotations

from typing import Any

from torch import nn


def image_decoder(network: Any) -> Any:
    """The planned decoder of a network, ending in one channel, an image, in place of segmentations.

    Args:
        network: another network from the plans (:class:`~nnunetv2_mmkd.methods.base.ExtraNetwork`); what is left of
            it besides the decoder is of no more use.

    Returns:
        a module, ``skips, largest first -> [B, 1, *spatial]``.
    """
    decoder = network.decoder
    if hasattr(decoder, "encoder"):  # nnU-Net's decoder holds an encoder that it does not run
        del decoder.encoder
    last = decoder.seg_layers[-1]
    decoder.seg_layers = nn.ModuleList([type(last)(last.in_channels, 1, 1).to(last.weight.device)])
    decoder.deep_supervision = False
    return decoder
