"""Segmentation of each modality alone in addition to the fused one: what mmFormer, RFNet and M2FTrans are trained with.

Legend: B batch, M modalities, A available modalities of a sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_mmkd.methods.base import (
    Averages,
    Batch,
    ExtraNetwork,
    LocalLoss,
    Method,
    StepResult,
    TaskLoss,
    TrainingContext,
    sum_of_parts,
)
from nnunetv2_mmkd.methods.modality_table import rows_of, supervised
from nnunetv2_mmkd.networks.contracts import SegmentationNetwork
from nnunetv2_mmkd.networks.streams import Streams


@dataclass(frozen=True)
class AuxiliaryConfig:
    """Hyper-parameters of the auxiliary losses.

    Attributes:
        uni_modal: weight of the modalities' own segmentations (Eqs. 1 and 2 of PASSION, where the baselines' loss is
            written down: 1; equal weights in the released codes).
        maps: weight of the region maps that a fusion predicts (RFNet; 1 in the released code).
        warmup_share: share of the iterations, the first ones, that are trained without the task loss of the fused
            prediction (RFNet: 20 of 300 epochs in the released code's script).
        all_modalities: whether every modality that a case has is segmented by itself, also those that a step drops
            (Eq. 1 of PASSION; the papers on complete data), not only the subset's.
    """

    uni_modal: float = 1.0
    maps: float = 1.0
    warmup_share: float = 0.0
    all_modalities: bool = False

    def __post_init__(self) -> None:
        for name, value in (("uni_modal", self.uni_modal), ("maps", self.maps)):
            if not value >= 0:
                raise ValueError(f"auxiliary losses: weight {name} must not be negative, not {value}")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"auxiliary losses: warmup_share must lie in [0, 1), not {self.warmup_share}")


class Auxiliary(Method[SegmentationNetwork]):
    r"""Task loss of the fused prediction, of the fusion's region maps, and of each available modality by itself.

    .. math:: \ell(z_n, y_n) + \ell(r_n, y_n) + \sum_{m \in A_n} \ell(D(f_n^m), y_n)

    with z the fused prediction, r the region maps of a fusion that predicts them, and D one auxiliary decoder for all
    modalities, on the features of a single one. The sum over the available modalities (Eq. 2 of PASSION; the released
    codes of all three baselines sum, too) is averaged over the batch. D is trained with the network, never deployed.

    Attributes:
        recomputes: of D, one sample and modality at a time; a decoder's forward pass more for each.

    References:
        Zhang et al., mmFormer, MICCAI 2022; Ding et al., RFNet, ICCV 2021; Shi et al., M2FTrans, IEEE JBHI 28(1), 2024;
        Shi et al., PASSION, ACM MM 2024, Eqs. (1) and (2).

    Deviations from the papers:
        D is nnU-Net's planned decoder and every term has nnU-Net's deep supervision with its weights (the papers
        supervise scales of the fused prediction only, with 1/2, 1/4, ...) and its task loss (weighted cross entropy and
        Dice in the papers). Where the papers train on complete data they segment every modality, also those that
        the subset lacks; here, unless ``all_modalities``, a modality that is missing in a step does not exist.
        nnU-Net's batch Dice, where it is planned, pools what all modalities of a rank have segmented.
    """

    needs: tuple[type, ...] = (ExtraNetwork,)
    recomputes = None

    def __init__(self, config: AuxiliaryConfig | None = None) -> None:
        self.config = config or AuxiliaryConfig()
        self._averages = Averages()
        self._iteration = 0

    def setup(self, context: TrainingContext) -> None:
        """Make the auxiliary decoder.

        Raises:
            ValueError: a warm-up in a training of unknown length.
        """
        super().setup(context)
        if self.config.warmup_share and not context.iterations:
            raise ValueError("auxiliary losses: for a warm-up, the length of the training must be known")
        network = context.need(ExtraNetwork)()
        self.decoder: Any = network.decoder
        if hasattr(self.decoder, "encoder"):  # nnU-Net's decoder holds an encoder that it does not run
            del self.decoder.encoder
        self._has_maps = bool(network.predicts_maps)

    def trainable(self) -> Sequence[nn.Module]:
        """The auxiliary decoder."""
        return (self.decoder,)

    @property
    def warmup_until(self) -> int:
        """The first iteration with the task loss of the fused prediction."""
        result: int = round(self.config.warmup_share * self.context.iterations)
        return result

    def start_iteration(self, network: SegmentationNetwork, task_loss: TaskLoss, iteration: int) -> None:
        """Note whether this is the warm-up."""
        self._iteration = iteration

    def step(self, network: SegmentationNetwork, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """All terms on a batch."""
        encoded = network.encode(batch.images, batch.present if self.config.all_modalities else batch.available)
        streams = encoded.narrowed(batch.available) if self.config.all_modalities else encoded
        warming = self._iteration < self.warmup_until
        further = self.further_parts(streams, batch)
        parts: dict[str, Tensor] = {}
        if self.config.uni_modal:  # first, so that backward ends with it: what the fused decoder holds is free by then
            parts["uni-modal"] = self.config.uni_modal * self._uni_modal(encoded, batch, task_loss)
        if not warming or (self._has_maps and self.config.maps):
            skips, maps = network.fuse(streams)
            if maps and self.config.maps:
                parts["region maps"] = self.config.maps * task_loss(supervised(maps, batch.target), batch.target)
            if not warming:
                parts["task"] = task_loss(network.decode(skips), batch.target)
        if not parts:
            raise ValueError("auxiliary losses: nothing to train on in the warm-up; give uni_modal or maps a weight")
        parts |= further
        self._averages.add_all("loss", parts)
        return sum_of_parts(parts)

    def further_parts(self, streams: Streams, batch: Batch) -> Mapping[str, Tensor]:
        """Weighted terms on the streams of a batch that another method adds."""
        return {}

    def _uni_modal(self, streams: Streams, batch: Batch, task_loss: TaskLoss) -> Tensor:
        """Sum over the available modalities, mean over the batch (Eq. 2 of PASSION).

        The task loss stays within the rank: ranks have not the same number of modalities to exchange sums of.
        """
        decoded: list[Any] = []
        for rows in self._chunks([modality for _, modality in streams.pairs]):

            def decode(rows: list[int] = rows) -> Any:
                return self.decoder([torch.stack([scale[row] for row in rows]) for scale in streams.scales])

            decoded.append(checkpoint(decode, use_reentrant=False) if self.recomputing else decode())
        several = isinstance(decoded[0], (list, tuple))
        outputs = [torch.cat(scale) for scale in zip(*decoded, strict=True)] if several else torch.cat(decoded)
        target = rows_of(batch.target, [sample for sample, _ in streams.pairs])
        own_loss = self.context.find(LocalLoss) or task_loss
        return own_loss(outputs, target) * (len(streams.pairs) / len(streams.available))

    def _chunks(self, modalities: Sequence[int]) -> list[list[int]]:
        """The pairs that D decodes together: those of a modality, or one by one if their activations are recomputed."""
        if self.recomputing:
            return [[row] for row in range(len(modalities))]
        return [[row for row, own in enumerate(modalities) if own == m] for m in sorted(set(modalities))]

    # -- curves and state --------------------------------------------------------------------------------------------

    def curve_names(self) -> tuple[str, ...]:
        """Every weighted part."""
        names = ["loss/task"]
        names += ["loss/region maps"] if self._has_maps and self.config.maps else []
        names += ["loss/uni-modal"] if self.config.uni_modal else []
        return tuple(names)

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())

    def state_dict(self) -> dict[str, Any]:
        """The auxiliary decoder."""
        return {"decoder": self.decoder.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.decoder.load_state_dict(state["decoder"])
