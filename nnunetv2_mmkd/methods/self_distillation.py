"""PASSION's predictions: all available modalities together, and each alone; Eqs. (2)-(8).

Legend: B batch, M modalities, A available modalities of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from nnunetv2_mmkd.losses.logit import softened_kl
from nnunetv2_mmkd.losses.prototype import semantic_gap
from nnunetv2_mmkd.methods.base import Batch, LocalLoss, MembershipClasses, TaskLoss, TrainingContext
from nnunetv2_mmkd.methods.modality_table import ModalityTables, rows_of, supervised
from nnunetv2_mmkd.methods.passion_config import PASSIONConfig
from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.contracts import SegmentationNetwork
from nnunetv2_mmkd.networks.recompute import recomputed
from nnunetv2_mmkd.networks.streams import Streams


@dataclass(frozen=True)
class Together:
    """What the network says of all available modalities: the teacher.

    Attributes:
        outputs: logits, the largest scale first.
        features: the decoder's last map before the head.
        maps: region maps of a fusion that predicts them.
    """

    outputs: list[Tensor]
    features: Tensor
    maps: list[Tensor]

    def loss(self, task_loss: TaskLoss, target: Any) -> Tensor:
        """L_seg of Eq. (2): the task loss of the prediction, and of the region maps."""
        task = task_loss(supervised(self.outputs, target), target)
        if self.maps:
            task = task + task_loss(supervised(self.maps, target), target)
        return task


@dataclass(frozen=True)
class Alone:
    """What each modality alone costs, ``[B, M]``; 0 where it is missing or the only one.

    Attributes:
        pixel: L_pixel, Eq. (3).
        proto: L_proto, Eqs. (4)-(8).
        distance: D of Eq. (9), without gradient.
        regularisation: L_reg of Eq. (2).
    """

    pixel: Tensor
    proto: Tensor
    distance: Tensor
    regularisation: Tensor


@dataclass(frozen=True)
class SelfDistillation:
    """The network on all available modalities and on each of them alone.

    Attributes:
        network: teacher and student.
        config: which terms there are.
        context: of the training.
        task_loss: of the training.
        recomputing: of all decoders, one sample at a time, what is large and cheap to compute
            (:mod:`~nnunetv2_mmkd.networks.recompute`).
    """

    network: SegmentationNetwork
    config: PASSIONConfig
    context: TrainingContext
    task_loss: TaskLoss
    recomputing: bool

    def together(self, streams: Streams) -> Together:
        """The teacher, and what the task loss is of."""

        def fused(own: Streams) -> tuple[list[Tensor], Tensor, list[Tensor]]:
            skips, maps = self.network.fuse(own)
            return *self.network.decode_with_features(skips), maps

        if not self._recomputes:
            return Together(*fused(streams))
        found = [recomputed(partial(fused, own), _voxels(streams)) for own in streams.samples()]
        outputs, features, maps = zip(*found, strict=True)
        return Together(_joined(outputs), torch.cat(features), _joined(maps))

    @property
    def _recomputes(self) -> bool:
        return self.recomputing and self.config.learns

    def alone(self, streams: Streams, teacher: Together, batch: Batch) -> Alone:
        """The terms of every modality that is not its sample's only one."""
        taught = [each.detach() for each in [*_distilled(teacher.outputs), teacher.features]]
        classes = self.context.need(MembershipClasses)(batch.target)
        size, modalities = streams.available.shape
        tables = ModalityTables(4, size, modalities, taught[-1].device)
        # Backward begins with the last modalities: their maps are free by the time that gradients need memory.
        first_kept = modalities - modalities // (4 if self.network.predicts_maps else 2)
        for modality in range(modalities):
            for samples in self._chunks(with_others(streams.available, modality)):
                terms = partial(self._student, streams, modality, samples, taught, batch, classes)
                with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.learns):
                    values = (
                        recomputed(terms, inf if modality >= first_kept else _voxels(streams))
                        if self._recomputes
                        else terms()
                    )
                tables.put(modality, samples, values)
        pixel, proto, distance, regularisation = tables.read()
        return Alone(pixel, proto, distance.detach(), regularisation)

    def _chunks(self, samples: list[int]) -> list[list[int]]:
        """The samples that are decoded together: all, or one by one if their activations are recomputed."""
        if self.recomputing:
            return [[sample] for sample in samples]
        return [samples] if samples else []

    def _student(
        self,
        streams: Streams,
        modality: int,
        samples: list[int],
        teacher: list[Tensor],
        batch: Batch,
        classes: tuple[Tensor, int],
    ) -> tuple[Tensor, ...]:
        """L_pixel, L_proto, D and L_reg of some samples with one modality alone, one value a sample."""
        config, network = self.config, self.network
        outputs, features = network.decode_with_features(network.fuse(streams.alone(modality, samples)).skips)
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
            own_loss = self.context.find(LocalLoss) or self.task_loss
            targets = [rows_of(batch.target, [sample]) for sample in samples]
            own = [[each[row, None] for each in outputs] for row in range(len(samples))]
            regular = torch.stack([own_loss(supervised(*pair), pair[1]) for pair in zip(own, targets, strict=True)])
        return pixel, proto, distance, regular


def _voxels(streams: Streams) -> int:
    """Of the patch."""
    return prod(streams.scales[0][0].shape[1:])


def _joined(samples: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Maps of several samples, scale by scale."""
    return [torch.cat(scale) for scale in zip(*samples, strict=True)]


def with_others(available: Tensor, modality: int) -> list[int]:
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
