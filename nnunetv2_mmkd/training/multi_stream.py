"""The base of all trainers with a stream per modality."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from nnunetv2_mmkd.networks.from_plans import FusionFactory, multi_stream
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.training.suffixes import Ending, Endings
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

STAGES_RECOMPUTED_ON_CUDA = 2
"""The two largest scales hold most of a stream's activations; without them M streams fit the plan's memory target."""


class nnUNetTrainerMultiStream(nnUNetTrainerMMKD):
    """Base of the trainers with a stream per modality, a fusion at every scale and the planned decoder.

    Attributes:
        shared_streams: one encoder for all modalities, or one for each.
        own_parts: with one encoder, whether each modality has a first convolution and norm parameters of its own.
        fusion: makes the fusion from what it may know of the scales.
        recomputed_stages: encoder stages whose activations are recomputed in backward instead of stored. None: the
            two largest on CUDA, so that nnU-Net's memory target still holds with all modalities available, none on CPU.
    """

    compiles_whole_network = False  # gathering by mask breaks the graph; with nnUNet_compile its parts are compiled
    shared_streams: bool = True
    own_parts: bool = False
    fusion: FusionFactory = MeanFill
    recomputed_stages: int | None = None

    @classmethod
    def build_network(cls, request: NetworkRequest) -> nn.Module:
        """The multi-stream network of the plans."""
        return multi_stream(request, shared=cls.shared_streams, own_parts=cls.own_parts, fusion=cls.fusion)

    def initialize(self) -> None:
        """As the base; then switch recomputation, and compile the parts of the network if nnUNet_compile asks."""
        super().initialize()
        network: Any = self.bare_network
        if self._do_i_compile():
            network.compile_parts()
        stages = self.recomputed_stages
        if stages is None:
            stages = STAGES_RECOMPUTED_ON_CUDA if self.device.type == "cuda" else 0
        network.recomputed_stages = stages


class nnUNetTrainerOwnStreams(nnUNetTrainerMultiStream):
    """Base of those with an encoder for each modality, unless the name asks for one that all share."""

    shared_streams = False
    endings: ClassVar[Endings] = {
        "_sharedstreams": Ending(
            "one encoder for all modalities instead of one for each", trainer={"shared_streams": True}
        ),
    }
