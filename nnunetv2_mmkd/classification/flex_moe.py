"""Flex-MoE: learned embeddings for what is missing, and experts of which each belongs to a combination of modalities.

Legend: B batch, M modalities, W width of the features, T tokens, E experts, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from nnunetv2_mmkd.classification.network import MultiModalClassifier
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import Averages, Batch, Method, StepResult, TaskLoss, sum_of_parts
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams


class Routing(NamedTuple):
    """What a router decided about T tokens.

    Attributes:
        logits: ``[T, E]``, with noise in training.
        gates: ``[T, E]``, 0 but for the k chosen experts; rows sum to 1.
        load: ``[T, E]``: the probability of being chosen if the noise were drawn again; outside training 1 where
            chosen.
    """

    logits: Tensor
    gates: Tensor
    load: Tensor


class NoisyTopKRouter(nn.Module):
    r"""A gate that keeps the k best of E experts.

    .. math:: H_i = (x W_g)_i + \epsilon_i \operatorname{softplus}((x W_n)_i), \quad
        G = \operatorname{softmax}(\text{the k largest of } H), \quad
        P_i = \Phi\Big(\frac{(x W_g)_i - \text{k-th largest of the other } H}{\operatorname{softplus}((x W_n)_i)}\Big)

    with noise :math:`\epsilon \sim \mathcal{N}(0, 1)` in training only. All weights start at 0: every expert is
    equally likely at first.

    References:
        Shazeer et al., Outrageously large neural networks, ICLR 2017, Eqs. (3) to (5) and (8), (9).
    """

    def __init__(self, width: int, experts: int, k: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.noise = nn.Linear(width, experts, bias=False)
        self.k = k
        for layer in (self.gate, self.noise):
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor) -> Routing:
        """Route tokens ``[T, W]``."""
        clean: Tensor = self.gate(x)
        if not self.training:
            best = clean.topk(self.k, dim=1)
            gates = torch.zeros_like(clean).scatter(1, best.indices, best.values.softmax(1))  # Eqs. (3), (5)
            return Routing(clean, gates, (gates > 0).to(clean.dtype))
        spread = softplus(self.noise(x)) + 1e-2  # never 0: P divides by it
        logits = clean + torch.randn_like(clean) * spread  # Eq. (4)
        best = logits.topk(min(self.k + 1, logits.shape[1]), dim=1)
        gates = torch.zeros_like(logits).scatter(1, best.indices[:, : self.k], best.values[:, : self.k].softmax(1))
        if self.k == logits.shape[1]:
            return Routing(logits, gates, torch.ones_like(logits))
        chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, best.indices[:, : self.k], True)
        others = torch.where(
            chosen, best.values[:, self.k :], best.values[:, self.k - 1 : self.k]
        )  # k-th of the others
        load = torch.special.ndtr((clean - others) / spread)  # Eqs. (8), (9)
        return Routing(logits, gates, load)


class ExpertLayer(nn.Module):
    """A sparse mixture of E two-layer perceptrons, each on the tokens that are sent to it only."""

    def __init__(self, width: int, experts: int, k: int, dropout: float) -> None:
        super().__init__()
        self.router = NoisyTopKRouter(width, experts, k)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width))
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        r"""``[T, W]`` -> :math:`\sum_i G_i f_i(x)` (Shazeer, Eq. 1), and the routing."""
        routing: Routing = self.router(x)
        mixed = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = torch.nonzero(routing.gates[:, number]).flatten()
            if len(rows):
                mixed = mixed.index_add(0, rows, routing.gates[rows, number, None] * expert(x[rows]))  # Eq. (1)
        return mixed, routing


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


def squared_variation(values: Tensor) -> Tensor:
    r"""Square of the coefficient of variation of ``[E]``: :math:`\operatorname{Var} / \operatorname{mean}^2`.

    References:
        Shazeer et al., Eq. (7). The variance is that of a sample, divided by E - 1.
    """
    return values.var() / (values.mean().square() + 1e-10)


def balance_loss(routing: Routing) -> Tensor:
    r"""Experts shall be used alike: :math:`CV(\sum_x G)^2 + CV(\sum_x P)^2` (Shazeer, Eqs. 6, 7, 10, 11)."""
    return squared_variation(routing.gates.sum(0)) + squared_variation(routing.load.sum(0))  # Eqs. (6), (7), (10), (11)


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
