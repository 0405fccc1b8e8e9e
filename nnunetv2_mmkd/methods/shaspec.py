"""ShaSpec: shared features that look alike, specific ones that tell their modality.

Legend: B batch, M modalities, A available modalities of a sample, P available pairs, C channels of the bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.losses.feature import pooled_weight
from nnunetv2_mmkd.losses.shared_specific import (
    PAIRS,
    aligned_pairs,
    alignment_distance,
    modality_classification,
    pooled,
)
from nnunetv2_mmkd.methods.base import (
    Averages,
    Batch,
    FeatureWidth,
    Method,
    StepResult,
    TaskLoss,
    TrainingContext,
    sum_of_parts,
)
from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.fusion.shared_specific import FILLS
from nnunetv2_mmkd.networks.streams import Streams


@dataclass(frozen=True)
class ShaSpecConfig:
    """Hyper-parameters of ShaSpec.

    Attributes:
        alpha: weight of the alignment of shared features (§4.2: 0.1).
        beta: weight of the classification of specific features (§4.2: 0.02).
        pairs: which shared features are compared, ``"all"`` (Eq. 8) or ``"cyclic"`` (released code: each modality with
            the next).
        fill: what stands in for a missing modality: the ``"mean"`` of the shared features of the available ones
            (Eq. 4), or that of the ``"first"`` available one (released code). It is the network's, and goes into the
            plans.
    """

    alpha: float = 0.1
    beta: float = 0.02
    pairs: str = "all"
    fill: str = "mean"

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            if not value >= 0:
                raise ValueError(f"ShaSpec: {name} must not be negative, not {value}")
        for name, chosen, allowed in (("pairs", self.pairs, PAIRS), ("fill", self.fill, FILLS)):
            if chosen not in allowed:
                raise ValueError(f"ShaSpec: {name} must be one of {', '.join(allowed)}, not {chosen!r}")

    @classmethod
    def released_code(cls) -> ShaSpecConfig:
        """The released code's choices where they contradict the paper."""
        return cls(pairs="cyclic", fill="first")


class ShaSpec(Method[MultiStreamNetwork]):
    r"""Task loss, alignment of the shared features, classification of the specific ones.

    .. math:: \ell_{task} + \alpha \sum_{i < j \in A} \operatorname{mean} |r_i - r_j|
        + \beta \operatorname{CE}(g(\bar s_m), m)

    with r shared and s specific features at the bottleneck, :math:`\bar s` the mean over positions, g a linear
    classifier of the M modalities, trained with the network and never deployed. The sum over pairs is averaged over the
    batch, the cross entropy over the available (sample, modality) pairs.

    As in the paper, modalities that are missing in a step have no part in either term (§3.3.3; the released code aligns
    and classifies the features of images of zeros, too), and all pairs of available modalities are aligned (the
    released code takes a cycle of them, ``pairs="cyclic"``).

    References:
        Wang et al., Multi-modal Learning with Missing Modality via Shared-Specific Feature Modelling, CVPR 2023,
        Eq. (9).

    Deviations from the paper:
        The alignment is a mean absolute difference, as in the released code, where Eq. (8) has a norm. Specific
        features are pooled at the bottleneck (the released code: before its ASPP, which nnU-Net does not plan).
        Optimiser, schedule and task loss are nnU-Net's.
    """

    needs = (FeatureWidth,)

    def __init__(self, config: ShaSpecConfig | None = None) -> None:
        self.config = config or ShaSpecConfig()
        self._averages = Averages()

    def setup(self, context: TrainingContext) -> None:
        """Make the classifier."""
        super().setup(context)
        self.classifier = nn.Linear(context.need(FeatureWidth)(), len(context.modalities)).to(context.device)

    def trainable(self) -> Sequence[nn.Module]:
        """The classifier."""
        return (self.classifier,)

    def step(self, network: MultiStreamNetwork, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """All terms on a batch."""
        streams = network.encode(batch.images, batch.available)
        parts = {"task": task_loss(network.decode(network.fuse(streams).skips), batch.target)}  # Eq. (3)
        alignment, pairs = self.alignment(streams, batch.valid)
        parts["alignment"] = self.config.alpha * alignment
        classification, right = self.classification(streams, batch.valid)
        parts["classification"] = self.config.beta * classification
        self._averages.add_all("loss", parts)
        if pairs:
            self._averages.add("alignment per pair/mean", alignment.detach() * len(batch.available) / pairs)
        self._averages.add("modality of specific features/accuracy", right)
        return sum_of_parts(parts)  # Eq. (9)

    def alignment(self, streams: Streams, valid: Tensor | None) -> tuple[Tensor, int]:
        """The sum over pairs, mean over the batch, and the number of pairs in the batch.

        Args:
            streams: of the batch.
            valid: ``[B, 1, *spatial]``, where the target is known; None: everywhere.
        """
        distances, pairs = [], 0
        for sample, (modalities, features) in enumerate(streams.by_sample()):
            weight = _weight(valid, sample, features)
            distances.append(alignment_distance(features, self.config.pairs, weight))
            pairs += len(aligned_pairs(len(modalities), self.config.pairs))
        return torch.stack(distances).mean(), pairs

    def classification(self, streams: Streams, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cross entropy of the modalities that the classifier sees, and the share that it names rightly."""
        with torch.autocast(streams.specific[0].device.type, enabled=False):
            means = [
                pooled(features, _weight(valid, sample, features))
                for features, (sample, _) in zip(streams.specific, streams.pairs, strict=True)
            ]
            logits = self.classifier(torch.stack(means))
        truth = index_of([modality for _, modality in streams.pairs], logits.device)
        return modality_classification(logits, truth), (logits.detach().argmax(1) == truth).float().mean()

    # -- curves and state --------------------------------------------------------------------------------------------

    def curve_names(self) -> tuple[str, ...]:
        """Every weighted term; the alignment per pair; how well specific features tell their modality."""
        names = [f"loss/{name}" for name in ("task", "alignment", "classification")]
        return (*names, "alignment per pair/mean", "modality of specific features/accuracy")

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())

    def state_dict(self) -> dict[str, Any]:
        """The classifier."""
        return {"classifier": self.classifier.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.classifier.load_state_dict(state["classifier"])


def _weight(valid: Tensor | None, sample: int, features: Tensor) -> Tensor | None:
    """Share of voxels that count in each cell of a sample's maps."""
    return None if valid is None else pooled_weight(valid[sample], features.shape[-valid[sample].dim() + 1 :])
