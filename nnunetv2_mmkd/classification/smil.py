"""SMIL: missing features as weighted sums of priors, perturbed, learned by Bayesian meta-learning.

Legend: B batch, M modalities, P priors of a modality, W width of the features, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import mse_loss, softplus

from nnunetv2_mmkd.classification.network import MultiModalClassifier, fill
from nnunetv2_mmkd.methods.base import Averages, Batch, Method, StepResult, TaskLoss, TrainingContext, sum_of_parts
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams


class SMILClassifier(MultiModalClassifier):
    r"""Missing features from priors; features of incomplete subjects are perturbed.

    .. math:: \hat h_m = \langle \omega_m, M_m \rangle, \quad
        \omega_m = \frac{\operatorname{softplus}(f_{\phi_c}(h))_m}{\sum_p \operatorname{softplus}(f_{\phi_c}(h))_{mp}},
        \quad h := h \circ \operatorname{softplus}(r), \quad r \sim \mathcal{N}(f_{\phi_r}(h), 1)

    :math:`M_m` are the priors of a modality, cluster centres of its features in complete subjects. In evaluation r is
    its mean. Until there are priors, missing features are the mean of the available ones, unperturbed.

    Args:
        encoders: modality -> encoder.
        classes: K.
        priors: P, of each modality (10 in the released code).
        how: see :class:`MultiModalClassifier`.

    References:
        Ma et al., SMIL: Multimodal learning with severely missing modality, AAAI 2021.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], classes: int, *, priors: int = 10, **how: float) -> None:
        super().__init__(encoders, classes, **how)  # type: ignore[arg-type]
        total = len(encoders) * self.width
        self.reconstruct = nn.Linear(total, len(encoders) * priors)
        self.perturb = nn.Linear(total, total)
        nn.init.zeros_(self.perturb.weight)
        nn.init.constant_(self.perturb.bias, math.log(math.e - 1))  # softplus of it is 1
        self.priors: Tensor
        self.has_priors: Tensor
        self.register_buffer("priors", torch.zeros(len(encoders), priors, self.width))
        self.register_buffer("has_priors", torch.tensor(False))

    def fuse(self, streams: Streams, *, weights: ModalityWeights | None = None) -> Fused:
        """Available and reconstructed features, perturbed where a modality is missing: one skip, ``[B, M, W]``."""
        features = self.table(streams)
        available = streams.available.to(features.device)
        if not self.has_priors:
            return self.weighted(fill(features, available), weights)
        filled = torch.where(available[..., None], features, self.reconstructed(features))
        mean = self.perturb(filled.flatten(1)).view_as(filled)
        r = mean + torch.randn_like(mean) if self.training else mean
        incomplete = ~available.all(1)[:, None, None]
        return self.weighted(torch.where(incomplete, filled * softplus(r), filled), weights)

    def reconstructed(self, features: Tensor) -> Tensor:
        """All features ``[B, M, W]`` from the available ones (the others are 0)."""
        scores = softplus(self.reconstruct(features.flatten(1))).unflatten(1, self.priors.shape[:2])
        return torch.einsum("bmp,mpw->bmw", scores / scores.sum(2, keepdim=True), self.priors)

    def set_priors(self, features: Tensor) -> None:
        """Make the cluster centres of each modality's features the priors.

        The clustering starts from the former priors, if there are any, so that each stays what it was. Of fewer
        subjects than priors, each subject is a prior, in turn.

        Args:
            features: ``[N, M, W]`` of complete subjects.
        """
        count = self.priors.shape[1]
        for modality, rows in enumerate(features.detach().cpu().transpose(0, 1).numpy().astype(np.float64)):
            if len(rows) <= count:
                centres = rows[np.arange(count) % len(rows)]
            else:
                start = self.priors[modality].cpu().numpy().astype(np.float64) if self.has_priors else "k-means++"
                centres = KMeans(count, init=start, n_init=1, random_state=0).fit(rows).cluster_centers_
            self.priors[modality] = torch.from_numpy(centres).to(self.priors)
        self.has_priors.fill_(True)


@dataclass(frozen=True)
class SMILConfig:
    """Hyper-parameters; those of the released code where it has them.

    Attributes:
        inner_lr: step size of the inner update (1e-3).
        align: weight of the distance between features of complete subjects, perturbed with parts hidden and as they
            are (0.01).
        warmup: share of the training before the first priors (the released code loads a trained network).
    """

    inner_lr: float = 1e-3
    align: float = 0.01
    warmup: float = 1 / 3


