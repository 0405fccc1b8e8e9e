"""PASSION (Shi et al.): self-distillation to each modality alone, re-balanced under imbalanced missing rates."""

from __future__ import annotations

from nnunetv2_mmkd.methods.passion import PASSION, PASSIONConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.from_plans import FusionFactory
from nnunetv2_mmkd.networks.fusion.m2ftrans import M2FTransFusion
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver

PAPER = "Shi et al., PASSION, ACM MM 2024"
PAPER_URL = "https://arxiv.org/abs/2407.14796"
STATUS = "compared briefly"


class nnUNetTrainerPASSION(nnUNetTrainerMultiStream):
    """PASSION on mmFormer's network; where training cases are incomplete, nothing more is dropped."""

    shared_streams = False
    fusion: FusionFactory = MMFormerFusion
    incomplete_dropout = ModalityDropoutConfig("full")
    method_class = PASSION
    config = PASSIONConfig()


class nnUNetTrainerPASSION_RFNet(nnUNetTrainerPASSION):
    """PASSION on RFNet's network."""

    fusion = RFNetFusion


class nnUNetTrainerPASSION_M2FTrans(nnUNetTrainerPASSION):
    """PASSION on M2FTrans' network."""

    fusion = M2FTransFusion


class nnUNetTrainerPASSION_SharedStreams(nnUNetTrainerPASSION):
    """PASSION on the shared-encoder network."""

    STATUS = "tested"
    shared_streams = True
    fusion = MeanFill


__getattr__ = suffix_resolver(globals())
