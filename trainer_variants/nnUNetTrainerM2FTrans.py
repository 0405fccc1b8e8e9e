"""M2FTrans (Shi et al.): fusion tokens gather what the available modalities have."""

from __future__ import annotations

from nnunetv2_mmkd.networks.fusion.m2ftrans import M2FTransFusion
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerM2FTrans(nnUNetTrainerBackbone):
    """A stream for each modality, masked fusion tokens, spatial weights and cross-attention from them."""

    fusion = M2FTransFusion


__getattr__ = suffix_resolver(globals())
