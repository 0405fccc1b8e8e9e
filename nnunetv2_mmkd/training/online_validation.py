"""Online pseudo-Dice under the target law and with all modalities, and the method's curves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from nnunetv2.utilities.collate_outputs import collate_outputs
from torch import Tensor

from nnunetv2_mmkd.modalities import FULL, ModalityDropoutConfig, SubsetSampler
from nnunetv2_mmkd.training.curves import draw_curves
from nnunetv2_mmkd.training.deployment import DeploymentMixin

VALIDATION_SEED = 20180
OWN_CURVES = ("pseudo Dice/all modalities", "pseudo Dice/subset law")


class OnlineValidationMixin(DeploymentMixin):
    """Validates each batch under a subset of the target law, the same sequence in every epoch and for every method.

    ``checkpoint_best`` follows this Dice. The Dice with all modalities is a second curve. Both are of the weights that
    are deployed.
    """

    modalities: tuple[str, ...]
    modality_dropout: ModalityDropoutConfig
    target_dropout: ModalityDropoutConfig | None = None

    def on_validation_epoch_start(self) -> None:
        """Start the sequence of subsets anew."""
        super().on_validation_epoch_start()
        law = self.target_dropout or self.modality_dropout
        self._validation_sampler = SubsetSampler(law, VALIDATION_SEED + self.local_rank, self.modalities)
        self._full_outputs: list[dict] = []

    def validation_step(self, batch: dict) -> dict:
        """nnU-Net's validation step, once under the law and once with all that is there."""
        with self.deployed_weights():
            return self._validation_step(batch)

    def _validation_step(self, batch: dict) -> dict:
        full = self.prepare(batch, self.validation_present, FULL).available
        target = batch["target"]
        copied = [t.clone() for t in target] if isinstance(target, list) else target.clone()
        with self._network_limited_to(full):
            outputs: dict = super().validation_step({**batch, "target": copied})  # it may change the target in place
        self._full_outputs.append(outputs)
        available = self._validation_sampler(full)
        if bool((available == full).all()):
            return outputs
        with self._network_limited_to(available):
            return super().validation_step(batch)

    @contextmanager
    def _network_limited_to(self, available: Tensor) -> Iterator[None]:
        network = self.network
        self.network = partial(self.bare_network, available=available)
        try:
            yield
        finally:
            self.network = network

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """nnU-Net's curves from the outputs under the law, ours from those with all modalities."""
        super().on_validation_epoch_end(val_outputs)
        self._full_dice = mean_dice(self._full_outputs)

    # -- curves ------------------------------------------------------------------------------------------------------

    @property
    def _log(self) -> dict[str, list[Any]]:
        return self.logger.local_logger.my_fantastic_logging

    def _curve_keys(self) -> list[str]:
        return [f"mmkd/{name}" for name in (*OWN_CURVES, *self.method.curve_names())]

    def register_curves(self) -> None:
        """Let nnU-Net's logger know our curves; those an older checkpoint lacks are NaN up to now."""
        for key in self._curve_keys():
            values = self._log.setdefault(key, [])
            values.extend([float("nan")] * (self.current_epoch - len(values)))

    def log_curves(self) -> None:
        """Log exactly one value per curve for this epoch."""
        values = {
            "pseudo Dice/all modalities": self._full_dice,
            "pseudo Dice/subset law": float(self.logger.get_value("mean_fg_dice", step=-1)),
            **self.method.curves(),
        }
        for key in self._curve_keys():
            self.logger.log(key, values[key.removeprefix("mmkd/")], self.current_epoch)
        self.print_to_log_file(
            "mmkd: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items() if not np.isnan(value))
        )

    def draw_curves(self) -> None:
        """Draw ``mmkd_progress.png``."""
        if self.local_rank == 0:
            curves = {key.removeprefix("mmkd/"): self._log[key] for key in self._curve_keys()}
            draw_curves(curves, Path(self.output_folder) / "mmkd_progress.png", type(self).__name__)


def mean_dice(outputs: list[dict]) -> float:
    """Mean over classes or regions of the Dice over all voxels, over all ranks, as nnU-Net's pseudo-Dice."""
    collated = collate_outputs(outputs)
    counts = np.stack([np.sum(collated[key], 0) for key in ("tp_hard", "fp_hard", "fn_hard")])
    if dist.is_available() and dist.is_initialized():
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, counts)
        counts = np.sum(gathered, axis=0)
    tp, fp, fn = counts
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nanmean(2 * tp / (2 * tp + fp + fn)))
