"""The control: the stock planned network, trained under modality dropout."""

from __future__ import annotations

from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training.suffixes import suffix_resolver
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

STATUS = "recommended"


class nnUNetTrainerModalityDropout(nnUNetTrainerMMKD):
    """Modality dropout: nnU-Net as planned, its missing channels zero, subsets uniform per sample."""

    modality_dropout = ModalityDropoutConfig("uniform", per="sample")


__getattr__ = suffix_resolver(globals())
