"""Our curves in nnU-Net's log: what the method learns, and the pseudo-Dice with all modalities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import Method
from nnunetv2_mmkd.training.curves import LINES, by_group, draw_curves

FULL_DICE, SUBSET_DICE = "pseudo Dice/all modalities", "pseudo Dice/subset law"
"""Curves of every training. Their names are in the checkpoints."""

LOGGED = 3
"""Groups of curves in the log's line."""


class CurveLog:
    """Registers, logs and draws curves below the prefix ``mmkd/``.

    Args:
        host: the trainer whose logger and folder are used.
        names: of the method's curves, ``"group/name"``.
    """

    def __init__(self, host: nnUNetTrainer, names: Sequence[str]) -> None:
        self.host = host
        self.names = (FULL_DICE, SUBSET_DICE, *names)

    @property
    def values(self) -> dict[str, list[Any]]:
        """All that nnU-Net's logger holds: name -> one value per epoch."""
        values: dict[str, list[Any]] = self.host.logger.local_logger.my_fantastic_logging
        return values

    def register(self, method: Method[Any]) -> None:
        """Let nnU-Net's logger know our curves; those an older checkpoint lacks are NaN up to now.

        A resumed training knows its best epoch: nnU-Net saves the latest checkpoint before it looks whether the epoch
        was the best, so that a worse one could overwrite ``checkpoint_best`` later.

        Raises:
            InputError: the method does not return the curves that it names.
        """
        if self.host.current_epoch == 0:
            self._check(method.curves(), type(method).__name__)
        if averages := self.values["ema_fg_dice"]:
            self.host._best_ema = max(averages)
        for name in self.names:
            values = self.values.setdefault(f"mmkd/{name}", [])
            values.extend([float("nan")] * (self.host.current_epoch - len(values)))

    def log(self, full_dice: float, curves: Mapping[str, float]) -> None:
        """Log exactly one value per curve for this epoch.

        Args:
            full_dice: pseudo-Dice with all modalities; that under the target distribution is nnU-Net's.
            curves: the method's.
        """
        subset_dice = float(self.host.logger.get_value("mean_fg_dice", step=-1))
        self._check(curves, "the method")
        values = {FULL_DICE: full_dice, SUBSET_DICE: subset_dice, **curves}
        for name in self.names:
            self.host.logger.log(f"mmkd/{name}", values[name], self.host.current_epoch)
        self.host.print_to_log_file(_line(values))

    def _check(self, curves: Mapping[str, float], method: str) -> None:
        lost = [name for name in self.names if name not in (FULL_DICE, SUBSET_DICE, *curves)]
        if lost:
            raise InputError(
                f"{method} names the curve {lost[0]!r} in curve_names(), and curves() does not return it: return NaN "
                "where there is nothing yet"
            )

    def draw(self) -> None:
        """Draw ``mmkd_progress.png``."""
        if self.host.local_rank == 0:
            curves = {name: self.values[f"mmkd/{name}"] for name in self.names}
            draw_curves(curves, Path(self.host.output_folder) / "mmkd_progress.png", type(self.host).__name__)


def _line(values: Mapping[str, float]) -> str:
    """The most telling curves in one line; all of them are in the checkpoints."""
    parts = []
    for group, lines in list(by_group({name: [value] for name, value in values.items()}).items())[:LOGGED]:
        told = [f"{LINES.get(name, name)} {value:.3g}" for name, (value,) in lines.items() if not math.isnan(value)]
        parts += [f"{group}: {', '.join(told)}"] if told else []
    return "mmkd: " + "; ".join(parts)
