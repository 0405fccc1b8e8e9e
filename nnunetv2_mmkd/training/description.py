"""What a run is, for its log and for ``mmkd_config.json``."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from nnunetv2_mmkd.precision import precision
from nnunetv2_mmkd.training.cases import TrainingCases


def described_run(trainer: Any, cases: TrainingCases) -> dict[str, Any]:
    """Trainer, method and its configuration, modality dropout, optimiser, warm-up, seed and cases of a run.

    Args:
        trainer: an ``nnUNetTrainerMMKD`` whose training begins.
        cases: of the fold.
    """
    described: dict[str, Any] = {
        "trainer": type(trainer).__name__,
        "method": type(trainer.method).__name__,
        "config": _as_dict(trainer.method.config),
        "modalities": list(trainer.modalities),
        "subset_law": asdict(trainer.modality_dropout),
        "optimizer_law": _as_dict(trainer.adamw),
        "warmup_iterations": trainer.warmup_iterations,
        "seed": trainer.suffix_seed,
        "precision": precision(trainer.device),
        **cases.described(trainer.method.held_out),
    }
    if trainer.recipe is not None:
        described["recipe"] = asdict(trainer.recipe)
    if trainer.suffix_endings:
        described["endings"] = list(trainer.suffix_endings)
    return described


def _as_dict(config: Any) -> dict[str, Any] | None:
    return asdict(config) if is_dataclass(config) and not isinstance(config, type) else None
