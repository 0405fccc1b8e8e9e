"""Endings of trainer names, resolved in training and prediction alike.

``nnUNetTrainerMetaKD_mr2468_300epochs_50iters_seed3`` is ``nnUNetTrainerMetaKD`` under the table ``mr2468``, for 300
epochs of 50 iterations, seeded with 3 (:mod:`~nnunetv2_mmkd.training.seeding`); ``nnUNetTrainerMetaKD_alpha05_p2`` has
two of the endings that its class lists (:class:`Ending`). The order does not matter. One line gives a user's own
trainer file the same::

    __getattr__ = suffix_resolver(globals())
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.protocols.missing_table import table_path
from nnunetv2_mmkd.trainer_catalogue import known_endings

SUFFIX = re.compile(
    r"_(?:(?P<epochs>[1-9]\d{0,5})epochs|(?P<iterations>[1-9]\d{0,5})iters|seed(?P<seed>0|[1-9]\d{0,8})(?![a-z0-9])"
    r"|(?!seed\d+(?:_|$))(?P<table>[a-z][a-z0-9]*))"
)
"""One suffix. The tag of a table is lower case, so that it cannot be taken for part of another trainer's name, and not
``seed`` and digits. A seed has at most nine digits, a length at most six; none has a zero in front."""

SUFFIXES: Mapping[str, str] = {
    "_<N>epochs": "N epochs instead of nnU-Net's 1000, e.g. _300epochs",
    "_<K>iters": "K iterations per epoch instead of 250, e.g. _50iters",
    "_seed<N>": "seeds weights and subsets; augmentation, too, with nnUNet_n_proc_DA=0",
    "_<tag>": "the missing-rate table that `mmkd rates --tag <tag>` wrote masks the training cases, e.g. _mr2468",
}
"""What a user can add to any trainer's name, and what it does."""


@dataclass(frozen=True)
class Ending:
    """An ending that a trainer's name can have: an ablation, a preset or a recipe.

    A trainer lists its own, and inherits those of its bases; None takes an inherited one away::

        endings: ClassVar[Endings] = {"_p2": Ending("mean squared error (Fig. 3)", {"p": 2}), "_relu": None}

    Names are small letters and digits. ``mmkd info`` reads the table as text, so keys and first arguments are literals.

    Attributes:
        text: what it does, in a line.
        config: fields of the trainer's configuration and their values; or the name of a preset, a classmethod of the
            configuration: the fields in which that differs from the defaults.
        trainer: attributes of the trainer and their values.
    """

    text: str
    config: Mapping[str, Any] | str = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)


Endings = Mapping[str, "Ending | None"]
"""``"_name" -> what it is``."""


def endings_of(trainer: type) -> dict[str, Ending]:
    """All endings that a trainer's name can have, those of its bases first."""
    merged: dict[str, Ending | None] = {}
    for base in reversed(trainer.__mro__):
        merged |= vars(base).get("endings", {})
    return {name: ending for name, ending in merged.items() if ending is not None}


def attributes_of(trainer: type[Any], names: Sequence[str]) -> dict[str, Any]:
    """Class attributes that endings of a trainer stand for.

    Args:
        trainer: the class.
        names: some of its :func:`endings_of`.

    Raises:
        InputError: two of them set the same.
    """
    table = endings_of(trainer)
    config: dict[str, Any] = {}
    found: dict[str, Any] = {}
    set_by: dict[str, str] = {}
    for name in names:
        ending = table[name]
        own = _preset(trainer.config, ending.config) if isinstance(ending.config, str) else ending.config
        for key in (*own, *ending.trainer):
            if key in set_by:
                raise InputError(
                    f"{trainer.__name__}{''.join(names)}: the endings {set_by[key]} and {name} contradict each other, "
                    f"both set {key}: keep one of them"
                )
            set_by[key] = name
        config |= own
        found |= ending.trainer
    if config:
        found["config"] = replace(trainer.config, **config)
    return {**found, "suffix_endings": tuple(names)}


def _preset(config: Any, name: str) -> dict[str, Any]:
    """The fields in which a preset of a configuration differs from the defaults."""
    preset = getattr(type(config), name)()
    return {
        each.name: getattr(preset, each.name) for each in fields(config) if getattr(preset, each.name) != _default(each)
    }


def _default(each: Any) -> Any:
    return each.default_factory() if each.default_factory is not MISSING else each.default


