"""LCKD (Wang et al.): distillation from elected teachers, several or one."""

from __future__ import annotations

from nnunetv2_mmkd.methods.lckd import LCKD, LCKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver

PAPER = "Wang et al., LCKD, MICCAI 2023"
PAPER_URL = "https://arxiv.org/abs/2310.01035"
STATUS = "compared"


class nnUNetTrainerLCKD(nnUNetTrainerMultiStream):
    """LCKD-m: shared encoder, mean filling, distillation from the best single modality of each region."""

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    full_modality_warmup = 80 / 115
    method_class = LCKD
    config = LCKDConfig()


class nnUNetTrainerLCKDSingleTeacher(nnUNetTrainerLCKD):
    """LCKD-s: one teacher, the modality that is best for most regions."""

    config = LCKDConfig(teachers="most_frequent")


__getattr__ = suffix_resolver(globals())
