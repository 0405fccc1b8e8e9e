"""A model that is evaluated: its folds, the cases and subsets it predicts, and the folder they go to, all checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.subsets import choose_subsets, subset_name
from nnunetv2_mmkd.inference.all_subsets import AllSubsetsPredictor
from nnunetv2_mmkd.inference.checkpoint_file import read_nnunet_checkpoint
from nnunetv2_mmkd.inference.run import pick_device
from nnunetv2_mmkd.modalities import mask_of
from nnunetv2_mmkd.output_folders import check_writable
from nnunetv2_mmkd.workflows.evaluate.given_predictions import same_labels
from nnunetv2_mmkd.workflows.evaluate.prediction_record import PREDICTIONS, prediction_record
from nnunetv2_mmkd.workflows.evaluate.settings import SubsetPredictions, Target, WindowSettings
from nnunetv2_mmkd.workflows.evaluate.subset_cases import SubsetCase, labelled_cases


@dataclass(frozen=True)
class SubsetJob:
    """A prediction with all subsets that has been checked and not begun.

    Attributes:
        predictor: with the model loaded.
        cases: by the fold that predicts them; ``"all"``: all folds that were asked for, averaged.
        subsets: names, in order.
        result: what will exist afterwards.
        window: of the predictions.
        overwrite: throw away what another model, checkpoint or window made.
        where: what the cases are, where they are not the validation cases: folder of the images, or ``"test"``.
    """

    predictor: AllSubsetsPredictor
    cases: dict[str, list[SubsetCase]]
    subsets: tuple[str, ...]
    result: SubsetPredictions
    window: WindowSettings
    overwrite: bool
    where: str | None


def prepare_model(
    model: str, output: Path, target: Target, window: WindowSettings, *, overwrite: bool = False
) -> SubsetJob:
    """Check everything for predicting labelled cases with every subset of what they have. Writes nothing.

    Validation cases are each predicted by the fold that did not train on them; test cases and a folder of images by
    all folds, averaged as nnU-Net does.

    Args:
        model: model folder.
        output: folder for the segmentations.
        target: cases and subsets. A case gets those that it has all images of.
        window: of the predictions.
        overwrite: throw away what is in ``output`` from another model, checkpoint or window.

    Returns:
        The job; of a specialist with its own subset alone.

    Raises:
        InputError: anything wrong with model, cases or output.
    """
    if (target.images is None) != (target.labels is None):
        raise InputError("-i and -l belong together: a folder of images, and one of their segmentations")
    if target.images is not None and target.test:
        raise InputError("--test takes the cases from the data set: leave out -i and -l")
    check_writable(str(output))
    predictor = AllSubsetsPredictor(
        tile_step_size=window.step_size,
        use_mirroring=window.mirroring,
        perform_everything_on_device=window.on_device and window.device == "cuda",
        device=pick_device(window.device),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(model, target.folds, target.checkpoint)
    if target.images is None:
        _check_folds(model, predictor.model.folds, target.checkpoint)
    subsets = _of_model(choose_subsets(target.subsets, predictor.modalities), predictor)
    labels, cases = labelled_cases(model, predictor, target, progress=window.progress)
    same_labels(Path(labels), predictor.dataset_json, model, parent=True)
    masks = {name: mask_of(predictor.modalities, available=name.split("+")) for name in subsets}
    expected = {
        case.identifier: tuple(name for name, mask in masks.items() if not bool((mask & ~case.available).any()))
        for group in cases.values()
        for case in group
    }
    name = predictor.plans_manager.dataset_name
    images = {case.identifier: case.files for group in cases.values() for case in group if case.files}
    result = SubsetPredictions(output, Path(labels), dict(predictor.dataset_json), expected, name, images)
    where = "test" if target.test else None if target.images is None else os.path.abspath(target.images)
    PREDICTIONS.check(output, prediction_record(predictor, window, where), overwrite=overwrite)
    return SubsetJob(predictor, cases, subsets, result, window, overwrite, where)


def _check_folds(model: str, folds: Sequence[int | str], checkpoint: str) -> None:
    """Refuse a checkpoint in another fold's folder: it may have been trained on the validation cases there.

    Raises:
        InputError: there is one.
    """
    for fold in folds:
        file = os.path.join(model, f"fold_{fold}", checkpoint)
        arguments = read_nnunet_checkpoint(file, mmap=True, verify=False).get("init_args")
        trained = arguments.get("fold", fold) if isinstance(arguments, Mapping) else fold
        if str(trained) != str(fold):
            raise InputError(
                f"{file} was trained as fold {trained}, so it may have seen the cases of fold {fold}: move it back to "
                f"fold_{trained}, or evaluate with -i and -l"
            )


def _of_model(chosen: tuple[str, ...], predictor: AllSubsetsPredictor) -> tuple[str, ...]:
    """The chosen subsets that a model takes: a specialist its own, any other model all."""
    if not predictor.subset:
        return chosen
    own = subset_name(predictor.subset, predictor.modalities)
    if own not in chosen:
        raise InputError(
            f"{predictor.model.folder} is a specialist for {own}, which --subsets leaves out: add it, or leave out the "
            "model"
        )
    return (own,)