class _WithFeatures(nn.Module):
    """A network whose forward also returns the fused features."""

    def __init__(self, network: SMILClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Mapping[str, Tensor], available: Tensor) -> tuple[Tensor, Tensor]:
        (features,) = self.network.fuse(self.network.encode(x, available)).skips
        return self.network.decode([features]), features


def inner_update(parameters: Mapping[str, Tensor], loss: Tensor, lr: float) -> dict[str, Tensor]:
    r"""One step of descent, :math:`\theta^* = \theta - \alpha \nabla_\theta \ell`, that can be differentiated."""
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True, allow_unused=True)
    return {
        name: value if gradient is None else value - lr * gradient
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
    }


class SMIL(Method[SMILClassifier]):
    r"""Meta-learning: a step on incomplete subjects is judged by complete ones.

    .. math:: \theta^* = \theta - \alpha \nabla_\theta \ell(D^m; \theta, \psi), \quad
        \min_{\theta, \psi} \ell(D^m; \theta, \psi) + \ell(D^f; \theta^*) + \ell(\tilde D^f; \theta^*, \psi)
        + \lambda \operatorname{mean} (\tilde h - h)^2

    with :math:`D^m` the incomplete subjects of a batch, :math:`D^f` the complete ones, :math:`\tilde D^f` the same with
    parts hidden, :math:`\psi` the two networks that reconstruct and perturb, h the fused features. Complete subjects
    have hidden what the incomplete ones of the batch lack, in turn.

    Deviations from the paper:
        See ``documentation/explanation/methods/classification-rivals.md``.
    """

    def __init__(self, config: SMILConfig | None = None) -> None:
        self.config = config or SMILConfig()
        self._averages = Averages()
        self._complete: list[Tensor] = []
        self._iteration = 0

    def setup(self, context: TrainingContext) -> None:
        """Settle when the first priors are due."""
        super().setup(context)
        self._first = round(self.config.warmup * context.iterations)

    def start_iteration(self, network: SMILClassifier, task_loss: TaskLoss, iteration: int) -> None:
        """Keep the number of the iteration."""
        self._iteration = iteration

    def step(self, network: SMILClassifier, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """All terms on a batch; before the first priors the task loss alone."""
        available = batch.available
        complete = available.all(1)
        model = _WithFeatures(network)
        parts: dict[str, Tensor] = {}
        theta: dict[str, Tensor] = dict(model.named_parameters())
        if not network.has_priors or complete.all():
            logits, features = model(batch.images, available)
            parts["task"] = task_loss(logits, batch.target)
            if complete.any():
                self._complete.append(features[complete.to(features.device)].detach())
        else:
            lacking = available[~complete]
            x, target = _rows(batch, ~complete)
            parts["task"] = task_loss(model(x, lacking)[0], target)
            if complete.any():
                main = {name: value for name, value in theta.items() if not name.startswith(PSI)}
                starred = {**theta, **inner_update(main, parts["task"], self.config.inner_lr)}
                x, target = _rows(batch, complete)
                hidden = lacking[torch.arange(int(complete.sum())) % len(lacking)]
                logits, features = functional_call(model, starred, (x, available[complete]))
                parts["complete"] = task_loss(logits, target)
                logits, perturbed = functional_call(model, starred, (x, hidden))
                parts["hidden"] = task_loss(logits, target)
                parts["align"] = self.config.align * mse_loss(perturbed, features)
                self._complete.append(features.detach())
        self._averages.add_all("loss", parts)
        return sum_of_parts(parts)

    def end_epoch(self, network: SMILClassifier, epoch: int) -> None:
        """New priors of the features of the epoch's complete subjects."""
        if self._complete and self._iteration + 1 >= self._first:
            network.set_priors(torch.cat(self._complete))
        self._complete.clear()

    def curve_names(self) -> tuple[str, ...]:
        """Every weighted term."""
        return tuple(f"loss/{name}" for name in ("task", "complete", "hidden", "align"))

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())


PSI = ("network.reconstruct.", "network.perturb.")
"""Parameters of the networks that reconstruct and perturb; all others are theta."""


def _rows(batch: Batch, rows: Tensor) -> tuple[dict[str, Tensor], Any]:
    """Inputs and target of some subjects."""
    chosen = rows.to(batch.target.device)
    return {name: x[rows.to(x.device)] for name, x in batch.images.items()}, batch.target[chosen]


if TYPE_CHECKING:
    _fulfils: type[MultiStreamNetwork] = SMILClassifier
