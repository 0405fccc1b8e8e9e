"""M2FTrans (Shi et al.): fusion tokens gather what the available modalities have."""

from __future__ import annotations

from nnunetv2_mmkd.methods.auxiliary import Auxiliary, AuxiliaryConfig
from nnunetv2_mmkd.modalities import SubsetLaw
from nnunetv2_mmkd.networks.fusion.m2ftrans import M2FTransFusion
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerM2FTrans(nnUNetTrainerMultiStream):
    """A stream for each modality, masked fusion tokens, spatial weights and cross-attention from them.

    The law is the paper's: uniform over the subsets, per sample; where training cases are incomplete, nothing more is
    dropped (:class:`nnUNetTrainerModDrop` does). Each available modality is also segmented by itself.

    The optimiser is nnU-Net's SGD, as for all methods, so that they differ in nothing else; in short trainings on small
    data it was well ahead of the paper's AdamW, which is ``optimizer_law = OptimizerLaw()``.
    """

    subset_law = SubsetLaw("uniform", per="sample")
    incomplete_law = SubsetLaw("full")
    shared_streams = False
    fusion = M2FTransFusion
    config = AuxiliaryConfig()

    def build_method(self) -> Auxiliary:
        return Auxiliary(self.config)


__getattr__ = suffix_resolver(globals())
