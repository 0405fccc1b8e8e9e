"""A sparse mixture of experts: a noisy router that keeps the k best, and the loss that balances them.

Legend: W width of the features, T tokens, E experts.

References:
    Shazeer et al., Outrageously large neural networks, ICLR 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


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


def squared_variation(values: Tensor) -> Tensor:
    r"""Square of the coefficient of variation of ``[E]``: :math:`\operatorname{Var} / \operatorname{mean}^2`.

    References:
        Shazeer et al., Eq. (7). The variance is that of a sample, divided by E - 1.
    """
    return values.var() / (values.mean().square() + 1e-10)


def balance_loss(routing: Routing) -> Tensor:
    r"""Experts shall be used alike: :math:`CV(\sum_x G)^2 + CV(\sum_x P)^2` (Shazeer, Eqs. 6, 7, 10, 11)."""
    return squared_variation(routing.gates.sum(0)) + squared_variation(routing.load.sum(0))  # Eqs. (6), (7), (10), (11)
