"""The control: the stock planned network, trained under subset dropping."""

from __future__ import annotations

from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training.suffixes import suffix_resolver
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD


class nnUNetTrainerModalityDropout(nnUNetTrainerMMKD):
    """nnU-Net as planned, its missing channels zero, per-sample uniform over the 2^M - 1 subsets."""

    modality_dropout = ModalityDropoutConfig("uniform", per="sample")


__getattr__ = suffix_resolver(globals())
