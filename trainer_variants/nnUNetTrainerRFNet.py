"""RFNet (Ding et al.): each region of the image weighs the modalities anew."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.methods.auxiliary import AuxiliaryConfig
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Ding et al., RFNet, ICCV 2021"
PAPER_URL = "https://doi.org/10.1109/ICCV48922.2021.00394"
STATUS = "compared briefly"


class nnUNetTrainerRFNet(nnUNetTrainerBackbone):
    """RFNet: a stream for each modality, region-aware fusion at every scale.

    The warm-up of streams and region maps is the released code's: 20 of 300 epochs. It
    trains for 300 epochs of 150 iterations (here 1000 of 250) with Adam and a weighted cross entropy (``_recipe``), on
    batches of 2 and patches of 80 x 80 x 80 voxels (here as planned).
    """

    fusion = RFNetFusion
    config = AuxiliaryConfig(warmup_share=20 / 300)
    endings: ClassVar[Endings] = {
        "_recipe": Ending(
            "the released code's training: Adam, 300 epochs of 150, weighted CE",
            trainer={"recipe": recipes.RFNET},
        ),
    }


__getattr__ = suffix_resolver(globals())
