"""A sweep held against what is installed and there, before the first process: nothing is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.postprocessing import POSTPROCESSED
from nnunetv2_mmkd.evaluation.regions import evaluated_regions
from nnunetv2_mmkd.evaluation.score import ScoreSettings, check_scores
from nnunetv2_mmkd.evaluation.table_files import read_columns
from nnunetv2_mmkd.names import canonical, indices, modality_names
from nnunetv2_mmkd.training.missing_rates import table_path
from nnunetv2_mmkd.training.preflight import check_training, find_trainer
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD
from nnunetv2_mmkd.workflows.evaluate.subset_predictions import choose_subsets
from nnunetv2_mmkd.workflows.sweep.definition import PREFIX, Rates, Sweep
from nnunetv2_mmkd.workflows.sweep.tasks import Model, models_of

FOLDS = 5
"""Folds that nnU-Net makes where there are no splits."""


@dataclass(frozen=True)
class Checked:
    """A sweep that may begin.

    Attributes:
        sweep: what the file says.
        models: all that are to be trained.
        preprocessed: the data set's folder.
        modalities: canonical names.
        unwritten: tables that must be written first.
        splits: whether there are splits already.
        data: folder of the preprocessed cases.
    """

    sweep: Sweep
    models: tuple[Model, ...]
    preprocessed: Path
    modalities: tuple[str, ...]
    unwritten: tuple[Rates, ...]
    splits: bool
    data: Path


def check(sweep: Sweep, device: str | None = None) -> Checked:
    """Check everything that can be known beforehand.

    Args:
        sweep: what the file says.
        device: that this machine must have, where it is not the sweep's (a cluster's nodes have another).

    Raises:
        InputError: the first bad thing, with the file and the key.
    """
    try:
        return _check(sweep, device or sweep.device)
    except InputError as error:
        text = str(error)
        raise InputError(text if str(sweep.file) in text else f"{sweep.file}: {text}") from error


def _check(sweep: Sweep, device: str) -> Checked:
    check_training(sweep.dataset, sweep.configuration, "0", PREFIX, sweep.plans, None, device)
    name = str(maybe_convert_to_dataset_name(sweep.dataset))
    folder = Path(str(nnUNet_preprocessed)) / name
    plans = load_json(str(folder / f"{sweep.plans}.json"))
    data = folder / PlansManager(plans).get_configuration(sweep.configuration).data_identifier
    if not data.is_dir() or not any(data.iterdir()):
        raise InputError(f"configuration: {data} holds no cases; run `nnUNetv2_preprocess -d {sweep.dataset}`")
    dataset_json = load_json(str(folder / "dataset.json"))
    modalities = modality_names(dataset_json)
    splits = _check_folds(sweep.folds, folder / "splits_final.json")
    unwritten = [rates for rates in sweep.missing_rates if rates is not None and _to_write(rates, folder, modalities)]
    models = models_of(sweep, Path(str(nnUNet_results)) / name)
    for method in sweep.methods:
        _check_trainer(method, sweep)
    for model in models:
        try:
            find_trainer(model.trainer)
        except InputError as error:
            raise InputError(f"trainers: {model.method} takes no endings ({error})") from error
    _check_evaluation(sweep, dataset_json, modalities, folder)
    _check_compare(sweep, dataset_json, modalities)
    return Checked(sweep, tuple(models), folder, modalities, tuple(unwritten), splits, data)


def _check_folds(folds: Sequence[int], file: Path) -> bool:
    there = file.is_file()
    count = len(load_json(str(file))) if there else FOLDS
    for fold in folds:
        if fold >= count:
            raise InputError(f"folds: there is no fold {fold}; {file} has the folds 0 to {count - 1}")
    return there


def _check_trainer(method: str, sweep: Sweep) -> None:
    try:
        found = find_trainer(PREFIX + method)
    except InputError as error:
        raise InputError(f"trainers: {error}") from error
    if not issubclass(found, nnUNetTrainerMMKD):
        raise InputError(
            f"trainers: {found.__name__} is no trainer of nnunetv2-mmkd, so it knows no missing modalities; the "
            "stock network under modality dropout is ModalityDropout"
        )
    for key, value in {"missing_rates": found.suffix_table, "seeds": found.suffix_seed}.items():
        if value is not None:
            raise InputError(f"trainers: {method} names {value!r} itself: leave the ending out and set {key}")
    lengths = {
        "length.epochs": (found.suffix_epochs, sweep.epochs),
        "length.iterations": (found.suffix_iterations, sweep.iterations),
    }
    for key, (own, common) in lengths.items():
        if own is not None and own == common:
            raise InputError(f"trainers: {method} names {key}, {own}, once more: leave the ending out")


def _to_write(rates: Rates, folder: Path, modalities: Sequence[str]) -> bool:
    """Whether the table must be written; refused where another one of this tag is there."""
    where = f"missing_rates, tag {rates.tag}"
    wanted = dict.fromkeys(modalities, 0.0)
    given = set()
    for name, rate in (rates.rates or {}).items():
        try:
            modality = modalities[indices([name], modalities)[0]]
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if modality in given:
            raise InputError(f"{where}: rates has {modality} twice")
        given.add(modality)
        wanted[modality] = rate
    path = table_path(folder, rates.tag)
    if not path.is_file():
        if rates.rates is None:
            raise InputError(f"{where}: {path} is not there; give rates, or write it with `mmkd rates`")
        return True
    if rates.rates is None:
        return False
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        found = {canonical(name): float(rate) for name, rate in table["rates"].items()}
        seed = table["seed"]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{where}: {path} is no missing-rate table ({error!r})") from error
    if found != wanted or seed != rates.seed:
        raise InputError(
            f"{where}: {path} is there already with rates {found} and seed {seed}, not {wanted} and {rates.seed}; take "
            "another tag, or leave rates and seed out to use what is there"
        )
    return False


def _check_evaluation(sweep: Sweep, dataset_json: dict[str, Any], modalities: Sequence[str], folder: Path) -> None:
    options = sweep.evaluation
    try:
        settings = ScoreSettings(
            options.metrics, options.empty, options.tolerance, options.lesions, options.et_threshold
        )
        check_scores(settings, dataset_json)
        choose_subsets(options.subsets, modalities)
    except InputError as error:
        raise InputError(f"evaluation: {error}") from error
    if not 0 < options.step_size <= 1:
        raise InputError(f"evaluation.step_size is {options.step_size}: expected more than 0, at most 1")
    if options.test and not (folder / "mmkd_test_cases.json").is_file():
        raise InputError(f"evaluation.test: {folder / 'mmkd_test_cases.json'} is not there; `mmkd splits` writes it")


def _check_compare(sweep: Sweep, dataset_json: dict[str, Any], modalities: Sequence[str]) -> None:
    for pair in sweep.compare.pairs:
        for name in pair:
            if name not in sweep.methods:
                raise InputError(f"compare.pairs: {name} is not among the trainers {', '.join(sweep.methods)}")
    regions = evaluated_regions(dataset_json)
    for region in sweep.compare.regions:
        if region not in regions:
            raise InputError(f"compare.regions: there is no region {region!r}; there are {', '.join(regions)}")
    try:
        evaluated = choose_subsets(sweep.evaluation.subsets, modalities)
        wanted = choose_subsets(sweep.compare.subsets, modalities)
    except InputError as error:
        raise InputError(f"compare.subsets: {error}") from error
    for subset in wanted:
        if subset not in evaluated:
            raise InputError(f"compare.subsets: {subset} is not among evaluation.subsets {', '.join(evaluated)}")
    known = sweep.evaluation.metrics
    for metric in sweep.compare.metrics:
        if metric.partition("@")[0].removesuffix(POSTPROCESSED) not in known and "@" not in metric:
            raise InputError(f"compare.metrics: {metric!r} is not among evaluation.metrics {', '.join(known)}")
    if sweep.compare.patients is not None:
        read_columns(sweep.compare.patients, ("case", "patient"), "patients")
