"""All subsets of the modalities in one pass of the sliding window.

nnU-Net's window, Gaussian, mirroring and ensembling run on a network that returns the heads of every subset, so none of
that code is repeated here.

Legend: M modalities, S subsets, K heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor, nn
from torch._dynamo import OptimizedModule

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.masked_predictor import MaskedPredictor
from nnunetv2_mmkd.networks.experts import GatedExperts
from nnunetv2_mmkd.networks.finite import OUTPUT
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet


class MultiSubsetNetwork(nn.Module):
    """A network that predicts with several subsets at once.

    A multi-stream network encodes each modality once and fuses and decodes for each subset; a mixture of experts runs
    each expert once; an early-fusion network is run once for each subset.

    Args:
        network: ``forward(x, available)``.
        subsets: bool ``[S, M]``, no row empty.
    """

    def __init__(self, network: nn.Module, subsets: Tensor) -> None:
        super().__init__()
        self.network = network
        self.subsets = subsets.detach().cpu().bool()

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load the weights of the network itself, as nnU-Net's predictor does between the folds of an ensemble."""
        return uncompiled(self.network).load_state_dict(state_dict, *args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of all subsets.

        Args:
            x: ``[B, M, *spatial]``.

        Returns:
            ``[B, S·K, *spatial]``, the K heads of the first subset first.
        """
        network = uncompiled(self.network)
        if isinstance(network, MultiStreamUNet):
            streams = network.encode(x, self.subsets.any(0))
            outputs: list[Any] = [
                network.decode(network.fuse(streams.narrowed(subset)).skips) for subset in self.subsets
            ]
        elif isinstance(network, GatedExperts):
            outputs = network.with_subsets(x, self.subsets)
        else:
            outputs = [self.network(x, available=subset) for subset in self.subsets]
        # with deep supervision on, the largest output comes first and is the prediction
        return torch.cat([each[0] if isinstance(each, list | tuple) else each for each in outputs], 1)


def uncompiled(network: nn.Module) -> nn.Module:
    """The network itself, where nnU-Net has compiled it."""
    return network._orig_mod if isinstance(network, OptimizedModule) else network


@dataclass(frozen=True)
class Heads:
    """All that nnU-Net's sliding window asks a label manager for."""

    num_segmentation_heads: int


class AllSubsetsPredictor(MaskedPredictor):
    """``nnUNetPredictor`` that predicts a preprocessed case with many subsets of its modalities.

    On the CPU the logits of a subset equal a prediction with that mask bit for bit.
    """

    label_manager: Any

    def predict_subsets(self, data: Tensor, subsets: Tensor, case: str = "") -> Tensor:
        """Logits of a preprocessed case with each of the subsets.

        Args:
            data: ``[M, *spatial]``; the content of a channel that no subset has is never read.
            subsets: bool ``[S, M]``, no row empty.
            case: its name, for messages.

        Returns:
            ``[S, K, *spatial]`` on the CPU.

        Raises:
            InputError: the output with a subset is NaN or infinite.
        """
        network, labels, self._case = self.network, self.label_manager, case
        self.network = MultiSubsetNetwork(network, subsets)
        self.label_manager = Heads(len(subsets) * labels.num_segmentation_heads)
        try:
            logits = self.predict_logits_from_preprocessed_data(data).cpu()
        finally:
            self.network, self.label_manager = network, labels
        return logits.reshape(len(subsets), labels.num_segmentation_heads, *logits.shape[1:])

    def _check_output(self, logits: Tensor) -> None:
        if not isinstance(self.network, MultiSubsetNetwork):
            super()._check_output(logits)
            return
        subsets = self.network.subsets
        for subset, each in zip(subsets, logits.tensor_split(len(subsets)), strict=True):
            if not torch.isfinite(each).all():
                names = [name for name, available in zip(self.modalities, subset.tolist(), strict=True) if available]
                raise InputError(f"with {'+'.join(names)} {OUTPUT}")

    def _internal_maybe_mirror_and_predict(self, x: Tensor) -> Tensor:
        if isinstance(self.network, MultiSubsetNetwork):  # it knows its masks
            result: Tensor = nnUNetPredictor._internal_maybe_mirror_and_predict(self, x)
            return result
        return super()._internal_maybe_mirror_and_predict(x)
