"""PASSION: each modality alone learns from all available ones, the neglected ones more.

Legend: B batch, M modalities, A available modalities of a sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from nnunetv2_mmkd.losses.logit import softened_kl
from nnunetv2_mmkd.losses.prototype import semantic_gap
from nnunetv2_mmkd.methods.base import (
    Averages,
    Batch,
    LocalLoss,
    MembershipClasses,
    Method,
    MissingRates,
    StepResult,
    TaskLoss,
    TrainingContext,
    sum_of_parts,
)
from nnunetv2_mmkd.methods.modality_table import ModalityTables, finite_or_nothing, rows_of, supervised
from nnunetv2_mmkd.methods.passion_config import PASSIONConfig as PASSIONConfig
from nnunetv2_mmkd.methods.preference import (
    GAMMA_EPOCHS,
    initial_weights,
    neglected,
    relative_preference,
    updated_weights,
)
from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.contracts import SegmentationNetwork
from nnunetv2_mmkd.networks.recompute import recomputed
from nnunetv2_mmkd.networks.streams import Streams


class PASSION(Method[SegmentationNetwork]):
    r"""Task loss of all available modalities, and self-distillation to each of them alone, Eq. (14).

    .. math:: L_{seg} + \sum_{m \in A} \big( \lambda_1 \beta^m L_{pixel}^m + \lambda_2 \delta_n^m L_{proto}^m \big)

    The teacher is the network itself on all available modalities, the student m the same network with modality m
    alone: the streams are encoded once, fused and decoded for each. What a sample has of modalities differs between
    samples; the sum is averaged over the batch. With fewer than two modalities student and teacher are the same:
    nothing is decoded twice, all terms are 0.

    Attributes:
        recomputes: of all decoders, one sample at a time, what is large and cheap to compute
            (:mod:`~nnunetv2_mmkd.networks.recompute`).

    References:
        Shi et al., PASSION: Towards Effective Incomplete Multi-Modal Medical Image Segmentation with Imbalanced
        Missing Rates, ACM MM 2024, Eqs. (1)-(14).

    Deviations from the paper:
        See the losses and :mod:`~nnunetv2_mmkd.methods.preference` for those of single terms. Distillation is at the
        scales of nnU-Net's deep supervision but the smallest, to which nnU-Net gives no weight, at their own
        resolution. Features (Eq. 4) are the decoder's last map before the head, as in the released code. Optimiser
        and schedule are nnU-Net's (AdamW with 2e-4 in the paper).
    """

    needs = (MissingRates, MembershipClasses)
    recomputes = None

    def __init__(self, config: PASSIONConfig | None = None) -> None:
        self.config = config or PASSIONConfig()
        self._averages = Averages()
        self.start: Tensor | None = None
        self.beta: Tensor | None = None
        self.preference: Tensor | None = None

    def setup(self, context: TrainingContext) -> None:
        """Fix the rate of beta."""
        super().setup(context)
        scale = min(1.0, GAMMA_EPOCHS / context.epochs) if context.epochs else 1.0
        self.rate = self.config.gamma * scale
        self._sums = torch.zeros(2, len(context.modalities))

    # -- a step ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the missing rates of the training cases.

        Raises:
            InputError: no training case has a modality.
        """
        if self.beta is None:
            self.start = initial_weights(self.context.need(MissingRates)(), self.context.modalities)
            self.beta = self.start.clone()

    def step(self, network: SegmentationNetwork, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """All terms on a batch."""
        config = self.config
        taught = batch.present if config.all_modalities else batch.available
        encoded = network.encode(batch.images, taught)
        streams = encoded.narrowed(batch.available) if config.all_modalities else encoded
        outputs, features, maps = self._fused(network, streams)
        task = _task(task_loss, outputs, maps, batch.target)  # L_seg of Eq. (2)
        pixel, proto, distance, regular = self._students(
            network, encoded, [*_distilled(outputs), features], batch, task_loss
        )
        available = taught.to(task.device, non_blocking=True)
        preference = relative_preference(distance, available)  # Eqs. (9), (10)
        followed = preference if config.preference_of == "samples" else torch.where(available, distance, 0)
        (step,) = finite_or_nothing(torch.stack([followed.sum(0), available.float().sum(0)]))
        self._sums = self._sums.to(task.device, non_blocking=True) + step
        assert self.beta is not None and self.start is not None
        start = self.start.to(task.device, non_blocking=True)
        beta = self.beta.to(task.device, non_blocking=True) if config.weights else torch.ones_like(start)
        lagging = preference if config.mask_of == "sample" else torch.where(available, preference.sum(0), 0)
        delta = neglected(lagging).float() if config.mask else available.float()  # Eq. (11)
        parts = {"task": task}
        if config.pixel:
            parts["pixel"] = config.lambda_1 * (beta * pixel).sum(1).mean()
        if config.proto:
            factor = delta * start if config.weighted_proto else delta
            parts["proto"] = config.lambda_2 * (factor * proto).sum(1).mean()
        if config.regularisation:
            factor = delta * beta if config.weighted_regularisation else torch.ones_like(delta)
            parts["regularisation"] = (factor * regular).sum(1).mean()  # Eq. (2)
        self._averages.add_all("loss", parts)
        for number, name in enumerate(self.context.modalities):
            samples = _with_others(taught, number)
            if samples:
                self._averages.add(
                    f"distance to the teacher/{name}", distance[index_of(samples, distance.device), number].mean()
                )
        return sum_of_parts(parts)  # Eq. (14)

    def _fused(self, network: SegmentationNetwork, streams: Streams) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Outputs, features and maps of all available modalities: teacher, and what the task loss is of."""

        def fused(own: Streams) -> tuple[list[Tensor], Tensor, list[Tensor]]:
            skips, maps = network.fuse(own)
            return *network.decode_with_features(skips), maps

        if not self._recomputes:
            return fused(streams)
        found = [recomputed(partial(fused, own), _voxels(streams)) for own in streams.samples()]
        outputs, features, maps = zip(*found, strict=True)
        return _joined(outputs), torch.cat(features), _joined(maps)

    @property
    def _recomputes(self) -> bool:
        return self.recomputing and self.config.learns

    def _students(
        self, network: SegmentationNetwork, streams: Streams, teacher: list[Tensor], batch: Batch, task_loss: TaskLoss
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """L_pixel, L_proto, D and L_reg of each modality alone, ``[B, M]``, 0 where it is missing or the only one."""
        teacher = [each.detach() for each in teacher]
        classes, n_classes = self.context.need(MembershipClasses)(batch.target)
        size, modalities = streams.available.shape
        tables = ModalityTables(4, size, modalities, teacher[-1].device)
        # Backward begins with the last modalities: their maps are free by the time that gradients need memory.
        first_kept = modalities - modalities // (4 if network.predicts_maps else 2)
        for modality in range(modalities):
            for samples in self._chunks(_with_others(streams.available, modality)):

                def terms(chosen: list[int] = samples, m: int = modality) -> tuple[Tensor, ...]:
                    return self._student(
                        network, streams.alone(m, chosen), chosen, teacher, batch, (classes, n_classes), task_loss
                    )

                with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.learns):
                    values = (
                        recomputed(terms, inf if modality >= first_kept else _voxels(streams))
                        if self._recomputes
                        else terms()
                    )
                tables.put(modality, samples, values)
        pixel, proto, distance, regular = tables.read()
        return pixel, proto, distance.detach(), regular

    def _chunks(self, samples: list[int]) -> list[list[int]]:
        """The samples that are decoded together: all, or one by one if their activations are recomputed."""
        if self.recomputing:
            return [[sample] for sample in samples]
        return [samples] if samples else []

    def _student(
        self,
        network: SegmentationNetwork,
        alone: Streams,
        samples: list[int],
        teacher: list[Tensor],
        batch: Batch,
        classes: tuple[Tensor, int],
        task_loss: TaskLoss,
    ) -> tuple[Tensor, ...]:
        """L_pixel, L_proto, D and L_reg of some samples with one modality alone, one value a sample."""
        config = self.config
        outputs, features = network.decode_with_features(network.fuse(alone).skips)
        valid = None if batch.valid is None else _of(batch.valid, samples)
        pixel = features.new_zeros(len(samples), dtype=torch.float32)
        if config.pixel:
            pairs = zip(teacher[:-1], _distilled(outputs), strict=True)
            for scale, (target, prediction) in enumerate(pairs):  # Eq. (3)
                pixel = pixel + config.scale_factor**scale * softened_kl(
                    _of(target, samples),
                    prediction,
                    exclusive=self.context.exclusive,
                    tau=config.tau,
                    valid=_resized(valid, prediction.shape[2:]),
                    of_student=config.divergence_of == "student",
                )
        distance, proto = semantic_gap(
            _of(teacher[-1], samples), features, _of(classes[0], samples), classes[1]
        )  # Eqs. (4)-(8)
        regular = features.new_zeros(len(samples), dtype=torch.float32)
        if config.regularisation:  # Eq. (2), by samples, of which ranks have not the same number
            own_loss = self.context.find(LocalLoss) or task_loss
            regular = torch.stack(
                [
                    _task(own_loss, [each[row, None] for each in outputs], [], rows_of(batch.target, [sample]))
                    for row, sample in enumerate(samples)
                ]
            )
        return pixel, proto, distance, regular

    # -- epochs ------------------------------------------------------------------------------------------------------

    def end_epoch(self, network: SegmentationNetwork, epoch: int) -> None:
        """Move beta by the preference of the epoch, Eqs. (12) and (13)."""
        sums = self._sums.to(self.context.device)
        self.context.average([sums])
        preference = sums[0] / sums[1]  # Eq. (12), NaN without samples
        if self.config.preference_of == "distances":
            preference = 1 - preference / preference.nanmean()
        self.preference = preference.cpu()
        self._sums = torch.zeros_like(self._sums)
        if self.config.weights and self.beta is not None and self.start is not None:
            self.beta = updated_weights(  # Eq. (13)
                self.beta,
                self.start,
                self.preference,
                self.rate * self.config.growth ** (1 + min(2, 3 * epoch // max(1, self.context.epochs))),
                relative=self.config.relative,
                renormalised=self.config.renormalised,
            )

    def curve_names(self) -> tuple[str, ...]:
        """Loss parts; of each modality the distance to the teacher, the preference, and beta over its start."""
        config = self.config
        names = ["loss/task"]
        names += ["loss/pixel"] if config.pixel else []
        names += ["loss/proto"] if config.proto else []
        names += ["loss/regularisation"] if config.regularisation else []
        for panel in ("distance to the teacher", "relative preference", "gradient weight over its start"):
            names += [f"{panel}/{name}" for name in self.context.modalities]
        return tuple(names)

    def curves(self) -> dict[str, float]:
        """Means over the epoch; preference and weights as they are now."""
        values = self._averages.read(self.curve_names())
        for number, name in enumerate(self.context.modalities):
            if self.preference is not None:
                values[f"relative preference/{name}"] = float(self.preference[number])
            if self.beta is not None and self.start is not None:
                values[f"gradient weight over its start/{name}"] = float(self.beta[number] / self.start[number])
        return values

    def state_dict(self) -> dict[str, Any]:
        """Beta, its start, the last preference, the sums of the epoch."""
        return {"beta": self.beta, "start": self.start, "preference": self.preference, "sums": self._sums.cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.beta, self.start, self.preference = state["beta"], state["start"], state["preference"]
        self._sums = state["sums"].cpu()


def _voxels(streams: Streams) -> int:
    """Of the patch."""
    return prod(streams.scales[0][0].shape[1:])


def _joined(samples: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Maps of several samples, scale by scale."""
    return [torch.cat(scale) for scale in zip(*samples, strict=True)]


def _task(task_loss: TaskLoss, outputs: list[Tensor], maps: list[Tensor], target: Any) -> Tensor:
    """The task loss of the fused prediction, and of the region maps of a fusion that predicts them."""
    task = task_loss(supervised(outputs, target), target)
    if maps:
        task = task + task_loss(supervised(maps, target), target)
    return task


def _with_others(available: Tensor, modality: int) -> list[int]:
    """The samples that have a modality and another one."""
    return torch.nonzero(available[:, modality] & (available.sum(1) > 1)).flatten().tolist()


def _of(maps: Tensor, samples: list[int]) -> Tensor:
    """What belongs to some samples; of one or of all without a copy."""
    if len(samples) == len(maps):
        return maps
    return maps[samples[0], None] if len(samples) == 1 else maps[index_of(samples, maps.device)]


def _distilled(outputs: list[Tensor]) -> list[Tensor]:
    """The scales at which predictions are distilled: all but the smallest."""
    return outputs[:-1] if len(outputs) > 1 else outputs


def _resized(valid: Tensor | None, size: torch.Size) -> Tensor | None:
    """Voxels that count, at the resolution of an output."""
    if valid is None or valid.shape[2:] == size:
        return valid
    return interpolate(valid.float(), tuple(size), mode="nearest-exact") > 0
