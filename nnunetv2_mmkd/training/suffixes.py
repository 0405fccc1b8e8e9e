"""Suffixes of trainer names: training length, seed, missing-rate table, resolved in training and prediction alike.

``nnUNetTrainerMetaKD_mr2468_300epochs_50iters_seed3`` is ``nnUNetTrainerMetaKD`` under the table ``mr2468``, for 300
epochs of 50 iterations, seeded with 3 (:mod:`~nnunetv2_mmkd.training.seeding`). The order does not matter. One line
gives a user's own trainer file the same::

    __getattr__ = suffix_resolver(globals())
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

SUFFIX = re.compile(
    r"_(?:(?P<epochs>[1-9]\d*)epochs|(?P<iterations>[1-9]\d*)iters|seed(?P<seed>0|[1-9]\d{0,8})(?![a-z0-9])"
    r"|(?!seed\d+(?:_|$))(?P<table>[a-z][a-z0-9]*))"
)
"""One suffix. The tag of a table is lower case, so that it cannot be taken for part of another trainer's name, and not
``seed`` and digits. A seed has at most nine digits and no zero in front."""

SUFFIXES: Mapping[str, str] = {
    "_<N>epochs": "N epochs instead of nnU-Net's 1000, e.g. _300epochs",
    "_<K>iters": "K iterations per epoch instead of 250, e.g. _50iters",
    "_seed<N>": "seeds weights and subsets; augmentation, too, with nnUNet_n_proc_DA=0",
    "_<tag>": "the missing-rate table that `mmkd rates --tag <tag>` wrote masks the training cases, e.g. _mr2468",
}
"""What a user can add to a trainer's name, and what it does."""


def suffix_resolver(
    namespace: Mapping[str, Any], parse: Callable[[str], dict[str, Any] | None] | None = None
) -> Callable[[str], type]:
    """A module ``__getattr__`` that makes classes for names with suffixes.

    Args:
        namespace: the module's ``globals()``. Only trainers defined there are extended, not imported ones.
        parse: what follows a class's name, from the underscore on -> attributes, or None if that is no ending;
            :func:`parse_suffixes` if it is not given.

    Returns:
        a function that maps an attribute name to a class, or raises AttributeError.
    """

    def resolve(name: str) -> type:
        own = [
            key
            for key, value in namespace.items()
            if isinstance(value, type) and value.__module__ == namespace["__name__"] and name.startswith(f"{key}_")
        ]
        for base in sorted(own, key=len, reverse=True):
            attributes = (parse or parse_suffixes)(name[len(base) :])
            if attributes is not None and hasattr(namespace[base], "apply_suffixes"):
                return type(name, (namespace[base],), {"__module__": namespace["__name__"], **attributes})
        raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")

    return resolve


def parse_suffixes(text: str) -> dict[str, Any] | None:
    """Class attributes that suffixes stand for, or None if the text is not made of suffixes, each kind once."""
    found: dict[str, Any] = {}
    if not text or not re.fullmatch(f"(?:{_anonymous(SUFFIX.pattern)})+", text):
        return None
    for match in SUFFIX.finditer(text):
        kind = str(match.lastgroup)
        attribute = f"suffix_{kind}"
        if attribute in found:
            return None
        found[attribute] = match[kind] if kind == "table" else int(match[kind])
    return found


def _anonymous(pattern: str) -> str:
    return re.sub(r"\(\?P<\w+>", "(?:", pattern)
