"""RFNet (Ding et al.): each region of the image weighs the modalities anew."""

from __future__ import annotations

from nnunetv2_mmkd.methods.auxiliary import AuxiliaryConfig
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerRFNet(nnUNetTrainerBackbone):
    """A stream for each modality, region-aware fusion at every scale.

    For the first 20 of 300 epochs' share of the training only the streams and the region maps are trained, as in the
    released code.
    """

    fusion = RFNetFusion
    config = AuxiliaryConfig(warmup_share=20 / 300)


__getattr__ = suffix_resolver(globals())
