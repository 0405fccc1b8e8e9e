"""PMR (Fan et al.), prototypical modal rebalance, as PASSION compares with it: on mmFormer."""

from __future__ import annotations

from nnunetv2_mmkd.methods.pmr import PMR, PMRConfig
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.training.backbone import nnUNetTrainerBackbone
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerPMR(nnUNetTrainerBackbone):
    """mmFormer's network and losses; beside them the modality that lags behind is drawn to its own prototypes.

    With ``alpha`` and ``mu`` 0 this is nnUNetTrainermmFormer, whose laws it has.
    """

    fusion = MMFormerFusion
    config = PMRConfig()

    def build_method(self) -> PMR:
        return PMR(self.config)


__getattr__ = suffix_resolver(globals())
