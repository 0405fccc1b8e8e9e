"""MST-KDNet (Zhu et al.): a teacher on all modalities, a student on a subset, distillation at every level."""

from __future__ import annotations

from torch import nn

from nnunetv2_mmkd.methods.mst_kdnet import MSTKDNet
from nnunetv2_mmkd.methods.mst_kdnet_config import MSTKDNetConfig
from nnunetv2_mmkd.networks.from_plans import transformer_unet
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.training.suffixes import suffix_resolver
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

PAPER = "Zhu et al., MST-KDNet, MICCAI 2025"
PAPER_URL = "https://arxiv.org/abs/2507.22626"
STATUS = "compared"


class nnUNetTrainerMSTKDNet(nnUNetTrainerMMKD):
    """MST-KDNet: the planned U-Net with a multi-scale transformer, taught by a copy that sees all modalities."""

    compiles_whole_network = False  # the method reads features from inside
    method_class = MSTKDNet
    config = MSTKDNetConfig()

    @classmethod
    def build_network(cls, request: NetworkRequest) -> nn.Module:
        return transformer_unet(request)


__getattr__ = suffix_resolver(globals())
