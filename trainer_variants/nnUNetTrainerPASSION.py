"""PASSION (Shi et al.): self-distillation to each modality alone, re-balanced under imbalanced missing rates."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.methods.passion import PASSION, PASSIONConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.from_plans import FusionFactory
from nnunetv2_mmkd.networks.fusion.m2ftrans import M2FTransFusion
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerOwnStreams
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Shi et al., PASSION, ACM MM 2024"
PAPER_URL = "https://arxiv.org/abs/2407.14796"
STATUS = "compared briefly"


class nnUNetTrainerPASSION(nnUNetTrainerOwnStreams):
    """PASSION on mmFormer's network; where training cases are incomplete, nothing more is dropped.

    The paper trains for 300 epochs (here 1000), each one pass over the cases, with AdamW and a weighted cross entropy
    (``_recipe``), on single patches of 80 x 80 x 80 voxels (here batch and patch as planned).
    """

    fusion: FusionFactory = MMFormerFusion
    incomplete_dropout = ModalityDropoutConfig("full")
    method_class = PASSION
    config = PASSIONConfig()
    endings: ClassVar[Endings] = {
        "_baseline": Ending(
            "watched only, for Fig. 6: Eq. (2) in place of distillation; Table 2, row 1 is nnUNetTrainermmFormer",
            {"pixel": False, "proto": False, "mask": False, "weights": False, "regularisation": True},
        ),
        "_onlypixel": Ending(
            "Table 2, row 2: pixel-wise distillation alone",
            {"pixel": True, "proto": False, "mask": False, "weights": False},
        ),
        "_onlyproto": Ending(
            "Table 2, row 3: semantic distillation alone",
            {"pixel": False, "proto": True, "mask": False, "weights": False},
        ),
        "_withoutdelta": Ending(
            "Table 2, row 4: both distillations, no re-balancing (neither delta nor beta)",
            {"pixel": True, "proto": True, "mask": False, "weights": False},
        ),
        "_withoutbeta": Ending(
            "Table 2, row 5: re-balanced by the mask delta, not by the weights beta",
            {"pixel": True, "proto": True, "mask": True, "weights": False},
        ),
        "_allmodalities": Ending(
            "modalities that a step drops are students, too (Eq. 1; perfect data)", {"all_modalities": True}
        ),
        "_releasedcode": Ending("the released code's choices where they contradict the paper", "released_code"),
        "_recipe": Ending("the paper's training: AdamW, 300 epochs, weighted CE", trainer={"recipe": recipes.PASSION}),
        "_passionrecipe": None,  # the same
    }


class nnUNetTrainerPASSION_RFNet(nnUNetTrainerPASSION):
    """PASSION on RFNet's network.

    The paper's length, batch and patch are those of ``nnUNetTrainerPASSION``.
    """

    fusion = RFNetFusion


class nnUNetTrainerPASSION_M2FTrans(nnUNetTrainerPASSION):
    """PASSION on M2FTrans' network.

    The paper's length, batch and patch are those of ``nnUNetTrainerPASSION``.
    """

    fusion = M2FTransFusion


class nnUNetTrainerPASSION_SharedStreams(nnUNetTrainerPASSION):
    """PASSION on the shared-encoder network.

    The paper's length, batch and patch are those of ``nnUNetTrainerPASSION``.
    """

    STATUS = "tested"
    shared_streams = True
    fusion = MeanFill
    endings: ClassVar[Endings] = {"_sharedstreams": None}


__getattr__ = suffix_resolver(globals())
