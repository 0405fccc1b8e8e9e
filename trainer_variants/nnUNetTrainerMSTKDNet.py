"""MST-KDNet (Zhu et al.): a teacher on all modalities, a student on a subset, distillation at every level."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from nnunetv2_mmkd.methods.mst_kdnet import MSTKDNet
from nnunetv2_mmkd.methods.mst_kdnet_config import MSTKDNetConfig
from nnunetv2_mmkd.networks.from_plans import transformer_unet
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

PAPER = "Zhu et al., MST-KDNet, MICCAI 2025"
PAPER_URL = "https://arxiv.org/abs/2507.22626"
STATUS = "compared"


class nnUNetTrainerMSTKDNet(nnUNetTrainerMMKD):
    """MST-KDNet: the planned U-Net with a multi-scale transformer, taught by a copy that sees all modalities.

    The paper trains for 250 epochs (here 1000) with Adam and Dice alone (``_recipe``), on single volumes resized to
    160 x 192 x 128 voxels (here batch and patch as planned).
    """

    compiles_whole_network = False  # the method reads features from inside
    method_class = MSTKDNet
    config = MSTKDNetConfig()
    endings: ClassVar[Endings] = {
        "_withoutmstkd": Ending("Table 4: without MS-TKD, Eqs. (2)-(4)", {"ms_tkd": False}),
        "_withoutgsme": Ending("Table 4: without GSME, Eqs. (9)-(11)", {"style": False, "adversarial": False}),
        "_withoutslkd": Ending("Table 4: without SLKD, Eqs. (6) and (7)", {"standardised_kl": False}),
        "_frozenteacher": Ending("the teacher is trained first, then frozen, not co-trained", {"teacher": "frozen"}),
        "_releasedcode": Ending("the released code's choices where they contradict the paper", "released_code"),
        "_recipe": Ending("the paper's training: Adam, 250 epochs, Dice alone", trainer={"recipe": recipes.MST_KDNET}),
        "_mstkdnetrecipe": None,  # the same
    }

    @classmethod
    def build_network(cls, request: NetworkRequest) -> nn.Module:
        return transformer_unet(request)


__getattr__ = suffix_resolver(globals())
