"""Checks and small changes of nnU-Net's own behaviour, each on nnU-Net's trainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_mmkd.evaluation.card import CARD_KEY as CARD
from nnunetv2_mmkd.evaluation.card import carried
from nnunetv2_mmkd.geometry import orientation_of
from nnunetv2_mmkd.image_names import list_images
from nnunetv2_mmkd.images import is_nifti, read_header
from nnunetv2_mmkd.inference.planned import refuse_cascade
from nnunetv2_mmkd.inference.reader import CompletingPlans
from nnunetv2_mmkd.inference.run import cpu_threads
from nnunetv2_mmkd.names import indices
from nnunetv2_mmkd.networks.masking import MISSING_VARIABLE
from nnunetv2_mmkd.nifti_header import grid_of
from nnunetv2_mmkd.nnunet_json import ORIENTATION, missing_modalities
from nnunetv2_mmkd.precision import autocast
from nnunetv2_mmkd.training.prepared_cases import LABELS
from nnunetv2_mmkd.training.present_modalities import blanking


def warn_of_ct(host: nnUNetTrainer) -> None:
    """Warn where missing modalities cannot be detected at prediction."""
    if any("CTNormalization" in scheme for scheme in host.configuration_manager.normalization_schemes):
        host.print_to_log_file(
            "WARNING: a channel is normalised as CT, so an all-zero image does not stay zero and missing "
            "modalities cannot be detected: name them at prediction (`mmkd predict`, or "
            f"{MISSING_VARIABLE} under nnUNetv2_predict)"
        )


def complete_metadata(host: nnUNetTrainer) -> None:
    """Add to plans and ``dataset.json`` what nnU-Net writes into the model's folder at the start of a training."""
    _keep_performance_cards(host)
    _record_orientation(host)


def _record_orientation(host: nnUNetTrainer) -> None:
    """Note in ``plans["mmkd"]`` how all cases of the data set are stored, if they are so alike.

    nnU-Net takes axes as they are; a case that is stored otherwise can be turned at prediction.
    """
    entry, labels = host.plans_manager.plans["mmkd"], Path(host.preprocessed_dataset_folder_base, LABELS)
    ending = host.dataset_json["file_ending"]
    files = [labels / name for name in list_images(labels, ending).images] if is_nifti(Path(ending)) else []
    orientation = orientation_of(grid_of(file, read_header(file)) for file in files)
    entry.pop(ORIENTATION, None)
    if orientation is not None:
        entry[ORIENTATION] = orientation


def _keep_performance_cards(host: nnUNetTrainer) -> None:
    """Keep the performance cards of the model's other folds in ``dataset.json``."""
    trained_on = host.current_epoch < host.num_epochs
    card = carried(host.output_folder_base, host.fold if trained_on else None)
    dataset_json: dict[str, Any] = {key: value for key, value in host.dataset_json.items() if key != CARD}
    host.dataset_json = {**dataset_json, CARD: card} if card else dataset_json


@contextmanager
def final_validation(host: nnUNetTrainer, modalities: Sequence[str]) -> Iterator[None]:
    """What nnU-Net validates with, and how it writes.

    Preprocessed cases come with all-zero channels where ``dataset.json`` declares them missing. Segmentations are read
    again when they are written: on a full disk SimpleITK leaves pieces of them without a word.
    """
    dataset, plans = host.dataset_class, host.plans_manager
    declared = missing_modalities(host.dataset_json, modalities)
    host.dataset_class = blanking(
        dataset or infer_dataset_class(host.preprocessed_dataset_folder),
        {case: indices(names, modalities) for case, names in declared.items()},
    )
    host.plans_manager = CompletingPlans(plans.plans, host.dataset_json["file_ending"])
    try:
        with autocast(host.device):
            yield
    finally:
        host.dataset_class, host.plans_manager = dataset, plans


def prepare(host: nnUNetTrainer) -> None:
    """Refuse a cascade; on a CPU take as many threads as ``OMP_NUM_THREADS`` says, else the cores that are ours.

    ``nnUNetv2_train -device cpu`` takes all cores of the machine, whatever that variable says; several trainings at a
    time then wait for each other at every layer.

    Raises:
        NotImplementedError: the configuration belongs to a cascade.
    """
    refuse_cascade(host.configuration_manager, host.configuration_name)
    if host.device.type == "cpu":
        torch.set_num_threads(cpu_threads())
