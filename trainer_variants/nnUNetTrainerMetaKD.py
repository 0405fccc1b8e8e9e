"""MetaKD (Wang et al.), and MCKD, the same method under the name of its first publication."""

from __future__ import annotations

from nnunetv2_mmkd.methods.metakd import MetaKD, MetaKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver

PAPER = "Wang et al., MetaKD"
PAPER_URL = "https://arxiv.org/abs/2405.07155"
STATUS = "compared"


class nnUNetTrainerMetaKD(nnUNetTrainerMultiStream):
    """MetaKD: shared encoder, mean filling, distillation weighted by meta-learned importance.

    The warm-up is the released code's: 80,000 of 115,000 iterations.
    """

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    full_modality_warmup = 80 / 115
    method_class = MetaKD
    config = MetaKDConfig()


class nnUNetTrainerMCKD(nnUNetTrainerMetaKD):
    """MCKD: the first publication of MetaKD."""


class nnUNetTrainerUniformKD(nnUNetTrainerMetaKD):
    """Ablation: all ratios 1, no importance weights, no meta split."""

    config = MetaKDConfig(ratios="equal")


class nnUNetTrainerSharedStreams(nnUNetTrainerMetaKD):
    """Ablation: the same network and modality dropout without distillation."""

    config = MetaKDConfig(alpha=0.0, ratios="equal")


__getattr__ = suffix_resolver(globals())
