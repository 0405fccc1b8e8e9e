"""RobustSeg (Chen et al.): content and appearance apart, gated fusion, image reconstruction."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_mmkd.methods.robust_seg import RobustSeg, RobustSegConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.from_plans import FusionFactory
from nnunetv2_mmkd.networks.fusion.gated import GatedFusion
from nnunetv2_mmkd.networks.fusion.sfusion import SFusion
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerOwnStreams
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Chen et al., Robust-MSeg, MICCAI 2019"
PAPER_URL = "https://arxiv.org/abs/2002.09708"
STATUS = "compared"


class nnUNetTrainerRobustSeg(nnUNetTrainerOwnStreams):
    """RobustSeg: a content stream for each modality, gated fusion, images reconstructed from their own appearance.

    The released code trains for 300 epochs of 300 iterations (here 1000 of 250) with Adam and a weighted cross entropy
    (``_recipe``), on single patches of 80 x 80 x 80 voxels (here batch and patch as planned).
    """

    modality_dropout = ModalityDropoutConfig("bernoulli", per="sample", p=0.5)
    fusion: FusionFactory = GatedFusion
    method_class = RobustSeg
    config = RobustSegConfig()
    endings: ClassVar[Endings] = {
        "_releasedcode": Ending("the released code's choices where they contradict the paper", "released_code"),
        "_recipe": Ending(
            "the released code's training: Adam, 300 epochs of 300, weighted CE", trainer={"recipe": recipes.ROBUSTSEG}
        ),
    }


class nnUNetTrainerRobustSeg_SFusion(nnUNetTrainerRobustSeg):
    """RobustSeg with SFusion in the place of gates, as the SFusion paper tries it.

    Length, batch and patch of the released codes: ``nnUNetTrainerRobustSeg``, ``nnUNetTrainerSFusion``.
    """

    fusion = SFusion


__getattr__ = suffix_resolver(globals())
