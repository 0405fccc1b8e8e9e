"""RFNet (Ding et al.): each region of the image weighs the modalities anew."""

from __future__ import annotations

from nnunetv2_mmkd.methods.auxiliary import AuxiliaryConfig
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import suffix_resolver

PAPER = "Ding et al., RFNet, ICCV 2021"
PAPER_URL = "https://doi.org/10.1109/ICCV48922.2021.00394"
STATUS = "compared briefly"


class nnUNetTrainerRFNet(nnUNetTrainerBackbone):
    """RFNet: a stream for each modality, region-aware fusion at every scale.

    The warm-up of streams and region maps is the released code's: 20 of 300 epochs.
    """

    fusion = RFNetFusion
    config = AuxiliaryConfig(warmup_share=20 / 300)


__getattr__ = suffix_resolver(globals())
