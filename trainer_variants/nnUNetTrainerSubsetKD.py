"""SubsetKD: one network for all subsets, taught by its own moving average on all modalities that a case has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnunetv2_mmkd.methods.subset_kd import SubsetKD, SubsetKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

STATUS = "compared"


class nnUNetTrainerSubsetKD(nnUNetTrainerMMKD):
    """SubsetKD: nnU-Net as planned, taught by its own moving average on all that a case has.

    Where it is known what will be missing, say so::

    class nnUNetTrainerMine(nnUNetTrainerSubsetKD):
        modality_dropout = ModalityDropoutConfig("deployment", missing={"t1ce": 0.3})
    """

    modality_dropout = ModalityDropoutConfig("uniform", per="sample")
    method_class = SubsetKD
    config = SubsetKDConfig()

    @classmethod
    def plans_entry(cls, modalities: Sequence[str], exclusive: bool = True) -> dict[str, Any]:
        entry = super().plans_entry(modalities, exclusive)
        return {**entry, "network": {"availability": cls.config.availability}}


class nnUNetTrainerSubsetKD_MultiStream(nnUNetTrainerMultiStream):
    """SubsetKD on streams: one encoder, of which each modality has its own first convolution and norm parameters."""

    modality_dropout = ModalityDropoutConfig("uniform", per="sample")
    own_parts = True
    method_class = SubsetKD
    config = SubsetKDConfig()


__getattr__ = suffix_resolver(globals())
