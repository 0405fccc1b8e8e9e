"""RobustSeg (Chen et al.): content and appearance apart, gated fusion, image reconstruction."""

from __future__ import annotations

from nnunetv2_mmkd.methods.robust_seg import RobustSeg, RobustSegConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.from_plans import FusionFactory
from nnunetv2_mmkd.networks.fusion.gated import GatedFusion
from nnunetv2_mmkd.networks.fusion.sfusion import SFusion
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver

PAPER = "Chen et al., Robust-MSeg, MICCAI 2019"
PAPER_URL = "https://arxiv.org/abs/2002.09708"
STATUS = "tested"


class nnUNetTrainerRobustSeg(nnUNetTrainerMultiStream):
    """RobustSeg: a content stream for each modality, gated fusion, images reconstructed from their own appearance."""

    modality_dropout = ModalityDropoutConfig("bernoulli", per="sample", p=0.5)
    shared_streams = False
    fusion: FusionFactory = GatedFusion
    method_class = RobustSeg
    config = RobustSegConfig()


class nnUNetTrainerRobustSeg_SFusion(nnUNetTrainerRobustSeg):
    """RobustSeg with SFusion in the place of gates, as the SFusion paper tries it."""

    fusion = SFusion


__getattr__ = suffix_resolver(globals())
