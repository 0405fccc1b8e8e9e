"""SFusion (Liu et al.): self-attention across the available modalities, then a softmax over them."""

from __future__ import annotations

from nnunetv2_mmkd.networks.fusion.sfusion import SFusion
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver

PAPER = "Liu et al., SFusion, MICCAI 2023"
PAPER_URL = "https://arxiv.org/abs/2208.12776"
STATUS = "tested"


class nnUNetTrainerSFusion(nnUNetTrainerMultiStream):
    """SFusion: a stream for each modality, N-to-one fusion by self-attention at every scale."""

    shared_streams = False
    fusion = SFusion


__getattr__ = suffix_resolver(globals())
