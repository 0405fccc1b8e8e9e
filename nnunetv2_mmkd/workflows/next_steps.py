"""The commands that come next, with the recommended recipe (``documentation/explanation/which-trainer.md``)."""

from __future__ import annotations

PLANNER, PLANS = "nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans"
TRAINER = "nnUNetTrainerModalityDropout"


def training_commands(dataset_id: int, configuration: str = "3d_fullres", folds: int = 0) -> list[str]:
    """Planning and training of one fold; with a number of folds, first the splits."""
    splits = [f"mmkd splits patients -d {dataset_id} --folds {folds}"] * bool(folds)
    return [
        f"nnUNetv2_plan_and_preprocess -d {dataset_id} -pl {PLANNER} -c {configuration}",
        *splits,
        f"mmkd train {dataset_id} {configuration} 0 -p {PLANS} -tr {TRAINER}",
    ]


def predict_command(dataset_id: int, images: str, configuration: str = "3d_fullres") -> str:
    """Prediction with that fold."""
    return f"mmkd predict -d {dataset_id} -c {configuration} -p {PLANS} -tr {TRAINER} -f 0 -i {images} -o SEGMENTATIONS"


def predict_with_folder(images: str) -> str:
    """Prediction with a model of another data set."""
    return f"mmkd predict -m MODEL_FOLDER -f 0 -i {images} -o SEGMENTATIONS"
