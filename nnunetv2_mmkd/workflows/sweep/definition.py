"""The file of a sweep: a small YAML table (nnU-Net's own dependencies bring PyYAML; Python 3.10 has no TOML reader)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from nnunetv2_mmkd.errors import InputError

COMPLETE = "complete"
"""Entry of ``missing_rates`` for training cases as they are."""

PREFIX = "nnUNetTrainer"

KEYS = (
    "dataset",
    "configuration",
    "plans",
    "device",
    "trainers",
    "folds",
    "seeds",
    "length",
    "missing_rates",
    "evaluation",
    "compare",
    "slurm",
)
"""Keys of the file."""


@dataclass(frozen=True)
class Rates:
    """A missing-rate table.

    Attributes:
        tag: of the table and of the trainers' names.
        rates: modality -> rate; None: the table is there already.
        seed: of the draw.
    """

    tag: str
    rates: Mapping[str, float] | None = None
    seed: int = 0


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


@dataclass(frozen=True)
class CompareOptions:
    """What is compared at the end.

    Attributes:
        pairs: of methods; differences are first - second.
        metrics: empty: those of the evaluation.
        regions: empty: all.
        subsets: as for the evaluation; empty: all (a specialist is compared on its own).
        patients: CSV with the columns case and patient.
        confidence, resamples: of the intervals.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    metrics: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()
    patients: Path | None = None
    confidence: float = 0.95
    resamples: int = 10_000


@dataclass(frozen=True)
class Sweep:
    """What a sweep's file says.

    Attributes:
        file: where it was read, for messages.
        dataset: name or number.
        configuration, plans, device: as for ``mmkd train``.
        methods: names of trainers without ``nnUNetTrainer``; an ending such as ``_13epochs`` stands for a length of
            their own.
        folds: numbers.
        seeds: of the endings ``_seed<N>``; None: not seeded.
        epochs, iterations: training length; None: the trainer's own.
        missing_rates: None: training cases as they are.
        evaluation, compare: what is done with the models.
        slurm: parameters of submitit.
    """

    file: Path
    dataset: str
    configuration: str
    methods: tuple[str, ...]
    plans: str = "nnUNetPlans"
    device: str = "cuda"
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    seeds: tuple[int | None, ...] = (None,)
    epochs: int | None = None
    iterations: int | None = None
    missing_rates: tuple[Rates | None, ...] = (None,)
    evaluation: EvaluationOptions = EvaluationOptions()
    compare: CompareOptions = CompareOptions()
    slurm: Mapping[str, Any] = field(default_factory=dict)


def read_sweep(file: Path) -> Sweep:
    """Read a sweep's file.

    Raises:
        InputError: it cannot be read, is no YAML, has a key twice or an unknown one, lacks one, or holds a value of the
            wrong kind or twice; the message names file and key.
    """
    table = _Table(file, "", _load(file), KEYS)
    length = table.table("length", ("epochs", "iterations"))
    return Sweep(
        file=file,
        dataset=str(table.scalar("dataset", (int, str), _NOTHING)),
        configuration=table.scalar("configuration", (str,), _NOTHING),
        methods=tuple(method_name(name) for name in table.distinct("trainers", (str,), _NOTHING, method_name)),
        plans=table.scalar("plans", (str,), "nnUNetPlans"),
        device=table.choice("device", ("cuda", "cpu", "mps"), "cuda"),
        folds=table.distinct("folds", (int,), (0, 1, 2, 3, 4), least=0),
        seeds=table.distinct("seeds", (int,), (None,), least=0, most=999_999_999),
        epochs=length.scalar("epochs", (int,), None, least=1),
        iterations=length.scalar("iterations", (int,), None, least=1),
        missing_rates=_rates(table),
        evaluation=_evaluation(table),
        compare=_compare(table, file),
        slurm=dict(table.table("slurm", None).content),
    )


def method_name(trainer: str) -> str:
    """A trainer's name without ``nnUNetTrainer``: what stands in tables."""
    return trainer.removeprefix(PREFIX)


def _rates(table: _Table) -> tuple[Rates | None, ...]:
    entries = table.sequence("missing_rates", (str, dict), (COMPLETE,))
    found: list[Rates | None] = []
    for number, entry in enumerate(entries):
        where = f"missing_rates[{number}]"
        if isinstance(entry, str):
            if entry != COMPLETE:
                table.refuse(where, f"is {entry!r}: expected {COMPLETE!r}, or {{tag: ..., rates: ..., seed: ...}}")
            found.append(None)
            continue
        each = _Table(table.file, where, entry, ("tag", "rates", "seed"))
        tag = each.scalar("tag", (str,), _NOTHING)
        if not re.fullmatch(r"[a-z][a-z0-9]*", tag) or re.fullmatch(r"seed\d+", tag):
            each.refuse("tag", f"is {tag!r}: lower-case letters and digits, a letter first, not seed<digits>")
        rates = each.content.get("rates")
        if rates is not None and (not isinstance(rates, dict) or not rates):
            each.refuse("rates", "is no table: expected {t1: 0.2, t1ce: 0.4}")
        for name, rate in (rates or {}).items():
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
                each.refuse(f"rates.{name}", f"is {rate!r}: expected a number from 0 to 1")
        named = None if rates is None else {str(name): float(rate) for name, rate in rates.items()}
        found.append(Rates(tag, named, each.scalar("seed", (int,), 0, least=0)))
    tags = [COMPLETE if each is None else each.tag for each in found]
    for tag in tags:
        if tags.count(tag) > 1:
            table.refuse("missing_rates", f"has {tag} twice")
    return tuple(found)


