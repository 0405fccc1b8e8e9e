"""SubsetKD: one network for all subsets, taught by its own moving average on all modalities that a case has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_mmkd.methods.subset_kd import SubsetKD, SubsetKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.from_plans import early_fusion
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD


class nnUNetTrainerSubsetKD(nnUNetTrainerMMKD):
    """nnU-Net as planned, a third more work in a step and none in prediction.

    Subsets are uniform per sample, without a warm-up. Where it is known what will be missing, say so::

        class nnUNetTrainerMine(nnUNetTrainerSubsetKD):
            modality_dropout = ModalityDropoutConfig("deployment", missing={"t1ce": 0.3})
    """

    modality_dropout = ModalityDropoutConfig("uniform", per="sample")
    config = SubsetKDConfig()

    def build_method(self) -> SubsetKD:
        return SubsetKD(self.config)

    @classmethod
    def plans_entry(cls, modalities: Sequence[str], exclusive: bool = True) -> dict[str, Any]:
        entry = super().plans_entry(modalities, exclusive)
        return {**entry, "network": {"availability": cls.config.availability}}

    @classmethod
    def build_network(
        cls,
        configuration: ConfigurationManager,
        modalities: Sequence[str],
        heads: int,
        deep_supervision: bool,
        exclusive: bool = True,
        availability: str = "none",
    ) -> nn.Module:
        return early_fusion(configuration, modalities, heads, deep_supervision, availability)


class nnUNetTrainerSubsetKD_MultiStream(nnUNetTrainerMultiStream):
    """The same objective on streams: one encoder, in which each modality has its first convolution and norm parameters.

    Missing modalities cost nothing, and there is no channel that could be mistaken for tissue.
    """

    modality_dropout = ModalityDropoutConfig("uniform", per="sample")
    own_parts = True
    config = SubsetKDConfig()

    def build_method(self) -> SubsetKD:
        return SubsetKD(self.config)


__getattr__ = suffix_resolver(globals())
