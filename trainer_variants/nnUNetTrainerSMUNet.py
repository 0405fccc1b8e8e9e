"""SMU-Net (Azad et al.): for exactly one subset, e.g. nnUNetTrainerSMUNet_t1_t2, taught content and style."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from nnunetv2_mmkd.methods.smunet import SMUNet, SMUNetConfig
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.networks.specialist import dedicated
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.specialist import nnUNetTrainerSubset, parse_name
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Azad et al., SMU-Net, MIDL 2022"
PAPER_URL = "https://arxiv.org/abs/2204.02961"
STATUS = "compared"


class nnUNetTrainerSMUNet(nnUNetTrainerSubset):
    """SMU-Net: a specialist that takes over content and style of a teacher of all modalities.

    The released code trains for 250 epochs of all cases with Adam and Dice alone (``_recipe``), batch 1, on volumes of
    160 x 192 x 128 voxels (here length, batch and patch as planned).
    """

    compiles_whole_network = False  # the method reads features from inside
    method_class = SMUNet
    config = SMUNetConfig()
    endings: ClassVar[Endings] = {
        "_releasedcode": Ending("the released code's choices where they contradict the paper", "released_code"),
        "_recipe": Ending(
            "the released code's training: Adam, 250 epochs of 200, Dice", trainer={"recipe": recipes.SMUNET}
        ),
    }

    @classmethod
    def build_network(cls, request: NetworkRequest) -> nn.Module:
        return dedicated(request, with_style=True)


__getattr__ = suffix_resolver(globals(), parse_name)
