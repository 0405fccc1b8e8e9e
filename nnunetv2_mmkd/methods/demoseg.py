"""DeMoSeg: each modality learns to express itself and, in sub-spaces of their own, the others.

Legend: B batch, M modalities, A available modalities of a sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnunetv2_mmkd.losses.decoupled import subspace_divergence
from nnunetv2_mmkd.losses.feature import pooled_weight
from nnunetv2_mmkd.methods.base import Averages, Batch, Method, StepResult, TaskLoss, sum_of_parts
from nnunetv2_mmkd.networks.fusion.base import run

if TYPE_CHECKING:  # the methods must not need nnU-Net's architectures
    from nnunetv2_mmkd.networks.decoupled import DecoupledUNet, Subspaces

PUBLISHED_LENDERS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "t1": ("t1ce", "t2", "flair"),
        "t1ce": ("t1", "flair", "t2"),
        "t2": ("flair", "t1", "t1ce"),
        "flair": ("t2", "t1ce", "t1"),
    }
)
"""The lenders of each modality, in order. The released code lists a lender for each missing modality in each of the 15
subsets; all 28 entries are the first available one of these lists."""


@dataclass(frozen=True)
class DeMoSegConfig:
    """Hyper-parameters of DeMoSeg.

    Attributes:
        weight: of the distillation (1 in the released code of February 2026; the nnU-Net trainer has none).
        lenders: modality -> others, in the order in which they lend; see
            :func:`~nnunetv2_mmkd.networks.lending.lending_order` for modalities that are not named. It is the
            network's, and goes into the plans.
        gated: whether exchanged channels are multiplied by their score, so that the perceptron that orders them learns
            (released code: not, and it stays as it was initialised). The network's, too.
    """

    weight: float = 1.0
    lenders: Mapping[str, Sequence[str]] = field(default_factory=lambda: dict(PUBLISHED_LENDERS))
    gated: bool = True

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"DeMoSeg: weight must not be negative, not {self.weight}")

    @classmethod
    def released_code(cls) -> DeMoSegConfig:
        """The released nnU-Net trainer's choices: no distillation, an order of channels that does not learn."""
        return cls(weight=0.0, gated=False)


class DeMoSeg(Method["DecoupledUNet"]):
    r"""Task loss, and distillation from Self-features to the Mutual-features that express the same modality.

    .. math:: \ell_{task} + \lambda \sum_{i \neq j \in A} \frac{1}{W} KL\big(F_{j \to j} \,\|\, F_{i \to j}\big)

    with :math:`F_{i \to j}` the sub-space of W channels in which modality i expresses modality j, as the convolutions
    leave it, before the channel exchange; sum over the ordered pairs of available modalities of a sample, mean over the
    batch.

    Attributes:
        recomputes: of the divergences, pair by pair.

    References:
        Yang et al., Decoupling Feature Representations of Ego and Other Modalities for Incomplete Multi-modal Brain
        Tumor Segmentation, arXiv 2408.08708.

    Deviations from the paper:
        Of its text we had the abstract and the figure, which has the distillation after both convolutions and before
        the exchange. Form and weight are those of the code that was released in February 2026 (there it is of the first
        convolution's features). Modalities that are missing in a step teach nothing, as there. For lenders, network and
        channel exchange see :class:`~nnunetv2_mmkd.networks.decoupled.DecoupledUNet`.
    """

    recomputes = None

    def __init__(self, config: DeMoSegConfig | None = None) -> None:
        self.config = config or DeMoSegConfig()
        self._averages = Averages()

    def step(self, network: DecoupledUNet, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """Both terms on a batch."""
        outputs, found = network.trace(batch.images, batch.available, convolved=bool(self.config.weight))
        parts = {"task": task_loss(outputs, batch.target)}
        if self.config.weight:
            parts["distillation"] = self.config.weight * self.distillation(found, batch)  # lambda l_distillation
        self._averages.add_all("loss", parts)
        return sum_of_parts(parts)

    def distillation(self, found: Subspaces, batch: Batch) -> Tensor:
        """Sum over the pairs of a sample, mean over the batch; 0 for samples of a single modality.

        Args:
            found: features of the stems, with those before the exchange.
            batch: for what is available and what counts.
        """
        row_of = {(b, m): row for m, own in found.rows.items() for row, b in enumerate(own)}
        first = next(iter(found.convolved.values()))
        samples = []
        for sample, present in enumerate(batch.available):
            there = torch.nonzero(present).flatten().tolist()
            own = {m: found.convolved[m][row_of[sample, m]] for m in there}
            weight = None if batch.valid is None else pooled_weight(batch.valid[sample], first.shape[3:])
            pairs = [
                run(partial(subspace_divergence, own[j][j], own[i][j], weight), self.recomputing)  # KL(F_jj || F_ij)
                for i, j in permutations(there, 2)
            ]
            samples.append(torch.stack(pairs).sum() if pairs else first.new_zeros((), dtype=torch.float32))
        return torch.stack(samples).mean()

    def curve_names(self) -> tuple[str, ...]:
        """Both terms."""
        return ("loss/task", *["loss/distillation"] * bool(self.config.weight))

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())