def suffix_resolver(
    namespace: Mapping[str, Any],
    parse: Callable[[str, Mapping[str, Any]], dict[str, Any] | None] | None = None,
) -> Callable[[str], type]:
    """A module ``__getattr__`` that makes classes for names with suffixes.

    Args:
        namespace: the module's ``globals()``. Only trainers defined there are extended, not imported ones.
        parse: what follows a class's name, from the underscore on, and the endings of the class -> attributes, or
            None if that is no ending; :func:`parse_suffixes` if it is not given.

    Returns:
        a function that maps an attribute name to a class, or raises AttributeError; InputError where the name is one of
        the module's trainers with an ending that it has not, or with endings that contradict each other.
    """

    def resolve(name: str) -> type:
        own = [
            key
            for key, value in namespace.items()
            if isinstance(value, type) and value.__module__ == namespace["__name__"] and name.startswith(f"{key}_")
        ]
        for base in sorted(own, key=len, reverse=True):
            trainer = namespace[base]
            if not hasattr(trainer, "apply_suffixes"):
                continue
            attributes = (parse or parse_suffixes)(name[len(base) :], endings_of(trainer))
            if attributes is None:
                continue
            _refuse_ending_of_others(trainer, attributes)
            attributes |= attributes_of(trainer, attributes.pop("suffix_endings", ()))
            return type(name, (trainer,), {"__module__": namespace["__name__"], **attributes})
        raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")

    return resolve


def _refuse_ending_of_others(trainer: type, attributes: Mapping[str, Any]) -> None:
    """Refuse what would be the tag of a table, and is an ending that other trainers have."""
    ending = f"_{attributes.get('suffix_table')}"
    owners = known_endings().get(ending)
    if owners:
        raise InputError(
            f"{trainer.__name__} has no ending {ending}, which is one of {', '.join(owners)}; "
            f"it has {choices(ending, endings_of(trainer)) or 'none of its own'}"
        )


def refuse_ambiguous(trainer: type[Any], folder: str | Path) -> None:
    """Refuse a trainer whose ending a missing-rate table of the data set has for its tag.

    Args:
        trainer: the class.
        folder: of the data set in ``nnUNet_preprocessed``; empty: none.

    Raises:
        InputError: there is such a table.
    """
    for ending in getattr(trainer, "suffix_endings", ()) if folder else ():
        table = table_path(folder, ending[1:])
        if table.is_file():
            raise InputError(
                f"{trainer.__name__}: {ending} is an ending of this trainer ({endings_of(trainer)[ending].text}), and "
                f"{table} a missing-rate table of the same tag: rename the file, and the trainers that shall use it"
            )


def refuse_unknown(trainer: type[Any], folder: str | Path) -> None:
    """Refuse a trainer whose name ends in what is neither one of its endings nor the tag of a missing-rate table.

    Args:
        trainer: the class.
        folder: of the data set in ``nnUNet_preprocessed``.

    Raises:
        InputError: there is no such table; the message names the endings.
    """
    tag = getattr(trainer, "suffix_table", None)
    if tag is not None and not table_path(folder, tag).is_file():
        endings = choices(f"_{tag}", endings_of(trainer)) or "none of its own"
        raise InputError(
            f"{trainer.__name__}: _{tag} is neither an ending of this trainer ({endings}) nor a missing-rate table: "
            f"there is no {table_path(folder, tag)}. Correct the name, or write the table with `mmkd rates`"
        )


def parse_suffixes(text: str, endings: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Class attributes that suffixes stand for, or None if the text is not made of suffixes, each kind once.

    Args:
        text: suffixes in any order, an underscore before each.
        endings: names that are no tags of tables; those that occur come as ``suffix_endings``, in order.
    """
    found: dict[str, Any] = {}
    if not text or not re.fullmatch(f"(?:{_anonymous(SUFFIX.pattern)})+", text):
        return None
    for match in SUFFIX.finditer(text):
        if endings and match[0] in endings:
            found["suffix_endings"] = (*found.get("suffix_endings", ()), match[0])
            continue
        kind = str(match.lastgroup)
        attribute = f"suffix_{kind}"
        if attribute in found:
            return None
        found[attribute] = match[kind] if kind == "table" else int(match[kind])
    return found


def _anonymous(pattern: str) -> str:
    return re.sub(r"\(\?P<\w+>", "(?:", pattern)
