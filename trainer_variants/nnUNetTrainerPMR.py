"""PMR (Fan et al.), prototypical modal rebalance, as PASSION compares with it: on mmFormer."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.methods.pmr import PMR, PMRConfig
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Fan et al., PMR, CVPR 2023"
PAPER_URL = "https://arxiv.org/abs/2211.07089"
STATUS = "tested"


class nnUNetTrainerPMR(nnUNetTrainerBackbone):
    """PMR on mmFormer's network.

    PASSION trains it for 300 epochs (here 1000), each one pass over the cases, with AdamW and a weighted cross entropy
    (``_recipe``), on single patches of 80 x 80 x 80 voxels (here batch and patch as planned).
    """

    fusion = MMFormerFusion
    method_class = PMR
    config = PMRConfig()
    endings: ClassVar[Endings] = {
        "_recipe": Ending(
            "as PASSION compares with it: AdamW, 300 epochs, weighted CE", trainer={"recipe": recipes.PASSION}
        ),
        "_passionrecipe": None,  # the same
    }


__getattr__ = suffix_resolver(globals())
