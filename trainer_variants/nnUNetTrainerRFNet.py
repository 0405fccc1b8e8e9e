"""RFNet (Ding et al.): each region of the image weighs the modalities anew."""

from __future__ import annotations

from nnunetv2_mmkd.methods.auxiliary import Auxiliary, AuxiliaryConfig
from nnunetv2_mmkd.modalities import SubsetLaw
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerRFNet(nnUNetTrainerMultiStream):
    """A stream for each modality, region-aware fusion at every scale.

    The law is the paper's: uniform over the subsets, per sample; where training cases are incomplete, nothing more is
    dropped (:class:`nnUNetTrainerModDrop` does). Each available modality is also segmented by itself.

    For the first 20 of 300 epochs' share of the training only the streams and the region maps are trained, as in the
    released code.

    The optimiser is nnU-Net's SGD, as for all methods, so that they differ in nothing else; in short trainings on small
    data it was well ahead of the paper's AdamW, which is ``optimizer_law = OptimizerLaw()``.
    """

    subset_law = SubsetLaw("uniform", per="sample")
    incomplete_law = SubsetLaw("full")
    shared_streams = False
    fusion = RFNetFusion
    config = AuxiliaryConfig(warmup_share=20 / 300)

    def build_method(self) -> Auxiliary:
        return Auxiliary(self.config)


__getattr__ = suffix_resolver(globals())
