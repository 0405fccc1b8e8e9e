"""PMR: the modality that lags behind is drawn to its own class prototypes, the one ahead is slowed down at first.

Legend: B batch, M modalities, A available modalities of a sample, K classes, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnunetv2_mmkd.losses.rebalance import (
    PrototypeScores,
    class_sums,
    imbalance_terms,
    modulation,
    prototype_scores,
    shares,
)
from nnunetv2_mmkd.methods.auxiliary import Auxiliary, AuxiliaryConfig
from nnunetv2_mmkd.methods.base import Batch, ExtraNetwork, MembershipClasses, TrainingContext
from nnunetv2_mmkd.methods.modality_table import ModalityTables, by_modality, finite_or_nothing
from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.contracts import SegmentationNetwork
from nnunetv2_mmkd.networks.streams import Streams

EARLY = "PMR: for an early part of the training, its length must be known (or give mu or early_share no weight)"


@dataclass(frozen=True)
class PMRConfig(AuxiliaryConfig):
    """Hyper-parameters of PMR, the paper's values as defaults, and of the baseline's losses that it is added to.

    Attributes:
        alpha: weight of the prototypical cross entropy, PCE (§5.2: 1 or 2, by data set).
        mu: weight of the prototypical entropy, PER (§5.2: 1e-2 or 1e-3, by data set).
        epsilon: share of the old prototypes in the new ones (Eq. 12; paper silent, 0.2 in the released code).
        early_share: share of the iterations, the first ones, that have PER (paper: the first few epochs).
        scale: of the streams, 0 is the largest, whose features have prototypes; None: the smallest at which nnU-Net
            supervises with a weight, the third from below (8 voxels to a cell edge in a network of six stages).
    """

    alpha: float = 1.0
    mu: float = 0.01
    epsilon: float = 0.2
    early_share: float = 0.05
    scale: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("alpha", self.alpha), ("mu", self.mu)):
            if not value >= 0:
                raise ValueError(f"PMR: {name} must not be negative, not {value}")
        if not 0 <= self.epsilon < 1:
            raise ValueError(f"PMR: epsilon must lie in [0, 1), not {self.epsilon}")
        if not 0 <= self.early_share <= 1:
            raise ValueError(f"PMR: early_share must lie in [0, 1], not {self.early_share}")
        if self.scale is not None and self.scale < 0:
            raise ValueError(f"PMR: scale is counted from 0, the largest, not {self.scale}")


class PMR(Auxiliary):
    r"""The losses of a baseline, and for each available modality, on the features of its stream alone, Eq. (13),

    .. math:: \sum_{m \in A_n} \big( \alpha\, \beta^m L_{PCE}^m - \mu\, \gamma^m H^m \big)

    averaged over the batch; with beta how far the modality is behind the others and gamma how far ahead (Eqs. 8 and
    11). PCE is the cross entropy of a softmax over negative distances to the modality's class prototypes, H the entropy
    of that softmax; both reach the modality's encoder and nothing else. The second is used early in the training only.

    References:
        Fan et al., PMR: Prototypical Modal Rebalance for Multimodal Learning, CVPR 2023, Eqs. (6)-(13), Algorithm 1;
        as a rival of re-balancing on mmFormer: Shi et al., PASSION, ACM MM 2024, Table 1, which does not say how.

    Deviations from the paper:
        It classifies with two modalities that are always available. For M of which a sample has any see
        :func:`~nnunetv2_mmkd.losses.rebalance.imbalance_terms`; for voxels in the place of samples, and means over
        classes, :func:`~nnunetv2_mmkd.losses.rebalance.prototype_scores`. Features are a stream's at one scale, where a
        map of distances costs next to nothing; at the bottleneck a cell is larger than most tumours. Prototypes are
        means over what is trained on in an epoch, as it is seen, where the paper encodes a tenth of the training data
        again between the epochs; in the first epoch, over what has been seen so far. The ratio is of one step, the
        batches of all ranks together. The released code's weights are 0 or alpha by the ratio's sign, until epoch 100
        of 150, and it has no entropy term: that is not followed. Optimiser and schedule are nnU-Net's.
    """

    needs = (ExtraNetwork, MembershipClasses)

    def __init__(self, config: PMRConfig | None = None) -> None:
        config = config or PMRConfig()
        super().__init__(config)
        self.config: PMRConfig = config
        self.centres: Tensor | None = None
        self.known: Tensor | None = None
        self.similarity: Tensor | None = None
        self.ratio: Tensor | None = None
        self._features: tuple[Tensor, Tensor] | None = None

    def setup(self, context: TrainingContext) -> None:
        """As the baseline's.

        Raises:
            ValueError: an early part of a training of unknown length.
        """
        super().setup(context)
        if self.config.mu and self.config.early_share and not context.iterations:
            raise ValueError(EARLY)
        self._score_sums = torch.zeros(4, len(context.modalities))

    @property
    def early_until(self) -> int:
        """The first iteration without the entropy term."""
        return math.ceil(self.config.early_share * self.context.iterations) if self.config.mu else 0

    def further_parts(self, streams: Streams, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of Eq. (13), sums over the available modalities, means over the batch."""
        own = by_modality(streams, self._scale(len(streams.scales)))
        classes, n_classes = self.context.need(MembershipClasses)(batch.target)
        share = shares(classes, n_classes, next(iter(own.values()))[1].shape[2:])
        self._collect(own, share)
        centres, known = self._prototypes()
        size, modalities = streams.available.shape
        tables = ModalityTables(3, size, modalities, share.device)
        for m, (samples, features) in own.items():
            tables.put(
                m, samples, prototype_scores(features, share[index_of(samples, share.device)], centres[m], known[m])
            )  # Eqs. (7), (9)
        scores = PrototypeScores(*tables.read())
        available = streams.available.to(share.device, non_blocking=True)
        step = torch.stack(
            [*imbalance_terms(scores.similarity, available), scores.similarity.sum(0), available.float().sum(0)]
        )
        self.context.average([step])
        self._score_sums = self._score_sums.to(step.device, non_blocking=True) + finite_or_nothing(step)[0]
        behind, ahead = modulation(step[0], step[1])  # Eqs. (8), (11)
        parts = {}
        if self.config.alpha:
            parts["prototypes"] = self.config.alpha * (behind * scores.cross_entropy).sum(1).mean()  # Eq. (10)
        if self._iteration < self.early_until:
            parts["entropy"] = -self.config.mu * (ahead * scores.entropy).sum(1).mean()  # Eq. (13)
        return parts

    def _scale(self, n_scales: int) -> int:
        """Whose features have prototypes."""
        scale = self.config.scale
        if scale is not None and scale >= n_scales:
            raise ValueError(f"PMR: scale {scale} is asked for, but the network has scales 0 to {n_scales - 1}")
        return max(0, n_scales - 3) if scale is None else scale

    # -- prototypes --------------------------------------------------------------------------------------------------

    def _collect(self, own: dict[int, tuple[list[int], Tensor]], share: Tensor) -> None:
        """Add what the ranks see in this step to the epoch's sums, Eq. (6)."""
        features = next(iter(own.values()))[1]
        shape = (len(self.context.modalities), share.shape[1])
        sums = torch.zeros(*shape, features.shape[1], device=features.device)
        numbers = torch.zeros(shape, device=features.device)
        for m, (samples, features) in own.items():
            sums[m], numbers[m] = class_sums(features, share[index_of(samples, share.device)])
        self.context.average([sums, numbers])
        sums, numbers = finite_or_nothing(sums, numbers)
        if self._features is not None:
            sums, numbers = sums + self._features[0], numbers + self._features[1]
        self._features = (sums, numbers)

    def _prototypes(self) -> tuple[Tensor, Tensor]:
        """c, ``[M, K, C]``, and which there are: of the epochs so far, or of the steps so far in the first epoch."""
        assert self._features is not None
        sums, numbers = self._features
        if self.centres is None or self.known is None:
            return _means(sums, numbers), numbers > 0
        return self.centres.to(sums.device), self.known.to(sums.device)

    def end_epoch(self, network: SegmentationNetwork, epoch: int) -> None:
        """Move the prototypes, Eq. (12)."""
        if self._features is None:
            return
        sums, numbers = self._features
        new, seen = _means(sums, numbers), numbers > 0
        if self.centres is None or self.known is None:
            self.centres, self.known = new, seen
        else:
            old, known = self.centres.to(new.device), self.known.to(new.device)
            kept = torch.where(known & seen, self.config.epsilon, known.float())[..., None]
            self.centres, self.known = kept * old + (1 - kept) * new, known | seen  # Eq. (12)
        totals = self._score_sums.cpu()
        self.ratio, self.similarity = totals[0] / totals[1], totals[2] / totals[3]  # NaN without samples
        self._features, self._score_sums = None, torch.zeros_like(self._score_sums)

    # -- curves and state --------------------------------------------------------------------------------------------

    def curve_names(self) -> tuple[str, ...]:
        """The baseline's; the weighted terms; of each modality the similarity to its prototypes, and the ratio."""
        names = ["loss/prototypes"] if self.config.alpha else []
        names += ["loss/entropy"] if self.early_until else []
        for panel in ("similarity to own prototypes", "imbalance ratio"):
            names += [f"{panel}/{name}" for name in self.context.modalities]
        return (*super().curve_names(), *names)

    def curves(self) -> dict[str, float]:
        """Means over the epoch and, of similarities and ratios, over all ranks."""
        values = super().curves()
        for number, name in enumerate(self.context.modalities):
            if self.similarity is not None and self.ratio is not None:
                values[f"similarity to own prototypes/{name}"] = float(self.similarity[number])
                values[f"imbalance ratio/{name}"] = float(self.ratio[number])
        return values

    def state_dict(self) -> dict[str, Any]:
        """The baseline's, the prototypes, the last similarities and ratios, the sums of the epoch."""
        return {
            **super().state_dict(),
            "centres": _on_cpu(self.centres),
            "known": _on_cpu(self.known),
            "similarity": self.similarity,
            "ratio": self.ratio,
            "features": None if self._features is None else [each.cpu() for each in self._features],
            "standings": self._score_sums.cpu(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        super().load_state_dict(state)
        self.centres, self.known = (
            None if state[key] is None else state[key].to(self.context.device) for key in ("centres", "known")
        )
        self.similarity, self.ratio = state["similarity"], state["ratio"]
        features = state["features"]
        self._features = None
        if features is not None:
            sums, numbers = (each.to(self.context.device) for each in features)
            self._features = (sums, numbers)
        self._score_sums = state["standings"]


def _means(sums: Tensor, numbers: Tensor) -> Tensor:
    """``[M, K, C]`` over ``[M, K]``; 0 where there is nothing."""
    return sums / torch.where(numbers > 0, numbers, 1)[..., None]


def _on_cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.cpu()
