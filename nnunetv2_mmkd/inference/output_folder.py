"""Where segmentations go: not where anything is that is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import read_marker
from nnunetv2_mmkd.inference.cases import Case
from nnunetv2_mmkd.inference.model_folder import TrainedModel
from nnunetv2_mmkd.output_folders import check_apart, check_not_nnunets

_OF_NNUNET = ("dataset.json", "plans.json", "predict_from_raw_data_args.json")


def check_output_folder(
    output: str, source: str | None, previous_stage: str | None, model: TrainedModel, cases: Sequence[Case]
) -> None:
    """Refuse an output folder that holds what is read, or a data set or model, whose JSON nnU-Net would overwrite.

    Args:
        output: the folder.
        source: folder of the images, if there is one.
        previous_stage: folder of a previous stage's predictions (cascade).
        model: what is to predict.
        cases: what it is to predict.

    Raises:
        InputError: it is one.
    """
    check_apart(output, source, previous_stage, model.folder or None)
    check_apart(output, *(Path(model.folder).glob("fold_*") if model.folder else ()))
    names = set(os.listdir(output)) if os.path.isdir(output) else set()
    for case in cases:
        image = next((name for name in names if _is_image(name, case.identifier, model.dataset_json.file_ending)), None)
        if image is not None:
            raise InputError(
                f"output folder {output} holds the image {image} of case {case.identifier}. Choose another"
            )
    check_not_nnunets(output)


def check_overwrites_none(cases: Sequence[Case], outputs: Sequence[str], ending: str) -> None:
    """Refuse a segmentation that would overwrite an image.

    Args:
        cases: with their images.
        outputs: of the segmentations, without ending.
        ending: of these.

    Raises:
        InputError: one would.
    """
    images = {os.path.realpath(file): case.identifier for case in cases for file in case.files if file is not None}
    for output in outputs:
        if os.path.realpath(output + ending) in images:
            raise InputError(
                f"the segmentation {output + ending} would overwrite an image. Choose another output folder"
            )


def remove_damaged(output: str | None) -> None:
    """Remove what nnU-Net writes into an output folder where it is damaged: the disk was full."""
    for name in _OF_NNUNET if output is not None else ():
        file = Path(output or ".", name)
        if read_marker(file) == {}:
            file.unlink()


def _is_image(name: str, case: str, ending: str) -> bool:
    suffix = name[len(case) : -len(ending)]
    return name.startswith(f"{case}_") and name.endswith(ending) and len(suffix) == 5 and suffix[1:].isdigit()
