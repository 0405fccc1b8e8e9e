"""Flex-MoE: learned embeddings for what is missing, and experts of which each belongs to a combination of modalities.

Legend: B batch, M modalities, W width of the features, T tokens, E experts, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nnunetv2_mmkd.classification.network import MultiModalClassifier
from nnunetv2_mmkd.classification.sparse_experts import ExpertLayer, Routing, balance_loss
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import Averages, Batch, Method, StepResult, TaskLoss, sum_of_parts
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams


class FlexMoEClassifier(MultiModalClassifier):
    """Features or, where missing, embeddings of a bank; attention between modalities; a sparse mixture of experts.

    Args:
        encoders: modality -> encoder.
        classes: K.
        experts: E; at least one for each of the :math:`2^M - 1` combinations of modalities.
        k: experts for each token.
        heads: of the attention; must divide W.
        how: see :class:`MultiModalClassifier`.

    Raises:
        InputError: fewer experts than combinations, or heads that do not divide the width.

    References:
        Yun et al., Flex-MoE: Modeling arbitrary modality combination via the flexible mixture-of-experts, NeurIPS 2024.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        classes: int,
        *,
        experts: int = 16,
        k: int = 4,
        heads: int = 4,
        **how: float,
    ) -> None:
        super().__init__(encoders, classes, **how)  # type: ignore[arg-type]
        combinations = 2 ** len(encoders) - 1
        if experts < combinations or not 1 <= k <= experts:
            raise InputError(f"{experts} experts, {k} for each token: expected at least {combinations} and 1 to all")
        if self.width % heads:
            raise InputError(f"{heads} heads do not divide the width {self.width} of the features")
        self.bank = nn.Parameter(torch.randn(combinations, len(encoders), self.width))
        self.before = nn.LayerNorm(self.width)
        self.attention = nn.MultiheadAttention(self.width, heads, dropout=0.1, batch_first=True)
        self.between = nn.LayerNorm(self.width)
        self.mixture = ExpertLayer(self.width, experts, k, 0.1)

    def fuse(self, streams: Streams, *, weights: ModalityWeights | None = None) -> Fused:
        """Tokens of all modalities after the layer: one skip, ``[B, M, W]``."""
        return self.weighted(self.route(streams)[0], weights)

    def route(self, streams: Streams) -> tuple[Tensor, Routing]:
        """Tokens ``[B, M, W]`` after the layer, and the routing of the B M tokens, by subject and then by modality."""
        features = self.table(streams)
        available = streams.available.to(features.device)
        embedded = self.bank[combination_of(streams.available).to(features.device)]
        tokens = torch.where(available[..., None], features, embedded)  # the bank, by observed combination and modality
        normed = self.before(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        mixed, routing = self.mixture(self.between(tokens).flatten(0, 1))
        return tokens + mixed.view_as(tokens), routing


def combination_of(available: Tensor) -> Tensor:
    r"""The number of each observed combination, :math:`\sum_{m \in \mathcal{A}} 2^m - 1`: ``[B, M]`` -> ``[B]``.

    It is also the number of its expert; the last, :math:`2^M - 2`, is that of all modalities.
    """
    bits = 2 ** torch.arange(available.shape[1], device=available.device)
    return (available.long() * bits).sum(1) - 1


def specialisation_loss(logits: Tensor, combination: Tensor) -> Tensor:
    r"""The best expert shall be that of the observed combination: :math:`-\log \operatorname{softmax}(H)_c`, the mean.

    Args:
        logits: ``[T, E]`` of a router.
        combination: long ``[T]``.
    """
    return cross_entropy(logits, combination)


@dataclass(frozen=True)
class FlexMoEConfig:
    """Hyper-parameters.

    Attributes:
        gate_weight: of both losses of the router (0.01 in the released code).
    """

    gate_weight: float = 1e-2


class FlexMoE(Method[FlexMoEClassifier]):
    r"""Task loss; balance of the experts on complete subjects (G-Router); specialisation on all others (S-Router).

    .. math:: \ell_{task} + \lambda\, (\ell_{balance} + \ell_{specialisation})

    Deviations from the paper:
        A modality is one token, not 16 patches; the residual connections and norms are those of the usual pre-norm
        layer. Batches are drawn as for all other methods: the paper's first epochs take complete subjects first.
        Nothing is chosen by the validation part. A subject without all modalities in a step, by the data or by
        modality dropout, counts as not complete. Dropout in the layer is 0.1.
    """

    def __init__(self, config: FlexMoEConfig | None = None) -> None:
        self.config = config or FlexMoEConfig()
        self._averages = Averages()

    def step(self, network: FlexMoEClassifier, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """All terms on a batch; a router's term is 0 where no subject is of its kind."""
        streams = network.encode(batch.images, batch.available)
        tokens, routing = network.route(streams)
        task = task_loss(network.decode([tokens]), batch.target)
        combination = combination_of(streams.available).to(tokens.device).repeat_interleave(tokens.shape[1])
        complete = combination == 2 ** tokens.shape[1] - 2
        balance = specialisation = tokens.new_zeros(())
        if complete.any():
            balance = balance_loss(Routing(*(each[complete] for each in routing)))
        if not complete.all():
            specialisation = specialisation_loss(routing.logits[~complete], combination[~complete])
        parts = {
            "task": task,
            "balance": self.config.gate_weight * balance,
            "specialisation": self.config.gate_weight * specialisation,
        }
        self._averages.add_all("loss", parts)
        if not complete.all():
            chosen = routing.logits.detach()[~complete].argmax(1) == combination[~complete]
            self._averages.add("expert of the combination/first", chosen.float().mean())
        return sum_of_parts(parts)

    def curve_names(self) -> tuple[str, ...]:
        """Every weighted term; how often the expert of the combination comes first."""
        return ("loss/task", "loss/balance", "loss/specialisation", "expert of the combination/first")

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())


if TYPE_CHECKING:
    _fulfils: type[MultiStreamNetwork] = FlexMoEClassifier
