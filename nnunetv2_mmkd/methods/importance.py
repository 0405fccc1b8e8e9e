"""The importance weight vector (IWV) of MetaKD: one learned number per modality.

Legend: M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NORMALISATIONS = ("softmax", "sigmoid", "relu")

SMALLEST = 1e-6
"""Below this a normalised weight counts as zero in a denominator (ReLU would give 0/0)."""

LARGEST_RATIO = 1e3
"""Ratios are clamped here: exp(w_i - w_j) is unbounded."""


def normalise(w: Tensor, kind: str = "softmax") -> Tensor:
    r"""Normalise the IWV: :math:`w_i \leftarrow e^{w_i} / \sum_j e^{w_j}` (softmax), or element-wise.

    Args:
        w: ``[M]``.
        kind: ``"softmax"`` (Eq. 6), or ``"sigmoid"`` or ``"relu"`` for the paper's Table 6.

    References:
        Wang et al., MetaKD, Eq. (6).
    """
    if kind == "softmax":
        return w.softmax(0)  # Eq. (6)
    if kind == "sigmoid":
        return w.sigmoid()
    if kind == "relu":
        return w.relu()
    raise ValueError(f"unknown normalisation {kind!r}: choose from {', '.join(NORMALISATIONS)}")


def ratios(w: Tensor, kind: str = "softmax") -> Tensor:
    """Detached ratios ``[M, M]`` of normalised weights, entry (i, j) = w_i / w_j, clamped to be finite.

    Detached, because the sum over both directions of a pair is least at equal weights: through the distillation term
    the weights would only flatten.
    """
    with torch.no_grad():
        if kind == "softmax":
            quotient = (w[:, None] - w[None, :]).exp()  # the denominators of Eq. (6) cancel
        else:
            normalised = normalise(w, kind)
            quotient = normalised[:, None] / normalised[None, :].clamp_min(SMALLEST)
        return quotient.clamp_max(LARGEST_RATIO)


OPTIMIZERS = ("adam", "sgd")
"""Optimisers of the IWV: Adam, or plain gradient descent."""


class ImportanceWeights:
    """The IWV with its own optimiser, whose learning rate is not decayed.

    Args:
        n_modalities: M.
        init: ``"uniform"`` (U[0, 1), the released code's reading of the paper's "random") or ``"zeros"``.
        kind: normalisation.
        lr: learning rate.
        weight_decay: L2 penalty.
        device: where it lives.
        seed: of the random initialisation, equal on all ranks.
        optimizer: ``"adam"``, or ``"sgd"``, gradient descent without momentum.
    """

    def __init__(
        self,
        n_modalities: int,
        *,
        init: str = "uniform",
        kind: str = "softmax",
        lr: float = 1e-2,
        weight_decay: float = 5e-5,
        device: torch.device | str = "cpu",
        seed: int = 0,
        optimizer: str = "adam",
    ) -> None:
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimiser {optimizer!r} of the importance weights: {' or '.join(OPTIMIZERS)}")
        if init not in ("uniform", "zeros"):
            raise ValueError(f"unknown initialisation {init!r} of the importance weights: 'uniform' or 'zeros'")
        if kind not in NORMALISATIONS:
            raise ValueError(f"unknown normalisation {kind!r}: choose from {', '.join(NORMALISATIONS)}")
        start = torch.zeros(n_modalities)
        if init == "uniform":
            start = torch.rand(n_modalities, generator=torch.Generator().manual_seed(seed))
        self.kind = kind
        self.w = start.to(device).requires_grad_(True)
        kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        self.optimizer: torch.optim.Optimizer = kinds[optimizer]([self.w], lr=lr, weight_decay=weight_decay)

    def normalised(self) -> Tensor:
        """Normalised weights ``[M]``, differentiable in :attr:`w`."""
        return normalise(self.w, self.kind)

    def ratios(self) -> Tensor:
        """See :func:`ratios`."""
        return ratios(self.w, self.kind)

    def apply(self, gradient: Tensor) -> None:
        """One step of the optimiser with a given gradient ``[M]``."""
        self.w.grad = gradient.to(self.w)
        self.optimizer.step()
        self.w.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Weights and state of their optimiser."""
        return {"w": self.w.detach().clone(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore weights and optimiser."""
        with torch.no_grad():
            self.w.copy_(state["w"])
        self.optimizer.load_state_dict(state["optimizer"])
