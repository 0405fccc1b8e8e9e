"""U-HVED (Dorent et al.): a product of Gaussians at every scale, divergences between subsets, image reconstruction."""

from __future__ import annotations

from nnunetv2_mmkd.methods.uhved import UHVED, UHVEDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.fusion.hved import HVEDFusion
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver

PAPER = "Dorent et al., U-HVED, MICCAI 2019"
PAPER_URL = "https://arxiv.org/abs/1907.11150"
STATUS = "tested"


class nnUNetTrainerUHVED(nnUNetTrainerMultiStream):
    """U-HVED: a variational stream for each modality, their Gaussians multiplied, images reconstructed in training."""

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    shared_streams = False
    fusion = HVEDFusion
    method_class = UHVED
    config = UHVEDConfig()


__getattr__ = suffix_resolver(globals())
