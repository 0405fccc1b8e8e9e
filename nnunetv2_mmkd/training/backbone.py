"""The base of the trainers whose network is a published backbone: an encoder and a loss for each modality."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2_mmkd.methods.auxiliary import Auxiliary, AuxiliaryConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerOwnStreams
from nnunetv2_mmkd.training.suffixes import Ending, Endings


class nnUNetTrainerBackbone(nnUNetTrainerOwnStreams):
    """An encoder for each modality, a fusion that subclasses name; each available modality is also segmented by itself.

    Modality dropout is the papers': uniform over the subsets, per sample; where training cases are incomplete, nothing
    more is dropped (:class:`nnUNetTrainerModDrop` does).

    The optimiser is nnU-Net's SGD, as for all methods, so that they differ in nothing else; in short trainings on small
    data it was well ahead of the papers' AdamW, which is ``adamw = AdamWConfig()``.
    """

    modality_dropout = ModalityDropoutConfig("uniform", per="sample")
    incomplete_dropout: ModalityDropoutConfig | None = ModalityDropoutConfig("full")
    method_class: type[Any] = Auxiliary
    config = AuxiliaryConfig()
    endings: ClassVar[Endings] = {
        "_allmodalities": Ending(
            "modalities that a step drops are segmented by themselves, too (Eq. 1 of PASSION)", {"all_modalities": True}
        ),
    }
