"""MetaKD (Wang et al.), and MCKD, the same method under the name of its first publication."""

from __future__ import annotations

from nnunetv2_mmkd.methods.metakd import MetaKD, MetaKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerMetaKD(nnUNetTrainerMultiStream):
    """Shared encoder, mean filling, distillation weighted by meta-learned importance.

    The law is the released code's: the number of modalities kept is uniform, one subset per batch, after a
    full-modality warm-up of 80,000 of 115,000 iterations (none in runs under 10,000 iterations). At most 5 cases and
    10 % of the fold's training cases are held out for the meta-updates.
    """

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    full_modality_warmup = 80 / 115
    config = MetaKDConfig()

    def build_method(self) -> MetaKD:
        return MetaKD(self.config)


class nnUNetTrainerMCKD(nnUNetTrainerMetaKD):
    """MCKD: the method of nnUNetTrainerMetaKD, which is its later and longer description."""


class nnUNetTrainerUniformKD(nnUNetTrainerMetaKD):
    """For attribution: all ratios 1, no importance weights, no meta split."""

    config = MetaKDConfig(ratios="equal")


class nnUNetTrainerSharedStreams(nnUNetTrainerMetaKD):
    """For attribution: the same network and law without distillation (alpha = 0)."""

    config = MetaKDConfig(alpha=0.0, ratios="equal")


__getattr__ = suffix_resolver(globals())
