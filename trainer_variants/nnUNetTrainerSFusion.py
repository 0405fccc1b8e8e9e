"""SFusion (Liu et al.): self-attention across the available modalities, then a softmax over them."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.networks.fusion.sfusion import SFusion
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerOwnStreams
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Liu et al., SFusion, MICCAI 2023"
PAPER_URL = "https://arxiv.org/abs/2208.12776"
STATUS = "compared"


class nnUNetTrainerSFusion(nnUNetTrainerOwnStreams):
    """SFusion: a stream for each modality, N-to-one fusion by self-attention at every scale.

    The released code trains for 200 epochs of 260 iterations (here 1000 of 250) with Adam and Dice alone (``_recipe``;
    its weights of the classes are left out), on single patches of 128 x 128 x 128 voxels (here batch and patch as
    planned).
    """

    fusion = SFusion
    endings: ClassVar[Endings] = {
        "_recipe": Ending(
            "the released code's training: Adam, constant rate, 200 epochs of 260, Dice",
            trainer={"recipe": recipes.SFUSION},
        ),
    }


__getattr__ = suffix_resolver(globals())
