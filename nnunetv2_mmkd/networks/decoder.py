"""nnU-Net's planned decoder, run stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def run_decoder(decoder: Any, skips: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The decoder's forward pass, with the features of its stages.

    A forward hook would not do: it is not called in a compiled decoder.

    Args:
        decoder: a planned ``UNetDecoder``.
        skips: largest first.

    Returns:
        the outputs, largest first (one without deep supervision), and the feature maps of the stages, smallest first.
    """
    features, outputs, last = [skips[-1]], [], len(decoder.stages) - 1
    for number, (rise, stage) in enumerate(zip(decoder.transpconvs, decoder.stages, strict=True)):
        features.append(stage(torch.cat((rise(features[-1]), skips[-(number + 2)]), 1)))
        if decoder.deep_supervision or number == last:
            outputs.append(decoder.seg_layers[number if decoder.deep_supervision else -1](features[-1]))
    return outputs[::-1], features[1:]
