"""The file in a folder of segmentations that says what made them, so that no later run mixes others in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunetv2_mmkd.files import Marker, differing
from nnunetv2_mmkd.inference.all_subsets import AllSubsetsPredictor
from nnunetv2_mmkd.names import modality_names
from nnunetv2_mmkd.workflows.evaluate.settings import WindowSettings


def prediction_record(predictor: AllSubsetsPredictor, window: WindowSettings, where: str | None) -> dict[str, Any]:
    """What must agree for segmentations to be of one kind.

    Args:
        predictor: with the model loaded.
        window: of the predictions.
        where: what the cases are, where they are not the validation cases: folder of the images, or ``"test"``.
    """
    checkpoints = {}
    for path in sorted(Path(predictor.model.folder).glob(f"fold_*/{predictor.model.checkpoint}")):
        status = path.stat()
        checkpoints[path.parent.name] = [status.st_size, status.st_mtime_ns]
    described = predictor.model.as_json()
    if where is None:
        del described["folds"]  # each case is predicted by one of them; others may be added
    return {
        "model": described,
        "checkpoints": checkpoints,
        "modalities": list(modality_names(predictor.dataset_json)),
        "window": {"step_size": window.step_size, "mirroring": window.mirroring},
        "images": where,
    }


def _differences(found: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Why predictions may not be added: folds may be added, those that exist must not have been trained again."""
    old = found.get("checkpoints", {})
    if not isinstance(old, dict):
        return ["checkpoints: damaged"]
    changed = [fold for fold, stamp in old.items() if record["checkpoints"].get(fold, stamp) != stamp]
    return differing(found, record, ignoring=["checkpoints"]) + [f"checkpoint of {fold}" for fold in changed]


PREDICTIONS = Marker(
    "mmkd_predictions.json",
    "predictions of `mmkd evaluate`",
    "choose another -o, or --overwrite such predictions",
    _differences,
)
"""The file with the record of a folder's segmentations."""
