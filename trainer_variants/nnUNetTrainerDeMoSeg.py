"""DeMoSeg (Yang et al.): each modality expresses itself and, in its own sub-spaces, the others, and lends those."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from nnunetv2_mmkd.methods.demoseg import DeMoSeg, DeMoSegConfig
from nnunetv2_mmkd.networks.from_plans import decoupled
from nnunetv2_mmkd.networks.lending import lending_order
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.suffixes import Ending, Endings, suffix_resolver

PAPER = "Yang et al., DeMoSeg"
PAPER_URL = "https://arxiv.org/abs/2408.08708"
STATUS = "compared"


class nnUNetTrainerDeMoSeg(nnUNetTrainerMultiStream):
    """DeMoSeg: a stem for each modality, which lends for missing ones; all else is the planned network.

    Subsets uniform per sample, nnU-Net's own length and optimiser, batch and patch as planned, as in the released code.
    """

    method_class = DeMoSeg
    config = DeMoSegConfig()
    endings: ClassVar[Endings] = {
        "_releasedcode": Ending("the released code's choices: no distillation, no scores on channels", "released_code"),
    }

    @classmethod
    def plans_entry(cls, modalities: Sequence[str], exclusive: bool = True) -> dict[str, Any]:
        order = lending_order(modalities, cls.config.lenders)
        network = {"lenders": [[modalities[each] for each in own] for own in order], "gated": cls.config.gated}
        return {**super().plans_entry(modalities, exclusive), "network": network}

    @classmethod
    def build_network(cls, request: NetworkRequest) -> nn.Module:
        return decoupled(request)


__getattr__ = suffix_resolver(globals())