def _evaluation(table: _Table) -> EvaluationOptions:
    default = EvaluationOptions()
    each = table.table("evaluation", tuple(EvaluationOptions.__dataclass_fields__))
    return EvaluationOptions(
        metrics=each.distinct("metrics", (str,), default.metrics),
        subsets=each.distinct("subsets", (str,), default.subsets),
        empty=each.scalar("empty", (str,), default.empty),
        tolerance=float(each.scalar("tolerance", (int, float), default.tolerance, least=0)),
        lesions=each.scalar("lesions", (str,), None),
        et_threshold=each.scalar("et_threshold", (int,), 0, least=0),
        step_size=float(each.scalar("step_size", (int, float), default.step_size)),
        disable_tta=each.scalar("disable_tta", (bool,), False),
        test=each.scalar("test", (bool,), False),
        processes=each.scalar("processes", (int,), default.processes, least=0),
    )


def _compare(table: _Table, file: Path) -> CompareOptions:
    default = CompareOptions()
    each = table.table("compare", tuple(CompareOptions.__dataclass_fields__))
    pairs = []
    for number, pair in enumerate(each.sequence("pairs", (list,), ())):
        if len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            each.refuse(f"pairs[{number}]", f"is {pair}: expected two methods, [MetaKD, ModalityDropout]")
        first, second = map(method_name, pair)
        if first == second:
            each.refuse(f"pairs[{number}]", f"has {first} twice: give two methods")
        if (first, second) in pairs:
            each.refuse("pairs", f"has [{first}, {second}] twice")
        pairs.append((first, second))
    patients = each.scalar("patients", (str,), None)
    confidence = each.scalar("confidence", (float,), default.confidence)
    if not 0 < confidence < 1:
        each.refuse("confidence", f"is {confidence}: expected a level between 0 and 1, e.g. 0.95")
    return CompareOptions(
        pairs=tuple(pairs),
        metrics=each.distinct("metrics", (str,), ()),
        regions=each.distinct("regions", (str,), ()),
        subsets=each.distinct("subsets", (str,), ()),
        patients=None if patients is None else file.parent / patients,
        confidence=confidence,
        resamples=each.scalar("resamples", (int,), default.resamples, least=1),
    )


_NOTHING: Any = object()
"""Default of what must be there."""

_KINDS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


class _Table:
    """A table of the file, whose values are taken out one by one; refusals name file and key."""

    def __init__(self, file: Path, where: str, content: Any, keys: Sequence[str] | None) -> None:
        self.file, self.where = file, where
        if not isinstance(content, dict):
            raise InputError(f"{file}: {where or 'the file'} is no table of keys and values")
        self.content: dict[str, Any] = content
        for key in content:
            if keys is not None and key not in keys:
                near = difflib.get_close_matches(str(key), keys, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(keys)}"
                self.refuse(str(key), f"is no key of a sweep: {hint}")

    def refuse(self, key: str, what: str) -> None:
        """Say what is wrong with a key."""
        raise InputError(f"{self.file}: {self._name(key)} {what}")

    def _name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def scalar(self, key: str, kinds: tuple[type, ...], default: Any, least: float | None = None) -> Any:
        """A single value."""
        if self.content.get(key) is None:
            if default is _NOTHING:
                self.refuse(key, "is missing")
            return default
        self._check(key, self.content[key], kinds, least)
        return self.content[key]

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of some words."""
        value = str(self.scalar(key, (str,), default))
        if value not in choices:
            self.refuse(key, f"is {value!r}: choose from {', '.join(choices)}")
        return value

    def sequence(
        self, key: str, kinds: tuple[type, ...], default: Any, least: float | None = None, most: float | None = None
    ) -> list[Any]:
        """A list with something in it."""
        values = self.scalar(key, (list,), default)
        if values is default:
            return list(default)
        if not values:
            self.refuse(key, "is empty: leave it out, or give something")
        for number, value in enumerate(values):
            self._check(f"{key}[{number}]", value, kinds, least, most)
        return list(values)

    def distinct(
        self,
        key: str,
        kinds: tuple[type, ...],
        default: Any,
        name: Any = None,
        least: float | None = None,
        most: float | None = None,
    ) -> tuple[Any, ...]:
        """A list without repetition."""
        values = self.sequence(key, kinds, default, least, most)
        names = [name(value) if name else value for value in values]
        for value in names:
            if names.count(value) > 1:
                self.refuse(key, f"has {value} twice")
        return tuple(values)

    def table(self, key: str, keys: Sequence[str] | None) -> _Table:
        """A table within; empty if it is not there."""
        content = self.content.get(key)
        return _Table(self.file, self._name(key), {} if content is None else content, keys)

    def _check(
        self, key: str, value: Any, kinds: tuple[type, ...], least: float | None, most: float | None = None
    ) -> None:
        allowed = (*kinds, int) if float in kinds else kinds
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in kinds):
            self.refuse(key, f"is {value!r}: expected {' or '.join(_KINDS[kind] for kind in kinds)}")
        if (least is not None and value < least) or (most is not None and value > most):
            limits = f"at least {least}" if most is None else f"{least} to {most}"
            self.refuse(key, f"is {value}: expected {limits}")


class _Loader(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys without a word; this one refuses."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
            seen.add(key)
        return cast("dict[Hashable, Any]", super().construct_mapping(node, deep))


def _load(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{file}{line}: {problem or error}") from error
