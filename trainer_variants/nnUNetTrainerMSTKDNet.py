"""MST-KDNet (Zhu et al.): a teacher on all modalities, a student on a subset, distillation at every level."""

from __future__ import annotations

from collections.abc import Sequence

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_mmkd.methods.mst_kdnet import MSTKDNet
from nnunetv2_mmkd.methods.mst_kdnet_config import MSTKDNetConfig
from nnunetv2_mmkd.networks.from_plans import transformer_unet
from nnunetv2_mmkd.training.suffixes import suffix_resolver
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD


class nnUNetTrainerMSTKDNet(nnUNetTrainerMMKD):
    """The planned U-Net with a multi-scale transformer, taught by a copy that sees all modalities of a case.

    The law is the paper's: uniform over the subsets. Teacher and student are trained together; the student is saved.
    """

    compiles_whole_network = False  # the method reads features from inside
    config = MSTKDNetConfig()

    def build_method(self) -> MSTKDNet:
        return MSTKDNet(self.config)

    @classmethod
    def build_network(
        cls,
        configuration: ConfigurationManager,
        modalities: Sequence[str],
        heads: int,
        deep_supervision: bool,
        exclusive: bool = True,
    ) -> nn.Module:
        return transformer_unet(configuration, modalities, heads, deep_supervision)


__getattr__ = suffix_resolver(globals())
