"""LCKD (Wang et al.): distillation from elected teachers, several or one."""

from __future__ import annotations

from nnunetv2_mmkd.methods.lckd import LCKD, LCKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerLCKD(nnUNetTrainerMultiStream):
    """Shared encoder, mean filling, distillation from the best single modality of each region (LCKD-m).

    The law is nnUNetTrainerMetaKD's: the number of modalities kept is uniform, one subset per batch, after a
    full-modality warm-up of 80,000 of 115,000 iterations (none in runs under 10,000 iterations). 20 % of the fold's
    training cases are held out for the elections.
    """

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    full_modality_warmup = 80 / 115
    config = LCKDConfig()

    def build_method(self) -> LCKD:
        return LCKD(self.config)


class nnUNetTrainerLCKDSingleTeacher(nnUNetTrainerLCKD):
    """One teacher: the modality that is best for most regions (LCKD-s)."""

    config = LCKDConfig(teachers="most_frequent")


__getattr__ = suffix_resolver(globals())
