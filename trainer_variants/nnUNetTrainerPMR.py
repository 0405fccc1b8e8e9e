"""PMR (Fan et al.), prototypical modal rebalance, as PASSION compares with it: on mmFormer."""

from __future__ import annotations

from nnunetv2_mmkd.methods.pmr import PMR, PMRConfig
from nnunetv2_mmkd.modalities import SubsetLaw
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerPMR(nnUNetTrainerMultiStream):
    """mmFormer's network and losses; beside them the modality that lags behind is drawn to its own prototypes.

    The law is that of nnUNetTrainermmFormer and of nnUNetTrainerPASSION: uniform over the subsets, per sample; where
    training cases are incomplete, nothing more is dropped. With ``alpha`` and ``mu`` 0 this is nnUNetTrainermmFormer.
    """

    subset_law = SubsetLaw("uniform", per="sample")
    incomplete_law = SubsetLaw("full")
    shared_streams = False
    fusion = MMFormerFusion
    config = PMRConfig()

    def build_method(self) -> PMR:
        return PMR(self.config)


__getattr__ = suffix_resolver(globals())
