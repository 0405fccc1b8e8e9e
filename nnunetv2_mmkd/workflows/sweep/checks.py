"""Checks of a sweep before the first process; nothing is written. What preflight, evaluation and the protocols check
themselves is called here, with the key of the sweep's file in front of their message."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_results
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.evaluation.compare_report import read_patients
from nnunetv2_mmkd.evaluation.metrics.postprocessing import POSTPROCESSED
from nnunetv2_mmkd.evaluation.regions import evaluated_regions
from nnunetv2_mmkd.evaluation.score import ScoreSettings, check_scores
from nnunetv2_mmkd.evaluation.subsets import choose_subsets
from nnunetv2_mmkd.evaluation.templates import check_template
from nnunetv2_mmkd.names import canonical
from nnunetv2_mmkd.nnunet_json import read_dataset_json, read_plans
from nnunetv2_mmkd.protocols.data_set import SPLITS, DataSet, read_data_set
from nnunetv2_mmkd.protocols.missing_masks import draw_missing, parse_rates
from nnunetv2_mmkd.protocols.missing_rates import training_cases
from nnunetv2_mmkd.protocols.missing_table import read_missing_table, table_path
from nnunetv2_mmkd.protocols.splits import USUAL_FOLDS
from nnunetv2_mmkd.trainer_lookup import find_trainer
from nnunetv2_mmkd.training.preflight import check_training, find_own_trainer
from nnunetv2_mmkd.workflows.evaluate.subset_cases import test_cases, validation_cases
from nnunetv2_mmkd.workflows.sweep.definition import PREFIX, Rates, Sweep, read_sweep
from nnunetv2_mmkd.workflows.sweep.tasks import SweepModel, models_of


@dataclass(frozen=True)
class CheckedSweep:
    """A sweep that may begin.

    Attributes:
        sweep: what the file says.
        models: all that are to be trained.
        data_set: what they are trained on.
        unwritten: missing-rate tables that must be written first.
        preprocessed_cases: folder of the configuration's preprocessed cases.
    """

    sweep: Sweep
    models: tuple[SweepModel, ...]
    data_set: DataSet
    unwritten: tuple[Rates, ...]
    preprocessed_cases: Path

    @property
    def splits(self) -> Path:
        """nnU-Net's file with the folds, which need not exist yet."""
        return self.data_set.preprocessed / SPLITS


