"""MetaKD (Wang et al.), and MCKD, the same method under the name of its first publication."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.methods.metakd import MetaKD
from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Wang et al., MetaKD"
PAPER_URL = "https://arxiv.org/abs/2405.07155"
STATUS = "compared"


class nnUNetTrainerMetaKD(nnUNetTrainerMultiStream):
    """MetaKD: shared encoder, mean filling, distillation weighted by meta-learned importance.

    The warm-up is the released code's: 80,000 of 115,000 iterations. The paper trains for 115,000 iterations (here
    250,000) under a cosine (``_recipe``), its code on batches of 2 and patches of 80 x 160 x 160 voxels (here as
    planned).
    """

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    full_modality_warmup = 80 / 115
    method_class = MetaKD
    config = MetaKDConfig()
    endings: ClassVar[Endings] = {
        "_alpha0": Ending("alpha = 0 (Fig. 3a): no distillation; importance is learned and unused", {"alpha": 0.0}),
        "_alpha01": Ending("alpha = 0.1 (Fig. 3a), the paper's choice and the default", {"alpha": 0.1}),
        "_alpha05": Ending("alpha = 0.5 (Fig. 3a)", {"alpha": 0.5}),
        "_alpha1": Ending("alpha = 1 (Fig. 3a)", {"alpha": 1.0}),
        "_p2": Ending("p = 2, the mean squared error, instead of L1 (section 4.4.1)", {"p": 2}),
        "_sigmoid": Ending(
            "importance normalised by a sigmoid instead of softmax (Table 6)", {"normalisation": "sigmoid"}
        ),
        "_relu": Ending("importance normalised by ReLU instead of softmax (Table 6)", {"normalisation": "relu"}),
        "_releasedcode": Ending("the released code's choices where they contradict the paper", "released_code"),
        "_ownstreams": Ending(
            "an encoder for each modality instead of one for all",
            trainer={"shared_streams": False, "own_parts": False},
        ),
        "_ownparts": Ending(
            "one encoder, of which each modality has its own first convolution and norms", trainer={"own_parts": True}
        ),
        "_recipe": Ending("the paper's training: cosine, 115,000 iterations", trainer={"recipe": recipes.METAKD}),
        "_metakdrecipe": None,  # the same
    }


class nnUNetTrainerMCKD(nnUNetTrainerMetaKD):
    """MCKD: the first publication of MetaKD.

    The papers' length, batch and patch are those of ``nnUNetTrainerMetaKD``.
    """


class nnUNetTrainerUniformKD(nnUNetTrainerMetaKD):
    """Ablation: all ratios 1, no importance weights, no meta split.

    The papers' length, batch and patch are those of ``nnUNetTrainerMetaKD``.
    """

    config = MetaKDConfig(ratios="equal")
    endings: ClassVar[Endings] = {"_sigmoid": None, "_relu": None, "_releasedcode": None}


class nnUNetTrainerSharedStreams(nnUNetTrainerMetaKD):
    """Ablation: the same network and modality dropout without distillation.

    The papers' length, batch and patch are those of ``nnUNetTrainerMetaKD``.
    """

    config = MetaKDConfig(alpha=0.0, ratios="equal")
    endings: ClassVar[Endings] = {
        "_alpha0": None,
        "_alpha01": None,
        "_alpha05": None,
        "_alpha1": None,
        "_p2": None,
        "_sigmoid": None,
        "_relu": None,
        "_releasedcode": None,
    }


__getattr__ = suffix_resolver(globals())
