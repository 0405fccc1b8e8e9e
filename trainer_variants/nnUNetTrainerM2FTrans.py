"""M2FTrans (Shi et al.): fusion tokens gather what the available modalities have."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.networks.fusion.m2ftrans import M2FTransFusion
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Shi et al., M2FTrans, IEEE JBHI 2024"
PAPER_URL = "https://doi.org/10.1109/JBHI.2023.3326151"
STATUS = "compared briefly"


class nnUNetTrainerM2FTrans(nnUNetTrainerBackbone):
    """M2FTrans: a stream for each modality, masked fusion tokens, spatial weights, cross-attention.

    The released code trains for 1000 epochs, each one pass over the cases, with AdamW and a weighted cross entropy
    (``_recipe``), on batches of 4 and patches of 80 x 80 x 80 voxels (here as planned).
    """

    fusion = M2FTransFusion
    endings: ClassVar[Endings] = {
        "_recipe": Ending(
            "the released code's training: AdamW, 1000 epochs of 50, weighted CE",
            trainer={"recipe": recipes.M2FTRANS},
        ),
    }


__getattr__ = suffix_resolver(globals())
