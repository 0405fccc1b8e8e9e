"""MetaKD: meta-learned modality-weighted knowledge distillation (and MCKD, its first publication).

Legend: B batch, M modalities, A available modalities of a sample, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from itertools import permutations
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.losses.feature import fill_agreement, pairwise_distances, pooled_weight
from nnunetv2_mmkd.methods.base import HeldOut, NextMetaBatch, TaskLoss, TrainingContext
from nnunetv2_mmkd.methods.importance import ImportanceWeights
from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.methods.stream_distillation import StreamDistillation
from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.frozen_norms import InstanceStatistics
from nnunetv2_mmkd.networks.streams import Streams

HALF_PRECISION_SCALE = 1024.0
"""Factor on the meta-loss on CUDA, so that its gradient survives float16 (a power of two: exact to undo)."""

META_SPLIT = HeldOut("meta", share=0.1, most=5, complete_first=True)
"""Five cases are what the released code holds out."""


class HeldOutFeatures(NamedTuple):
    """A held-out batch, encoded: all that a meta-step needs and that the importance weights do not change.

    Attributes:
        streams: features without history.
        statistics: those that the instance norms of fusion and decoder keep; None: they take their own.
        target: what the task loss takes.
    """

    streams: Streams
    statistics: InstanceStatistics | None
    target: Any


class MetaKD(StreamDistillation):
    r"""Task loss plus distillation between all available modalities, weighted by learned importance.

    Training step, Eq. (4), inner problem:

    .. math:: \ell_{task} + \alpha \sum_{i \ne j \in A} \frac{w_i}{w_j} \, \ell_{kd}(f_i, f_j)

    at the bottleneck, over the ordered pairs of available modalities, teacher i and ratio detached; the sum over pairs
    is averaged over the batch. Every ``meta_interval`` iterations, before the step (Algorithm 1), ``meta_steps`` steps
    of Adam on w, Eq. (4), outer problem: the task loss on held-out training cases with the features of modality m,
    real or filled by Eq. (2), multiplied by the m-th normalised weight. First order: the encoders run under
    ``no_grad``, the gradient is taken with respect to w alone and no weight of the network changes.

    References:
        Wang et al., MetaKD, Eqs. (1)-(6), Algorithm 1, §8. Wang et al., MCKD: the same method.

    Deviations from the paper:
        Eq. (5) prints a p-norm; here, as in the released code, it is the mean over channels and positions of
        :math:`|f_i - f_j|^p`. alpha = 0.1 holds only for this mean: the printed L1 norm is larger by as many times as
        the bottleneck has numbers (20,480 for 320 channels of 4 x 4 x 4 voxels) and grows with the patch. Teacher and
        ratio are detached (the papers are silent, the released code does so; see
        :func:`~nnunetv2_mmkd.losses.feature.pairwise_distances` and :func:`~nnunetv2_mmkd.methods.importance.ratios`).
        Optimiser and schedule of the network are nnU-Net's (SGD with Nesterov momentum 0.99 and 1e-2 as in the paper,
        polynomial decay where the paper has a cosine). Eq. (4) multiplies "the features", which in a U-Net reach the
        decoder at every scale; the released code, whose decoder leans on a wide bottleneck, multiplies that alone. In
        a planned U-Net the skips leave the bottleneck's weights with next to no gradient, so that the L2 penalty
        decides: hence ``meta_scales="all"``. An instance norm cancels the factor that all weights have in common, and
        with it what Eq. (4) is about: a network trained with features as they are is stationary against their ratios,
        not against 1/M of them. In the meta-loss the norms therefore keep the statistics of the features before they
        were multiplied (``meta_statistics="reference"``). ``released_code()`` does not reproduce that the released code
        feeds zero images to the meta-loss after the warm-up.
    """

    def __init__(self, config: MetaKDConfig | None = None) -> None:
        super().__init__()
        self.config: MetaKDConfig = config or MetaKDConfig()
        if self.config.ratios == "learned":
            self.needs, self.held_out = (NextMetaBatch,), META_SPLIT
        self.importance: ImportanceWeights | None = None
        self.meta_updates = 0

    def setup(self, context: TrainingContext) -> None:
        """Create the importance weights."""
        super().setup(context)
        if self.config.ratios == "learned":
            self.importance = ImportanceWeights(
                len(context.modalities),
                init=self.config.init,
                kind=self.config.normalisation,
                lr=self.config.meta_lr,
                weight_decay=self.config.meta_weight_decay,
                device=context.device,
                seed=self.config.seed,
                optimizer=self.config.meta_optimizer,
            )

    # -- the inner problem of Eq. (4) --------------------------------------------------------------------------------

    def distillation(self, streams: Streams, valid: Tensor | None) -> tuple[Tensor, int]:
        """Sum over ordered pairs, mean over the batch; and the number of pairs in the batch."""
        ratio = None if self.importance is None else self.importance.ratios()
        terms, pairs = [], 0
        for sample, (modalities, features) in enumerate(streams.by_sample()):
            if len(modalities) == 1:  # no pair: spares a batch of many small samples most of the time
                terms.append(torch.zeros((), device=features.device))
                continue
            weight = None if valid is None else pooled_weight(valid[sample], features.shape[2:])
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.alpha != 0):
                distance = pairwise_distances(features, self.config.p, weight)  # Eq. (5)
            if ratio is not None:
                chosen = index_of(modalities, ratio.device)
                distance = distance * ratio[chosen][:, chosen]
            terms.append(distance.sum())
            pairs += len(modalities) * (len(modalities) - 1)
            self._record_filling(modalities, features)
        return torch.stack(terms).mean(), pairs

    def _record_filling(self, modalities: tuple[int, ...], features: Tensor) -> None:
        for name, values in fill_agreement(features.detach())._asdict().items():
            for modality, value in zip(modalities, values, strict=True):
                self._averages.add(f"fill {name}/{self.context.modalities[modality]}", value)

    # -- the outer problem of Eq. (4) --------------------------------------------------------------------------------

    def start_iteration(self, network: MultiStreamNetwork, task_loss: TaskLoss, iteration: int) -> None:
        """Meta-validation and meta-updating of Algorithm 1, when it is due."""
        interval = self.config.meta_interval
        if iteration >= self.context.warmup_iterations > 0:
            interval = self.config.meta_interval_after_warmup or interval
        if self.importance is None or iteration % interval:
            return
        was_training = network.training
        network.train(False)
        for steps in self.config.steps_of_batches():
            features = self.held_out_features(network)
            for _ in range(steps):
                self._meta_step(self.meta_gradient(network, task_loss, features))
        network.train(was_training)

    def held_out_features(self, network: MultiStreamNetwork) -> HeldOutFeatures:
        """Encode the next batch of the meta split, and take the reference statistics; the network is in eval mode."""
        batch = self.context.need(NextMetaBatch)()
        own_statistics = self.config.meta_statistics == "own"
        reference = InstanceStatistics(nn.Identity() if own_statistics else network)
        with self.context.autocast(), torch.no_grad():
            streams = network.encode(batch.images, batch.available)
            if reference.norms:
                with reference.record():
                    network.decode(network.fuse(streams).skips)
        return HeldOutFeatures(streams, reference if reference.norms else None, batch.target)

    def meta_gradient(self, network: MultiStreamNetwork, task_loss: TaskLoss, features: HeldOutFeatures) -> Tensor:
        """Gradient ``[M]`` of the outer problem with respect to the importance weights as they stand."""
        assert self.importance is not None
        scale = HALF_PRECISION_SCALE if self.context.device.type == "cuda" else 1.0
        with self.context.autocast():
            weight = self.importance.normalised()  # Eq. (6); not times M, which would remove the signal
            above = [weight if self.config.meta_scales == "all" else None] * (len(features.streams.scales) - 1)
            with nullcontext() if features.statistics is None else features.statistics.reuse():
                fused = network.fuse(features.streams, weights=[*above, weight])
                loss = task_loss(network.decode(fused.skips), features.target)  # Eq. (4), outer
        self._averages.add("meta loss/held-out cases", loss)
        (gradient,) = torch.autograd.grad(loss * scale, self.importance.w)
        return gradient / scale

    def _meta_step(self, gradient: Tensor) -> None:
        assert self.importance is not None
        self.context.average([gradient])
        if torch.isfinite(gradient).all():
            self.importance.apply(gradient)
            self.meta_updates += 1

    # -- curves and state --------------------------------------------------------------------------------------------

    def curve_names(self) -> tuple[str, ...]:
        """Loss parts, importance weights, largest ratio, and the agreement of filled with real features (Fig. 5)."""
        names = ["loss/task", "loss/distillation", "distillation per pair/mean"]
        for group in ("fill l1", "fill relative_l1", "fill cosine"):
            names += [f"{group}/{modality}" for modality in self.context.modalities]
        if self.importance is not None:
            names += [f"importance/{modality}" for modality in self.context.modalities]
            names += [f"importance logit/{modality}" for modality in self.context.modalities]
            names += ["largest ratio/of two weights", "meta loss/held-out cases", "meta updates/so far"]
        return tuple(names)

    def curves(self) -> dict[str, float]:
        """Epoch means; the importance weights as they stand now."""
        values = self._averages.read(self.curve_names())
        if self.importance is not None:
            normalised = self.importance.normalised().detach().cpu().tolist()
            for modality, weight, logit in zip(
                self.context.modalities, normalised, self.importance.w.detach().cpu().tolist(), strict=True
            ):
                values[f"importance/{modality}"] = weight
                values[f"importance logit/{modality}"] = logit
            ratio = self.importance.ratios()
            values["largest ratio/of two weights"] = max(
                (float(ratio[i, j]) for i, j in permutations(range(len(ratio)), 2)), default=1.0
            )
            values["meta updates/so far"] = float(self.meta_updates)
        return values

    def state_dict(self) -> dict[str, Any]:
        """Importance weights, their optimiser, and the number of meta-updates so far."""
        if self.importance is None:
            return {}
        return {"importance": self.importance.state_dict(), "meta_updates": self.meta_updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        if self.importance is not None:
            self.importance.load_state_dict(state["importance"])
            self.meta_updates = int(state["meta_updates"])
