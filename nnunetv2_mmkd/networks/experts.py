"""A network for each modality and a gate that weighs their logits: SimMLM's mixture of modality experts.

Legend: B batch, M modalities, K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.networks.fusion.base import run
from nnunetv2_mmkd.networks.masking import resolve, zero_missing
from nnunetv2_mmkd.networks.multi_stream import compile_modules

CELLS = 4
"""The gate's last map has so many cells along each axis, as in the released code for patches of 128 voxels."""

HALVINGS = 5
"""At most so many strided convolutions lie in front of it."""

ExpertOutputs = list["tuple[list[int], list[Tensor]] | None"]
"""For each modality the samples that have it, and its expert's outputs for them, largest first; None: no sample."""


class Gate(nn.Module):
    """Gate values of each modality and head from the images: strided convolutions, then one linear layer.

    Args:
        modalities: M.
        heads: K.
        patch: size of the images that it is planned for, which says how often it halves each axis.
    """

    def __init__(self, modalities: int, heads: int, patch: Sequence[int]) -> None:
        super().__init__()
        dimensions = len(patch)
        convolution: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
        norm: Any = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dimensions - 1]
        pool: Any = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[dimensions - 1]
        layers: list[nn.Module] = []
        size = list(patch)
        for _ in range(HALVINGS):
            stride = [2 if axis >= 2 * CELLS else 1 for axis in size]
            if max(stride) == 1 and layers:
                break
            size = [axis // step for axis, step in zip(size, stride, strict=True)]
            layers += [convolution(modalities, modalities, 3, stride, 1), norm(modalities, affine=True), nn.ReLU()]
        self.layers = nn.Sequential(*layers, pool(CELLS), nn.Flatten())
        self.values = nn.Linear(modalities * CELLS**dimensions, modalities * heads)

    def forward(self, x: Tensor, available: Tensor) -> Tensor:
        """Weights of the modalities, which sum to 1 over the available ones: ``[B, M, K]``, float32.

        Args:
            x: ``[B, M, *spatial]``, zero where a modality is missing.
            available: bool ``[B, M]``.
        """
        values = self.values(self.layers(x)).float().reshape(len(x), available.shape[1], -1)
        missing = ~available.to(x.device, non_blocking=True)[..., None]
        weights: Tensor = values.masked_fill(missing, float("-inf")).softmax(1)  # w
        return weights


class GatedExperts(nn.Module):
    r"""One planned network for each modality, and their logits weighed by a gate.

    .. math:: o = \sum_{m \in A} w^m E^m(x^m), \qquad w = \operatorname{softmax}_{m \in A} G(x)

    Experts of missing modalities are not run. In eval mode what an expert says does not depend on the other modalities;
    the weights do.

    Args:
        experts: M planned networks with one input channel.
        gate: of all M.
        modalities: names of the channels.

    Attributes:
        recomputed_stages: above 0 an expert's activations are recomputed in backward, so that those of one expert at a
            time are stored.

    References:
        Li et al., SimMLM, ICCV 2025, dynamic mixture of modality experts.
    """

    def __init__(self, experts: Sequence[nn.Module], gate: nn.Module, modalities: Sequence[str]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.gate = gate
        self.modalities = tuple(modalities)
        self.recomputed_stages = 0
        self._seen: tuple[Tensor, int] | None = None  # sum and number of weights in predictions, until they are read

    @property
    def decoder(self) -> Decoders:
        """What nnU-Net switches deep supervision at."""
        return Decoders([expert.decoder for expert in self.experts])

    @property
    def n_scales(self) -> int:
        """Number of stages of an expert's encoder."""
        encoder: Any = self.experts[0].encoder
        return len(encoder.stages)

    def compile_parts(self, **options: Any) -> None:
        """Compile each expert in place; which of them run depends on the mask, so not the whole.

        Args:
            options: of ``torch.compile``.
        """
        compile_modules(list(self.experts), **options)

    def optional_parameters(self) -> list[nn.Parameter]:
        """Parameters that a step may leave unused: experts of modalities that no sample has, and at first the gate."""
        return list(self.parameters())

    def forward(self, x: Tensor, available: Tensor | None = None) -> Tensor | list[Tensor]:
        """Segment with the available modalities.

        Args:
            x: ``[B, M, *spatial]``.
            available: bool ``[B, M]`` or ``[M]``; None: the environment variable, else detection.

        Returns:
            logits ``[B, K, *spatial]``, or the deep supervision list of them, largest first.
        """
        mask = resolve(x, available, self.modalities)
        weights = self.weigh(x, mask)
        if torch.is_inference_mode_enabled():
            total, number = self._seen or (torch.zeros_like(weights[0]), 0)
            self._seen = total + weights.sum(0), number + len(weights)
        mixed = mix(self.run_experts(x, mask), weights)  # o
        return mixed if self.decoder.deep_supervision else mixed[0]

    def with_subsets(self, x: Tensor, subsets: Tensor) -> list[Tensor]:
        """Logits ``[B, K, *spatial]`` with each of several subsets; each expert runs once.

        Args:
            x: ``[B, M, *spatial]``; a channel that no subset has is not read.
            subsets: bool ``[S, M]`` on the CPU.
        """
        masks = [subset.expand(len(x), -1) for subset in subsets]
        outputs = self.run_experts(x, subsets.any(0).expand(len(x), -1))
        return [mix(outputs, self.weigh(x, mask), mask)[0] for mask in masks]

    def run_experts(self, x: Tensor, available: Tensor) -> ExpertOutputs:
        """Run each expert on the samples that have its modality.

        Args:
            x: ``[B, M, *spatial]``.
            available: bool ``[B, M]`` on the CPU.
        """
        outputs: ExpertOutputs = []
        recompute = self.recomputed_stages > 0 and self.training
        for modality, expert in enumerate(self.experts):
            samples = torch.nonzero(available[:, modality]).flatten().tolist()
            if not samples:
                outputs.append(None)
                continue
            own = torch.stack([x[sample, modality, None] for sample in samples])
            result: Any = run(partial(expert, own), recompute)
            outputs.append((samples, list(result) if isinstance(result, (list, tuple)) else [result]))
        return outputs

    def weigh(self, x: Tensor, available: Tensor) -> Tensor:
        """The gate's weights, ``[B, M, K]``; what stands in missing channels is not seen."""
        weights: Tensor = self.gate(zero_missing(x, available), available)
        return weights

    def take_weights(self) -> Tensor | None:
        """Mean weights of the predictions since the last call, ``[M, K]``; None: there were none."""
        if self._seen is None:
            return None
        total, number = self._seen
        self._seen = None
        return (total / number).cpu()


class Decoders:
    """The experts' decoders as one, for nnU-Net's switch."""

    def __init__(self, decoders: Sequence[Any]) -> None:
        self._decoders = decoders

    @property
    def deep_supervision(self) -> bool:
        """Whether they return all scales."""
        return bool(self._decoders[0].deep_supervision)

    @deep_supervision.setter
    def deep_supervision(self, enabled: bool) -> None:
        for decoder in self._decoders:
            decoder.deep_supervision = enabled


def mix(outputs: ExpertOutputs, weights: Tensor, available: Tensor | None = None) -> list[Tensor]:
    """The weighted sum of the experts' logits, at each scale with the same weights.

    Args:
        outputs: of the experts.
        weights: ``[B, M, K]``, 0 for missing modalities.
        available: bool ``[B, M]``: those that count, if they are fewer than have been run.

    Returns:
        largest first, ``[B, K, *spatial]``.
    """
    there = [(modality, own) for modality, own in enumerate(outputs) if own is not None]
    scales = len(there[0][1][1])
    mixed = []
    for scale in range(scales):
        example = there[0][1][1][scale]
        rows: list[Tensor | None] = [None] * len(weights)
        for modality, (samples, own) in there:
            for row, sample in enumerate(samples):
                if available is None or available[sample, modality]:
                    factor = weights[sample, modality].to(example.dtype).reshape(-1, *[1] * (example.ndim - 2))
                    term = factor * own[scale][row]
                    known = rows[sample]
                    rows[sample] = term if known is None else known + term
        mixed.append(torch.stack([row for row in rows if row is not None]))
    return mixed


def by_region(weights: Tensor, regions: Sequence[str], modalities: Sequence[str]) -> dict[str, dict[str, float]]:
    """The gate's weights by region and modality, for reports.

    Args:
        weights: ``[M, K]``; of classes, the first head is the background.
        regions: names, one for each of the last heads.
        modalities: names.
    """
    first = weights.shape[1] - len(regions)
    return {
        region: {name: round(float(weights[m, first + number]), 4) for m, name in enumerate(modalities)}
        for number, region in enumerate(regions)
    }
