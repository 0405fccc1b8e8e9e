"""ModDrop, as PASSION compares with it: random sub-masks of what incomplete training cases have."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Shi et al., PASSION, ACM MM 2024"
PAPER_URL = "https://arxiv.org/abs/2407.14796"
STATUS = "tested"


class nnUNetTrainerModDrop(nnUNetTrainerBackbone):
    """ModDrop: nnUNetTrainermmFormer that goes on dropping modalities where training cases are incomplete.

    PASSION trains it for 300 epochs (here 1000), each one pass over the cases, with AdamW and a weighted cross entropy
    (``_recipe``), on single patches of 80 x 80 x 80 voxels (here batch and patch as planned).
    """

    modality_dropout = ModalityDropoutConfig("submask", per="sample")
    incomplete_dropout = None
    fusion = MMFormerFusion
    endings: ClassVar[Endings] = {
        "_recipe": Ending(
            "as PASSION compares with it: AdamW, 300 epochs, weighted CE", trainer={"recipe": recipes.PASSION}
        ),
        "_passionrecipe": None,  # the same
    }


__getattr__ = suffix_resolver(globals())
