"""mmFormer (Zhang et al.): transformers within and across the modalities at the bottleneck."""

from __future__ import annotations

from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import suffix_resolver

PAPER = "Zhang et al., mmFormer, MICCAI 2022"
PAPER_URL = "https://arxiv.org/abs/2206.02425"
STATUS = "compared briefly"


class nnUNetTrainermmFormer(nnUNetTrainerBackbone):
    """mmFormer: a stream and a transformer for each modality, one transformer across them."""

    fusion = MMFormerFusion


__getattr__ = suffix_resolver(globals())
