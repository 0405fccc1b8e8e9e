"""LCKD (Wang et al.): distillation from elected teachers, several or one."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.methods.lckd import LCKD
from nnunetv2_mmkd.methods.lckd_config import LCKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Wang et al., LCKD, MICCAI 2023"
PAPER_URL = "https://arxiv.org/abs/2310.01035"
STATUS = "compared"


class nnUNetTrainerLCKD(nnUNetTrainerMultiStream):
    """LCKD-m: shared encoder, mean filling, distillation from the best single modality of each region.

    The paper trains for 115,000 iterations (here 250,000) under a cosine (``_recipe``), on batches of 2, its code on
    patches of 80 x 160 x 160 voxels (here as planned).
    """

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    full_modality_warmup = 80 / 115
    method_class = LCKD
    config = LCKDConfig()
    endings: ClassVar[Endings] = {
        "_alpha0": Ending("alpha = 0 (Fig. 3): no distillation; teachers are elected and unused", {"alpha": 0.0}),
        "_alpha05": Ending("alpha = 0.5 (Fig. 3)", {"alpha": 0.5}),
        "_alpha1": Ending("alpha = 1 (Fig. 3)", {"alpha": 1.0}),
        "_p2": Ending("p = 2, the mean squared error, instead of L1 (Fig. 3, stars)", {"p": 2}),
        "_singleteacher": Ending(
            "LCKD-s: one teacher, best for most regions (section 3.3)", {"teachers": "most_frequent"}
        ),
        "_releasedcode": Ending(
            "the released code's choices where they contradict the paper; after the warm-up never all modalities",
            "released_code",
            {"modality_dropout": ModalityDropoutConfig("count_uniform_incomplete", per="batch")},
        ),
        "_ownstreams": Ending("an encoder for each modality instead of one for all", trainer={"shared_streams": False}),
        "_recipe": Ending("the paper's training: cosine, 115,000 iterations", trainer={"recipe": recipes.METAKD}),
        "_metakdrecipe": None,  # the same
    }


class nnUNetTrainerLCKDSingleTeacher(nnUNetTrainerLCKD):
    """LCKD-s: one teacher, the modality that is best for most regions.

    The paper's length, batch and patch are those of ``nnUNetTrainerLCKD``.
    """

    config = LCKDConfig(teachers="most_frequent")
    endings: ClassVar[Endings] = {"_singleteacher": None}


__getattr__ = suffix_resolver(globals())
