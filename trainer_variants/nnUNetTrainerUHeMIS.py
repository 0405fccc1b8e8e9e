"""U-HeMIS (Havaei et al., Dorent et al.): mean and variance over the available modalities."""

from __future__ import annotations

from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.fusion.hemis import HeMISFusion
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver

PAPER = "Havaei et al., HeMIS, MICCAI 2016; Dorent et al., U-HVED, MICCAI 2019"
PAPER_URL = "https://arxiv.org/abs/1607.05194"
STATUS = "tested"


class nnUNetTrainerUHeMIS(nnUNetTrainerMultiStream):
    """U-HeMIS: a stream for each modality, mean and variance of their features at every scale."""

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    shared_streams = False
    fusion = HeMISFusion


__getattr__ = suffix_resolver(globals())
