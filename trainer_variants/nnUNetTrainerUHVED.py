"""U-HVED (Dorent et al.): a product of Gaussians at every scale, divergences between subsets, image reconstruction."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.methods.uhved import UHVED, UHVEDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.fusion.hved import HVEDFusion
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerOwnStreams
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Dorent et al., U-HVED, MICCAI 2019"
PAPER_URL = "https://arxiv.org/abs/1907.11150"
STATUS = "compared"


class nnUNetTrainerUHVED(nnUNetTrainerOwnStreams):
    """U-HVED: a variational stream for each modality, their Gaussians multiplied, images reconstructed in training.

    The released code trains for 60,000 iterations (here 250,000) with Adam (``_recipe``), on single patches of 112 x
    112 x 112 voxels (here batch and patch as planned).
    """

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    fusion = HVEDFusion
    method_class = UHVED
    config = UHVEDConfig()
    endings: ClassVar[Endings] = {
        "_releasedcode": Ending("the released code's choices where they contradict the paper", "released_code"),
        "_recipe": Ending(
            "the released code's training: Adam, constant rate, 60,000 iterations", trainer={"recipe": recipes.UHVED}
        ),
    }


__getattr__ = suffix_resolver(globals())
