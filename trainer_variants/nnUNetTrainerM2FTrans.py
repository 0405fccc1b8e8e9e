"""M2FTrans (Shi et al.): fusion tokens gather what the available modalities have."""

from __future__ import annotations

from nnunetv2_mmkd.networks.fusion.m2ftrans import M2FTransFusion
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import suffix_resolver

PAPER = "Shi et al., M2FTrans, IEEE JBHI 2024"
PAPER_URL = "https://doi.org/10.1109/JBHI.2023.3326151"
STATUS = "compared briefly"


class nnUNetTrainerM2FTrans(nnUNetTrainerBackbone):
    """M2FTrans: a stream for each modality, masked fusion tokens, spatial weights, cross-attention."""

    fusion = M2FTransFusion


__getattr__ = suffix_resolver(globals())
