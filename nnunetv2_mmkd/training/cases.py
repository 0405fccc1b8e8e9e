"""The cases of a fold: what each has, which are held out, and which a missing-rate table masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import write_json
from nnunetv2_mmkd.methods.base import HeldOut
from nnunetv2_mmkd.nnunet_json import missing_modalities, names_of_list, read_object
from nnunetv2_mmkd.protocols.missing_table import read_missing_table, table_path
from nnunetv2_mmkd.training.held_out import split_held_out
from nnunetv2_mmkd.training.present_modalities import present_masks, realised_rates, undeclared_missing


@dataclass(frozen=True)
class TrainingCases:
    """The cases of a fold.

    Attributes:
        training: identifiers of the cases trained on.
        held_out: training cases of the fold that the method needs for itself.
        training_present: what each training case of the fold has, held-out ones included: case -> ``[M]``.
        validation_present: what each validation case has.
        missing_rates: modality -> share of the fold's training cases that miss it.
        missing_table: the missing-rate table, or None.
        undeclared: case -> modalities that are all zero though not declared missing.
    """

    training: list[str]
    held_out: list[str]
    training_present: dict[str, NDArray[np.bool_]]
    validation_present: dict[str, NDArray[np.bool_]]
    missing_rates: dict[str, float]
    missing_table: dict[str, Any] | None
    undeclared: dict[str, list[str]]

    def described(self, rule: HeldOut | None) -> dict[str, Any]:
        """What ``mmkd_config.json`` says of them, where some are held out by a rule."""
        return {
            "training_cases": len(self.training),
            "held_out": {rule.kind: self.held_out} if rule else {},
            "realised_missing_rates": self.missing_rates,
            "undeclared_missing": self.undeclared,
        }


def find_cases(
    host: nnUNetTrainer,
    training: Iterable[str],
    validation: Iterable[str],
    modalities: Sequence[str],
    *,
    held_out: HeldOut | None = None,
    table_tag: str | None = None,
    table_at_start: dict[str, Any] | None = None,
) -> TrainingCases:
    """Find out what the cases of a fold have, split off the held-out ones, and log it.

    Args:
        host: the trainer; its fold folder gets the held-out split and a copy of the missing-rate table.
        training: identifiers of the fold's training cases.
        validation: identifiers of its validation cases.
        modalities: names of the channels.
        held_out: training cases that the method needs for itself.
        table_tag: of the missing-rate table that masks the training cases.
        table_at_start: the table that a resumed training was started with.

    Raises:
        InputError: an unknown modality, a case left with nothing, a wrong table, a split that does not fit the fold.
    """
    fold, validated = [str(case) for case in training], [str(case) for case in validation]
    declared = missing_modalities(host.dataset_json, modalities)
    everyone = sorted({*fold, *validated})
    dataset = host.dataset_class(host.preprocessed_dataset_folder, everyone)
    undeclared = undeclared_missing(dataset, everyone, modalities, declared)
    for case, names in undeclared.items():
        host.print_to_log_file(
            f"WARNING: case {case}: {', '.join(names)} is all zero though dataset.json does not declare it in "
            "missing_modalities; it is treated as missing"
        )
    if host.current_epoch > 0 and (table_tag is None) != (table_at_start is None):
        began = "without a missing-rate table" if table_at_start is None else "with a missing-rate table"
        raise InputError(
            f"{host.output_folder}: this training was started {began}, and its name now says otherwise: go on under "
            "the name of before, or start a new training"
        )
    table = None if table_tag is None else _missing_table(host, table_tag, modalities, table_at_start)
    present = present_masks(fold, modalities, declared, undeclared, table["missing"] if table else {})
    validation_present = present_masks(validated, modalities, declared, undeclared)
    rates = realised_rates(present, modalities)
    trained: list[str] = fold
    held: list[str] = []
    told = "none held out"
    if held_out is not None:
        split = f"mmkd_{held_out.kind}_split.json"
        stored = _stored_split(host, split, held_out.kind, fold)
        trained, held = stored or split_held_out(fold, present, held_out)
        if stored is None and host.local_rank == 0:
            write_json(Path(host.output_folder) / split, {"training": trained, held_out.kind: held})
        told = f"{len(held)} of the fold's {len(fold)} in the {held_out.kind} split"
        told += " (trained on all the same)" if held_out.overlap else " (not trained on)"
    host.print_to_log_file(
        f"{len(trained)} training cases, {told}, {len(validated)} validation cases; missing rates of the fold's "
        "training cases: " + ", ".join(f"{name} {rate:.3f}" for name, rate in rates.items())
    )
    return TrainingCases(trained, held, present, validation_present, rates, table, undeclared)


def _missing_table(
    host: nnUNetTrainer, tag: str, modalities: Sequence[str], at_start: dict[str, Any] | None
) -> dict[str, Any]:
    """The table that the trainer's name asks for; a copy goes into the fold folder."""
    path = table_path(host.preprocessed_dataset_folder_base, tag)
    cases = host.dataset_class.get_identifiers(host.preprocessed_dataset_folder)
    table = read_missing_table(path, modalities, cases)
    if at_start is not None and at_start["missing"] != table["missing"]:
        raise InputError(
            f"{path} is not the missing-rate table that this training was started with; restore it (a copy is in "
            f"{host.output_folder}) or start a new training"
        )
    if host.local_rank == 0:
        write_json(Path(host.output_folder) / path.name, table)
    return table


def _stored_split(host: nnUNetTrainer, name: str, kind: str, fold: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Training and held-out cases that a resumed training was started with."""
    path = Path(host.output_folder) / name
    if host.current_epoch == 0 or not path.is_file():
        return None
    stored = read_object(path)
    training, held_out = (list(names_of_list(stored, key, path)) for key in ("training", kind))
    if {*training, *held_out} != set(fold):
        raise InputError(
            f"{path} does not hold the training cases of fold {host.fold}: the split of the data set has changed "
            "since this training was started. Restore splits_final.json or start a new training"
        )
    return training, held_out