def check_sweep(file: Path, device: str | None = None) -> CheckedSweep:
    """Read a sweep's file and check everything that can be known beforehand.

    Args:
        file: see :func:`~nnunetv2_mmkd.workflows.sweep.definition.read_sweep`.
        device: that this machine must have, where it is not the sweep's (a cluster's nodes have another).

    Raises:
        InputError: the first bad thing, with the file and the key.
    """
    sweep = read_sweep(file)
    with naming(f"{file}: "):
        return _check(sweep, device or sweep.device)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Put something in front of the message of an :class:`InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}{error}") from error


def _check(sweep: Sweep, device: str) -> CheckedSweep:
    check_training(sweep.dataset, sweep.configuration, "0", PREFIX, sweep.plans, device)
    name = str(maybe_convert_to_dataset_name(sweep.dataset))
    data = read_data_set(int(name.removeprefix("Dataset").partition("_")[0]))
    plans = read_plans(data.preprocessed / f"{sweep.plans}.json").content
    cases = data.preprocessed / PlansManager(plans).get_configuration(sweep.configuration).data_identifier
    unwritten = [rates for rates in sweep.missing_rates if rates is not None and _must_be_written(rates, data)]
    models = models_of(sweep, Path(str(nnUNet_results)) / name)
    for method in sweep.methods:
        _check_trainer(method, sweep)
    for model in models:
        with naming(f"trainers: {model.method} takes no endings: "):
            find_trainer(model.trainer)
    dataset_json = read_dataset_json(data.preprocessed / "dataset.json").content
    _check_folds(sweep, data, models)
    _check_evaluation(sweep, dataset_json, data)
    _check_compare(sweep, dataset_json, data)
    return CheckedSweep(sweep, tuple(models), data, tuple(unwritten), cases)


def _check_trainer(method: str, sweep: Sweep) -> None:
    with naming("trainers: "):
        found = find_own_trainer(PREFIX + method)
    for key, value in {"missing_rates": found.suffix_table, "seeds": found.suffix_seed}.items():
        if value is not None:
            raise InputError(f"trainers: {method} names {value!r} itself: leave the ending out and set {key}")
    lengths = {
        "length.epochs": (found.suffix_epochs, sweep.length.epochs),
        "length.iterations": (found.suffix_iterations, sweep.length.iterations),
    }
    for key, (own, common) in lengths.items():
        if own is not None and own == common:
            raise InputError(f"trainers: {method} names {key}, {own}, once more: leave the ending out")


def _must_be_written(rates: Rates, data: DataSet) -> bool:
    """Whether the table must be written; refused where another one of this tag exists, or no case could keep any."""
    path = table_path(data.preprocessed, rates.tag)
    with naming(f"missing_rates, tag {rates.tag}: "):
        given = parse_rates(rates.words(), data.modalities, "rates")
        if not path.is_file():
            if rates.rates is None:
                raise InputError(f"{path} does not exist; give rates, or write it with `mmkd rates`")
            draw_missing(data.cases, data.modalities, given, rates.seed, data.missing)
            return True
        table = read_missing_table(path, data.modalities, data.cases)
        if rates.rates is None:
            return False
        noted = table.get("rates")
        found = {canonical(name): rate for name, rate in noted.items()} if isinstance(noted, dict) else noted
        if found != given or table.get("seed") != rates.seed:
            raise InputError(
                f"{path} exists already with rates {found} and seed {table.get('seed')}, not {given} and "
                f"{rates.seed}; take another tag, or leave rates and seed out to use what it says"
            )
    return False


def _check_folds(sweep: Sweep, data: DataSet, models: list[SweepModel]) -> None:
    """Folds of the splits, or of those that nnU-Net will make; later evaluated as ``mmkd evaluate`` does."""
    count = len(training_cases(data)) or USUAL_FOLDS
    for fold in sweep.folds:
        if fold >= count:
            raise InputError(f"folds: there is no fold {fold}; {data.preprocessed / SPLITS} has 0 to {count - 1}")
    if sweep.evaluation.test:
        with naming("evaluation.test: "):
            for model in models:
                test_cases(str(model.folder), data.name, sweep.folds)
    elif (data.preprocessed / SPLITS).is_file():
        with naming("folds: "):
            for model in models:
                validation_cases(str(model.folder), data.name, sweep.folds)


def _check_evaluation(sweep: Sweep, dataset_json: dict[str, Any], data: DataSet) -> None:
    options = sweep.evaluation
    with naming("evaluation: "):
        parameters = {"tolerance": options.tolerance}
        check_scores(
            ScoreSettings(options.metrics, options.empty, parameters, options.lesions, options.et_threshold),
            dataset_json,
        )
        subsets = choose_subsets(options.subsets, data.modalities)
        for name in options.template:
            check_template(name, data.modalities, list(evaluated_regions(dataset_json)), subsets)
    if not 0 < options.step_size <= 1:
        raise InputError(f"evaluation.step_size is {options.step_size}: expected more than 0, at most 1")


def _check_compare(sweep: Sweep, dataset_json: dict[str, Any], data: DataSet) -> None:
    options, evaluated = sweep.compare, sweep.evaluation
    with naming("compare.subsets: "):
        subsets = choose_subsets(options.subsets, data.modalities)
    _check_among("compare.pairs", [name for pair in options.pairs for name in pair], "trainers", sweep.methods)
    _check_among("compare.regions", options.regions, "regions", evaluated_regions(dataset_json))
    _check_among("compare.subsets", subsets, "evaluation.subsets", choose_subsets(evaluated.subsets, data.modalities))
    for metric in options.metrics:
        if "@" not in metric:
            name = metric.removesuffix(POSTPROCESSED)
            _check_among("compare.metrics", [name], "evaluation.metrics", evaluated.metrics)
    if options.patients is not None:
        read_patients(options.patients)


def _check_among(key: str, names: Iterable[str], what: str, known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{key}: {name!r} is not among the {what} {choices(name, known)}")
