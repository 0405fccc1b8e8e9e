"""ModDrop, as PASSION compares with it: random sub-masks of what incomplete training cases have."""

from __future__ import annotations

from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerModDrop(nnUNetTrainerBackbone):
    """mmFormer's network and losses; of what a training case has a non-empty part is drawn uniformly, per sample.

    On complete cases this is nnUNetTrainermmFormer; on incomplete ones that drops nothing, and this goes on dropping.
    """

    modality_dropout = ModalityDropoutConfig("submask", per="sample")
    incomplete_dropout = None
    fusion = MMFormerFusion


__getattr__ = suffix_resolver(globals())
