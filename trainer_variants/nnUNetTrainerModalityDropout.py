"""The control: the stock planned network, trained under modality dropout. And variants of it that cost the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nnunetv2_mmkd.methods.nested_subsets import NestedSubsets, NestedSubsetsConfig
from nnunetv2_mmkd.methods.subset_kd import SubsetKD, SubsetKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

STATUS = "recommended"


class nnUNetTrainerModalityDropout(nnUNetTrainerMMKD):
    """Modality dropout: nnU-Net as planned, its missing channels zero, subsets uniform per sample."""

    modality_dropout = ModalityDropoutConfig("uniform", per="sample")
    endings: ClassVar[Endings] = {
        "_metakdrecipe": Ending(
            "the training of MetaKD and LCKD with their modality dropout and warm-up, for comparisons",
            trainer={
                "recipe": recipes.METAKD,
                "modality_dropout": ModalityDropoutConfig("count_uniform", per="batch"),
                "full_modality_warmup": 80 / 115,
            },
        ),
    }


class nnUNetTrainerModalityDropoutFull(nnUNetTrainerModalityDropout):
    """Modality dropout, the full set heavier: three samples of ten more keep all that their case has."""

    STATUS = "tested"
    endings: ClassVar[Endings] = {"_metakdrecipe": None}  # it has a modality dropout of its own
    modality_dropout = ModalityDropoutConfig("uniform", full=0.3)
    target_dropout = ModalityDropoutConfig("uniform")


class nnUNetTrainerModalityDropoutSingles(nnUNetTrainerModalityDropout):
    """Modality dropout, single modalities heavier: each modality is dropped with a probability of 0.7."""

    STATUS = "tested"
    endings: ClassVar[Endings] = {"_metakdrecipe": None}  # it has a modality dropout of its own
    modality_dropout = ModalityDropoutConfig("bernoulli", p=0.7)
    target_dropout = ModalityDropoutConfig("uniform")


class nnUNetTrainerModalityDropoutAnnealed(nnUNetTrainerModalityDropout):
    """Modality dropout, from nothing dropped at first to uniform at half of the training."""

    STATUS = "tested"
    endings: ClassVar[Endings] = {"_metakdrecipe": None}  # it has a modality dropout of its own
    modality_dropout = ModalityDropoutConfig("uniform", annealed=0.5)
    target_dropout = ModalityDropoutConfig("uniform")


class nnUNetTrainerModalityDropoutEMA(nnUNetTrainerModalityDropout):
    """Modality dropout, the moving average of the weights deployed; nothing is distilled."""

    STATUS = "tested"
    method_class = SubsetKD
    config = SubsetKDConfig(teacher="none", weight=0.0)


class nnUNetTrainerModalityDropoutNested(nnUNetTrainerModalityDropout):
    """Modality dropout with two nested subsets of half as many samples, and a ranking loss between them."""

    STATUS = "tested"
    endings: ClassVar[Endings] = {"_ranking": None}  # it has one
    method_class = NestedSubsets
    config = NestedSubsetsConfig()


class nnUNetTrainerModalityDropoutStems(nnUNetTrainerModalityDropout):
    """Modality dropout on nnU-Net's network with a first convolution and norm for each modality."""

    STATUS = "tested"

    @classmethod
    def plans_entry(cls, modalities: Sequence[str], exclusive: bool = True) -> dict[str, Any]:
        return {**super().plans_entry(modalities, exclusive), "network": {"availability": "stems"}}


__getattr__ = suffix_resolver(globals())
