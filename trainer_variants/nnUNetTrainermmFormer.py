"""mmFormer (Zhang et al.): transformers within and across the modalities at the bottleneck."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Zhang et al., mmFormer, MICCAI 2022"
PAPER_URL = "https://arxiv.org/abs/2206.02425"
STATUS = "compared briefly"


class nnUNetTrainermmFormer(nnUNetTrainerBackbone):
    """mmFormer: a stream and a transformer for each modality, one transformer across them.

    The released code trains for 1000 epochs, each one pass over the cases, with Adam and a weighted cross entropy
    (``_recipe``), on single patches of 128 x 128 x 128 voxels (here batch and patch as planned).
    """

    fusion = MMFormerFusion
    endings: ClassVar[Endings] = {
        "_recipe": Ending(
            "the released code's training: Adam, 1000 epochs of 199, weighted CE",
            trainer={"recipe": recipes.MMFORMER},
        ),
    }


__getattr__ = suffix_resolver(globals())
