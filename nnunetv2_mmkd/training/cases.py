"""The cases of a training: what each has, which are held out, and the loader of those."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import write_json
from nnunetv2_mmkd.methods.base import Batch, HeldOut, Method
from nnunetv2_mmkd.modalities import FULL, indices
from nnunetv2_mmkd.nnunet_json import missing_modalities, names_of_list, read_object
from nnunetv2_mmkd.training.held_out import split_held_out
from nnunetv2_mmkd.training.missing_rates import present_masks, read_missing_table, realised_rates, table_path
from nnunetv2_mmkd.training.presence import blanking, undeclared_missing


class CasesMixin(nnUNetTrainer):
    """Masks of the cases, the missing-rate table, the held-out split, and the loader of a meta split."""

    modalities: tuple[str, ...]
    method: Method
    suffix_table: str | None

    training_present: dict[str, NDArray[np.bool_]]
    validation_present: dict[str, NDArray[np.bool_]]
    realised_missing_rates: dict[str, float]
    missing_table: dict[str, Any] | None = None
    training_cases: list[str]
    held_out_cases: Sequence[str] = ()
    undeclared: dict[str, list[str]]
    dataloader_meta: Any = None
    dataset_class: Any

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """As nnU-Net, without the held-out cases among those trained on."""
        dataset_tr, dataset_val = super().get_tr_and_val_datasets()
        fold_cases = [str(case) for case in dataset_tr.identifiers]
        validation_cases = [str(case) for case in dataset_val.identifiers]
        declared = missing_modalities(self.dataset_json, self.modalities)
        everyone = sorted({*fold_cases, *validation_cases})
        self.undeclared = undeclared_missing(
            self.dataset_class(self.preprocessed_dataset_folder, everyone), everyone, self.modalities, declared
        )
        for case, names in self.undeclared.items():
            self.print_to_log_file(
                f"WARNING: case {case}: {', '.join(names)} is all zero though dataset.json does not declare it in "
                "missing_modalities; it is treated as missing"
            )
        self.missing_table = self._read_missing_table()
        masked = self.missing_table["missing"] if self.missing_table else {}
        self.training_present = present_masks(fold_cases, self.modalities, declared, self.undeclared, masked)
        self.validation_present = present_masks(validation_cases, self.modalities, declared, self.undeclared)
        self.realised_missing_rates = realised_rates(self.training_present, self.modalities)
        self.training_cases, self.held_out_cases = fold_cases, []
        wanted, told = self.method.held_out, "none held out"
        if wanted is not None:
            self.training_cases, self.held_out_cases = self._held_out_split(fold_cases, wanted)
            dataset_tr = self.dataset_class(self.preprocessed_dataset_folder, self.training_cases)
            told = f"{len(self.held_out_cases)} of the fold's {len(fold_cases)} in the {wanted.kind} split"
            told += " (trained on all the same)" if wanted.overlap else " (not trained on)"
        self.print_to_log_file(
            f"{len(self.training_cases)} training cases, {told}, {len(validation_cases)} validation cases; missing "
            "rates of the fold's training cases: "
            + ", ".join(f"{name} {rate:.3f}" for name, rate in self.realised_missing_rates.items())
        )
        return dataset_tr, dataset_val

    @property
    def meta_cases(self) -> list[str]:
        """The held-out cases, if they are for meta-updates."""
        return list(self.held_out_cases) if self.method.needs_meta_split else []

    def _read_missing_table(self) -> dict[str, Any] | None:
        """The table that the trainer's name asks for; a copy goes into the fold folder."""
        if self.suffix_table is None:
            return None
        cases = self.dataset_class.get_identifiers(self.preprocessed_dataset_folder)
        path = table_path(self.preprocessed_dataset_folder_base, self.suffix_table)
        table = read_missing_table(path, self.modalities, cases)
        if self.missing_table is not None and self.missing_table["missing"] != table["missing"]:
            raise InputError(
                f"{path} is not the missing-rate table that this training was started with; restore it (a copy is in "
                f"{self.output_folder}) or start a new training"
            )
        if self.local_rank == 0:
            write_json(Path(self.output_folder) / path.name, table)
        return table

    def _held_out_split(self, fold_cases: list[str], wanted: HeldOut) -> tuple[list[str], list[str]]:
        """Training and held-out cases; a resumed training keeps the split it was started with."""
        path = Path(self.output_folder) / f"mmkd_{wanted.kind}_split.json"
        if self.current_epoch > 0 and path.is_file():
            stored = read_object(path)
            training, held_out = (list(names_of_list(stored, key, path)) for key in ("training", wanted.kind))
            if {*training, *held_out} == set(fold_cases):
                return training, held_out
            raise InputError(
                f"{path} does not hold the training cases of fold {self.fold}: the split of the data set has changed "
                "since this training was started. Restore splits_final.json or start a new training"
            )
        training, held_out = split_held_out(fold_cases, self.training_present, wanted)
        if self.local_rank == 0:
            write_json(path, {"training": training, wanted.kind: held_out})
        return training, held_out

    def get_dataloaders(self) -> tuple[Any, Any]:
        """As nnU-Net, and a loader of the meta split with the augmentation of training."""
        train, val = super().get_dataloaders()
        if self.meta_cases:
            loader = copy.copy(train.generator if hasattr(train, "generator") else train.data_loader)
            loader._data = self.dataset_class(self.preprocessed_dataset_folder, self.meta_cases)
            loader.indices = loader._data.identifiers
            if get_allowed_n_proc_DA() == 0:
                self.dataloader_meta = SingleThreadedAugmenter(loader, None)
            else:
                self.dataloader_meta = NonDetMultiThreadedAugmenter(
                    loader,
                    None,
                    num_processes=max(1, get_allowed_n_proc_DA() // 4),
                    num_cached=3,
                    pin_memory=self.device.type == "cuda",
                    wait_time=0.002,
                )
        return train, val

    def next_meta_batch(self) -> Batch:
        """A batch of the meta split with all modalities that its cases have."""
        return self.prepare(next(self.dataloader_meta), self.training_present, FULL)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's validation, with all modalities that each case has: what is missing is blank there."""
        self.print_to_log_file("The final validation uses all modalities that each case has, nothing is dropped.")
        if self.dataset_class is None:
            self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        planned = self.dataset_class
        declared = missing_modalities(self.dataset_json, self.modalities)
        missing = {case: indices(names, self.modalities) for case, names in declared.items()}
        self.dataset_class = blanking(planned, missing)
        try:
            super().perform_actual_validation(save_probabilities)
        finally:
            self.dataset_class = planned

    def on_train_end(self) -> None:
        """As nnU-Net, and stop the meta split's workers."""
        super().on_train_end()
        if isinstance(self.dataloader_meta, NonDetMultiThreadedAugmenter):
            stdout = sys.stdout
            with open(os.devnull, "w") as sink:  # the augmenter prints when it stops
                sys.stdout = sink
                self.dataloader_meta._finish()
                sys.stdout = stdout
