"""The file of a sweep: a small YAML table, read by dacite into frozen dataclasses.

PyYAML comes with nnU-Net; Python 3.10 has no TOML reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import dacite

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.protocols.missing_table import check_tag
from nnunetv2_mmkd.yaml_file import read_yaml

COMPLETE = "complete"
"""Entry of ``missing_rates`` for training cases as they are."""

PREFIX = "nnUNetTrainer"

T = TypeVar("T")


class _BadValue(dacite.exceptions.DaciteFieldError):
    """A value that cannot be used; dacite completes the path of the field on the way up."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


def _check_distinct(key: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise _BadValue(key, f"has {name} twice")


def _check_least(least: int, **values: float | None) -> None:
    for key, value in values.items():
        if value is not None and not value >= least:
            raise _BadValue(key, f"is {value:g}: expected at least {least}")


@dataclass(frozen=True)
class Rates:
    """A missing-rate table.

    Attributes:
        tag: of the table and of the trainers' names.
        rates: modality -> rate; None: the table exists already.
        seed: of the draw.
    """

    tag: str
    rates: Mapping[str, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            check_tag(self.tag)
        except InputError as error:
            raise _BadValue("tag", f"is {error}") from error
        for name, rate in (self.rates or {}).items():
            if not 0 <= rate < 1:
                raise _BadValue(f"rates.{name}", f"is {rate:g}: expected at least 0 and less than 1")
        _check_least(0, seed=self.seed)

    def words(self) -> list[str]:
        """The rates as ``mmkd rates --rates`` takes them."""
        return [f"{name}={rate}" for name, rate in (self.rates or {}).items()]


@dataclass(frozen=True)
class Length:
    """Training length; None: the trainer's own.

    Attributes:
        epochs: per training.
        iterations: per epoch.
    """

    epochs: int | None = None
    iterations: int | None = None

    def __post_init__(self) -> None:
        _check_least(1, epochs=self.epochs, iterations=self.iterations)


@dataclass(frozen=True)
class EvaluationOptions:
    """The options of ``mmkd evaluate`` that a sweep may set, with its defaults."""

    metrics: tuple[str, ...] = ("dice", "hd95")
    subsets: tuple[str, ...] = ("all",)
    empty: str = "legacy"
    tolerance: float = 1.0
    lesions: str | None = None
    et_threshold: int = 0
    step_size: float = 0.5
    disable_tta: bool = False
    test: bool = False
    processes: int = 3
    template: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_least(0, tolerance=self.tolerance, et_threshold=self.et_threshold, processes=self.processes)


@dataclass(frozen=True)
class CompareOptions:
    """What is compared at the end.

    Attributes:
        pairs: of methods; differences are first - second.
        metrics: empty: those of the evaluation.
        regions: empty: all.
        subsets: as for the evaluation; empty: all (a specialist is compared on its own).
        patients: CSV with the columns case and patient; in the file, relative to its folder.
        confidence, resamples: of the intervals.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    metrics: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()
    patients: Path | None = None
    confidence: float = 0.95
    resamples: int = 10_000

    def __post_init__(self) -> None:
        for number, (first, second) in enumerate(self.pairs):
            if first == second:
                raise _BadValue(f"pairs[{number}]", f"has {first} twice: give two methods")
        if not 0 < self.confidence < 1:
            raise _BadValue("confidence", f"is {self.confidence:g}: expected a level between 0 and 1, e.g. 0.95")
        _check_least(1, resamples=self.resamples)


@dataclass(frozen=True)
class Sweep:
    """What a sweep's file says; the fields are its keys.

    Attributes:
        dataset: name or number.
        configuration, plans, device: as for ``mmkd train``.
        trainers: names, with or without ``nnUNetTrainer``; an ending such as ``_13epochs`` is a length of their own.
        folds: numbers.
        seeds: of the endings ``_seed<N>``; empty: one training of each, not seeded.
        length: of all trainings.
        missing_rates: None (in the file ``complete``): training cases as they are.
        evaluation, compare: what is done with the models.
        slurm: parameters of submitit.
    """

    dataset: str
    configuration: str
    trainers: tuple[str, ...]
    plans: str = "nnUNetPlans"
    device: Literal["cuda", "cpu", "mps"] = "cuda"
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    seeds: tuple[int, ...] = ()
    length: Length = Length()
    missing_rates: tuple[Rates | None, ...] = (None,)
    evaluation: EvaluationOptions = EvaluationOptions()
    compare: CompareOptions = CompareOptions()
    slurm: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_distinct("trainers", self.methods)
        _check_least(0, **{f"folds[{number}]": fold for number, fold in enumerate(self.folds)})
        for number, seed in enumerate(self.seeds):
            if not 0 <= seed <= 999_999_999:
                raise _BadValue(f"seeds[{number}]", f"is {seed}: expected 0 to 999999999")

    @property
    def methods(self) -> tuple[str, ...]:
        """Trainers without ``nnUNetTrainer``, as in tables."""
        return tuple(map(method_name, self.trainers))


def method_name(trainer: str) -> str:
    """A trainer's name without ``nnUNetTrainer``."""
    return trainer.removeprefix(PREFIX)


def read_sweep(file: Path) -> Sweep:
    """Read a sweep's file.

    Raises:
        InputError: it cannot be read, is no YAML, has a key twice or an unknown one, lacks one, or holds a value of the
            wrong kind or twice; the message names file and key.
    """
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: the file is no table of keys and values")
    if type(content.get("dataset")) is int:
        content["dataset"] = str(content["dataset"])
    try:
        sweep = _section(Sweep, content)
    except dacite.exceptions.DaciteFieldError as error:
        key = (error.field_path or "").replace(".[", "[")
        raise InputError(f"{file}: {key} {_problem(error)}") from error
    if sweep.compare.patients is None:
        return sweep
    return replace(sweep, compare=replace(sweep.compare, patients=file.parent / sweep.compare.patients))


def _problem(error: dacite.exceptions.DaciteFieldError) -> str:
    if isinstance(error, dacite.exceptions.MissingValueError):
        return "is missing"
    if isinstance(error, dacite.exceptions.WrongTypeError):  # a Literal; the hooks say the others
        return f"is {error.value!r}: choose from {', '.join(map(str, get_args(error.field_type)))}"
    return str(error)


def _table(content: Any) -> dict[Any, Any]:
    if not isinstance(content, dict):
        raise _BadValue("", f"is no table of keys and values, but {content!r}")
    return content


def _section(kind: type[T], content: Any) -> T:
    """A table of the file as a dataclass; a key without a value counts as left out."""
    keys = [each.name for each in fields(cast(Any, kind))]
    for key in _table(content):
        if key not in keys:  # not left to dacite's ``strict``, which does not say where
            raise _BadValue(str(key), f"is no key of a sweep: the keys are {choices(str(key), keys)}")
    given = {key: value for key, value in content.items() if value is not None}
    return dacite.from_dict(kind, given, dacite.Config(type_hooks=_HOOKS))


def _scalar(kinds: tuple[type, ...], expected: str, value: Any) -> Any:
    """A value of exactly one of some types (``True`` is no number), as the first of them."""
    if type(value) not in kinds:
        raise _BadValue("", f"is {value!r}: expected {expected}")
    return kinds[0](value)


_word = partial(_scalar, (str,), "a word")
_whole_number = partial(_scalar, (int,), "a whole number")
_number = partial(_scalar, (float, int), "a number")


def _entries(read: Callable[[Any], Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Read values one by one; an error names the entry."""
    found = {}
    for key, value in content.items():
        try:
            found[key] = read(value)
        except dacite.exceptions.DaciteFieldError as error:
            error.update_path(key)
            raise
    return found


def _list(read: Callable[[Any], Any], content: Any) -> tuple[Any, ...]:
    """A list with something in it and nothing twice."""
    if not isinstance(content, list):
        raise _BadValue("", f"is {content!r}: expected a list")
    if not content:
        raise _BadValue("", "is empty: leave it out, or give something")
    found = tuple(_entries(read, {f"[{number}]": value for number, value in enumerate(content)}).values())
    _check_distinct("", list(map(_shown, found)))
    return found


def _shown(entry: Any) -> str:
    """What an entry of a list is called."""
    if isinstance(entry, tuple):
        return f"[{', '.join(entry)}]"
    return COMPLETE if entry is None else entry.tag if isinstance(entry, Rates) else str(entry)


def _rates(content: Any) -> dict[str, float]:
    if not _table(content):
        raise _BadValue("", "is an empty table: expected {t1: 0.2, t1ce: 0.4}")
    return _entries(_number, {str(name): rate for name, rate in content.items()})


def _missing_rates(entry: Any) -> Rates | None:
    if isinstance(entry, dict):
        return _section(Rates, entry)
    if entry != COMPLETE:
        raise _BadValue("", f"is {entry!r}: expected {COMPLETE!r}, or {{tag: ..., rates: ..., seed: ...}}")
    return None


def _pair(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise _BadValue("", f"is {names!r}: expected two methods, [MetaKD, ModalityDropout]")
    return tuple(map(method_name, names))


_HOOKS: dict[Any, Callable[[Any], Any]] = {
    str: _word,
    int: _whole_number,
    float: _number,
    bool: partial(_scalar, (bool,), "true or false"),
    Path: lambda name: Path(_word(name)),
    Length: partial(_section, Length),
    EvaluationOptions: partial(_section, EvaluationOptions),
    CompareOptions: partial(_section, CompareOptions),
    tuple[str, ...]: partial(_list, _word),
    tuple[int, ...]: partial(_list, _whole_number),
    tuple[tuple[str, str], ...]: partial(_list, _pair),
    tuple[Rates | None, ...]: partial(_list, _missing_rates),
    Mapping[str, float]: _rates,
    Mapping[str, Any]: _table,
}
"""How dacite reads a value of each type: strictly, and with the number of a list's entry in the error."""
