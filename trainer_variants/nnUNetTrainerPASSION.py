"""PASSION (Shi et al.): self-distillation to each modality alone, re-balanced under imbalanced missing rates."""

from __future__ import annotations

from nnunetv2_mmkd.methods.base import Method
from nnunetv2_mmkd.methods.passion import PASSION, PASSIONConfig
from nnunetv2_mmkd.modalities import SubsetLaw
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerPASSION_SharedStreams(nnUNetTrainerMultiStream):
    """PASSION on the shared-encoder network.

    Imperfect data training: where training cases lack modalities, by ``missing_modalities`` or a missing-rate table
    (``nnUNetTrainerPASSION_SharedStreams_<tag>``), nothing more is dropped. Perfect data training: where all are
    complete, subsets are drawn uniformly for each sample.
    """

    config = PASSIONConfig()

    def build_method(self) -> Method:
        if self.suffix_table is not None or any(self.dataset_json.get("missing_modalities", {}).values()):
            self.subset_law = SubsetLaw("full")
            self.target_law = SubsetLaw("uniform")
        return PASSION(self.config)


__getattr__ = suffix_resolver(globals())
