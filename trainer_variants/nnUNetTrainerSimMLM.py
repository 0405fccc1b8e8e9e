"""SimMLM (Li et al.): one network per modality, their logits weighed by a gate."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from nnunetv2_mmkd.methods.simmlm import SimMLM, SimMLMConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.from_plans import gated_experts
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Li et al., SimMLM, ICCV 2025"
PAPER_URL = "https://arxiv.org/abs/2507.19264"
STATUS = "compared"


class nnUNetTrainerSimMLM(nnUNetTrainerMultiStream):
    """SimMLM: nnU-Net as planned for each modality, a gated sum of logits, more modalities not worse than fewer.

    Half of the training is the experts' alone. The released code trains each half for 300 epochs of 57 iterations
    (here 500 of 250) with Adam at a constant rate (``_recipe``), on batches of 4 and patches of 128 x 128 x 128 voxels
    (here as planned).
    """

    modality_dropout = ModalityDropoutConfig("uniform", per="sample")
    method_class = SimMLM
    config = SimMLMConfig()
    endings: ClassVar[Endings] = {
        "_ranking": None,  # it has the ranking loss
        "_withoutranking": Ending("the mixture of experts alone, without the ranking loss", {"ranking": 0.0}),
        "_jointly": Ending("no first stage: experts and gate together from the start", {"independent_share": 0.0}),
        "_recipe": Ending(
            "the released code's training: Adam, constant rate, 600 epochs of 57", trainer={"recipe": recipes.SIMMLM}
        ),
    }

    @classmethod
    def build_network(cls, request: NetworkRequest) -> nn.Module:
        return gated_experts(request)


__getattr__ = suffix_resolver(globals())
