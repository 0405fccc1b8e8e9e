"""U-HeMIS (Havaei et al., Dorent et al.): mean and variance over the available modalities."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.fusion.hemis import HeMISFusion
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerOwnStreams
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Havaei et al., HeMIS, MICCAI 2016; Dorent et al., U-HVED, MICCAI 2019"
PAPER_URL = "https://arxiv.org/abs/1607.05194"
STATUS = "compared"


class nnUNetTrainerUHeMIS(nnUNetTrainerOwnStreams):
    """U-HeMIS: a stream for each modality, mean and variance of their features at every scale.

    U-HVED's released code trains it for 60,000 iterations (here 250,000) with Adam (``_recipe``), on single patches of
    112 x 112 x 112 voxels (here batch and patch as planned).
    """

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    fusion = HeMISFusion
    endings: ClassVar[Endings] = {
        "_recipe": Ending(
            "U-HVED's released code: Adam, constant rate, 60,000 iterations", trainer={"recipe": recipes.UHVED}
        ),
    }


__getattr__ = suffix_resolver(globals())
