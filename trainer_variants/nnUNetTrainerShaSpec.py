"""ShaSpec (Wang et al.): shared and specific features, a missing modality is what the others share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from nnunetv2_mmkd.methods.shaspec import ShaSpec, ShaSpecConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.networks.from_plans import shared_specific
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.training import recipes
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Wang et al., ShaSpec, CVPR 2023"
PAPER_URL = "https://arxiv.org/abs/2307.14126"
STATUS = "compared"


class nnUNetTrainerShaSpec(nnUNetTrainerMultiStream):
    """ShaSpec: a shared encoder and one for each modality, shared features aligned, specific ones classified.

    The paper trains for 180,000 iterations (here 250,000) under a cosine (``_recipe``). The warm-up is the released
    code's, 80,000 of them; its batch is 1, its patch 80 x 160 x 160 (here as planned).
    """

    modality_dropout = ModalityDropoutConfig("count_uniform", per="batch")
    full_modality_warmup = 80 / 180
    method_class = ShaSpec
    config = ShaSpecConfig()
    endings: ClassVar[Endings] = {
        "_releasedcode": Ending(
            "the released code's choices: first available feature, pairs in a cycle", "released_code"
        ),
        "_recipe": Ending(
            "the paper's training: cosine, 180,000 iterations, no weight decay", trainer={"recipe": recipes.SHASPEC}
        ),
    }

    @classmethod
    def plans_entry(cls, modalities: Sequence[str], exclusive: bool = True) -> dict[str, Any]:
        return {**super().plans_entry(modalities, exclusive), "network": {"fill": cls.config.fill}}

    @classmethod
    def build_network(cls, request: NetworkRequest) -> nn.Module:
        return shared_specific(request)


__getattr__ = suffix_resolver(globals())
