"""ACN (Wang et al.): for exactly one subset, e.g. nnUNetTrainerACN_t1_t2, co-trained with a teacher."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from nnunetv2_mmkd.methods.acn import ACN, ACNConfig
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.networks.specialist import dedicated
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.specialist import nnUNetTrainerSubset, parse_name
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Wang et al., ACN, MICCAI 2021"
PAPER_URL = "https://arxiv.org/abs/2106.14591"
STATUS = "compared"


class nnUNetTrainerACN(nnUNetTrainerSubset):
    """ACN: a specialist, adversarial in entropies and features to a teacher of all modalities.

    The released code trains for 300 epochs of all cases with Adam and Dice alone (``_recipe``), batch 1, on volumes of
    160 x 192 x 128 voxels (here length, batch and patch as planned).
    """

    compiles_whole_network = False  # the method reads features from inside
    method_class = ACN
    config = ACNConfig()
    endings: ClassVar[Endings] = {
        "_recipe": Ending(
            "the released code's training: Adam, 300 epochs of 190, Dice", trainer={"recipe": recipes.ACN}
        ),
    }

    @classmethod
    def build_network(cls, request: NetworkRequest) -> nn.Module:
        return dedicated(request)


__getattr__ = suffix_resolver(globals(), parse_name)
