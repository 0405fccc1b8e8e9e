"""Specialists: the planned network trained for exactly one subset of the modalities, which the trainer's name says.

``nnUNetTrainerSpecialist_t1_t2_300epochs_50iters`` takes T1 and T2 of whatever the data set has. A class knows only its
name; which parts of it are modalities shows when it meets a data set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from torch import nn

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.names import canonical, modality_names
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.networks.specialist import specialist
from nnunetv2_mmkd.nnunet_json import missing_modalities
from nnunetv2_mmkd.protocols.missing_table import missing_channels, read_missing_table, table_path
from nnunetv2_mmkd.training.present_modalities import undeclared_missing
from nnunetv2_mmkd.training.suffixes import Endings, parse_suffixes
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

NAMED = 5
"""So many cases are named in a line."""


def parse_name(text: str, endings: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Class attributes that the ending of a specialist's name stands for; None if it is none.

    A part that has the form of a length or a seed (``300epochs``, ``50iters``, ``seed1``) is one, and so is an ending
    of the trainer. All others, small letters and digits, are names: of modalities, and at most one of a missing-rate
    table (:func:`split_names`).

    Args:
        text: parts in any order, an underscore before each: ``_t1_t2_300epochs``.
        endings: of the trainer; those that occur come as ``suffix_endings``, in order.
    """
    names: list[str] = []
    own: list[str] = []
    found: dict[str, Any] = {}
    for part in text.removeprefix("_").split("_"):
        attributes = parse_suffixes(f"_{part}")
        if attributes is None or attributes.keys() & found.keys():
            return None
        if endings and f"_{part}" in endings:
            own.append(f"_{part}")
        elif "suffix_table" in attributes:
            names.append(attributes["suffix_table"])
        else:
            found |= attributes
    if own:
        found["suffix_endings"] = tuple(own)
    return {"suffix_names": tuple(names), **found} if names else None


def split_names(
    names: Sequence[str], modalities: Sequence[str], trainer: str = "nnUNetTrainerSpecialist"
) -> tuple[tuple[str, ...], str | None]:
    """Which names are modalities, and which is the tag of a missing-rate table.

    A name that can be a modality of the data set is one, wherever it stands; so the tag of a table must be the name of
    none. Aliases are accepted (``t1c`` for ``t1ce``). Where a channel's name has other characters than letters and
    digits, they are left out (``dwi_b1000`` is ``dwib1000``).

    Args:
        names: from the class's name.
        modalities: of the data set, in channel order.
        trainer: the name before them, for messages.

    Returns:
        The modalities in channel order, and the tag or None.

    Raises:
        InputError: a modality twice, none at all, or more than one name that is no modality.
    """
    spelled = {_spelled(modality): modality for modality in modalities}
    has = f"this data set has {', '.join(modalities)}"
    found = [spelled[canonical(name)] for name in names if canonical(name) in spelled]
    doubled = next((name for name in found if found.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"the trainer's name has the modality {doubled} twice ({', '.join(names)}): name it once")
    others = [name for name in names if canonical(name) not in spelled]
    if len(others) > 1:
        near = choices(others[0], modalities)
        raise InputError(f"unknown modality {others[0]!r} in the trainer's name: this data set has {near}")
    if not found:
        raise InputError(
            f"a specialist's name says its modalities, as {trainer}_{'_'.join(list(spelled)[:2])}, and "
            f"not {' '.join(names) or 'nothing'}: {has}"
        )
    return tuple(name for name in modalities if name in found), others[0] if others else None


def _spelled(modality: str) -> str:
    return re.sub("[^a-z0-9]", "", modality)


class nnUNetTrainerSubset(nnUNetTrainerMMKD):
    """The planned network on one subset of the modalities; compute, state-dict keys and training are nnU-Net's.

    Nothing is dropped. Cases that lack a modality of the subset (by ``missing_modalities``, by an all-zero image, in
    training also by a missing-rate table) are neither trained on nor validated with. ``plans["mmkd"]["subset"]``
    records the subset for prediction.

    Attributes:
        suffix_names: set by the class's name: modalities, and at most one tag of a missing-rate table.
        subset: the modalities, canonical, in channel order.
    """

    modality_dropout = ModalityDropoutConfig("full")
    suffix_names: tuple[str, ...] = ()
    endings: ClassVar[Endings] = {"_ranking": None}  # there is one subset

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        modalities = modality_names(dataset_json)
        self.subset, tag = split_names(self.suffix_names, modalities, type(self).__name__.partition("_")[0])
        if tag is not None:
            self.suffix_table = tag
            table = table_path(os.path.join(nnUNet_preprocessed, plans["dataset_name"]), tag)
            if not table.is_file():
                raise InputError(
                    f"{type(self).__name__}: {tag!r} is neither a modality (this data set has {', '.join(modalities)}) "
                    f"nor a missing-rate table: there is no {table}"
                )
        super().__init__(plans, configuration, fold, dataset_json, device)

    @classmethod
    def plans_entry(cls, modalities: Sequence[str], exclusive: bool = True) -> dict[str, Any]:
        """As the base, with the subset."""
        subset, _ = split_names(cls.suffix_names, modalities)
        return {**super().plans_entry(modalities, exclusive), "subset": list(subset)}

    @classmethod
    def build_network(cls, request: NetworkRequest) -> nn.Module:
        """The planned network for the subset, which comes with the plans."""
        return specialist(request)

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split without the cases that lack a modality of the subset.

        Raises:
            InputError: no training case or no validation case is left.
        """
        training, validation = super().do_split()
        table: Mapping[str, Sequence[str]] = {}
        if self.suffix_table is not None:
            cases = self.dataset_class.get_identifiers(self.preprocessed_dataset_folder)
            path = table_path(self.preprocessed_dataset_folder_base, self.suffix_table)
            table = read_missing_table(path, self.modalities, cases)["missing"]
        undeclared = self._undeclared({*training, *validation})
        return (
            self._with_subset(training, "training", undeclared, table),
            self._with_subset(validation, "validation", undeclared),
        )

    def _undeclared(self, cases: Iterable[str]) -> dict[str, list[str]]:
        """Channels of the subset that are all zero though not declared missing; the other channels are not read."""
        names = sorted(cases)
        others = [name for name in self.modalities if name not in self.subset]
        declared = missing_modalities(self.dataset_json, self.modalities)
        known = {case: [*declared.get(case, ()), *others] for case in names}
        if self.dataset_class is None:
            self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        dataset = self.dataset_class(self.preprocessed_dataset_folder, names)
        return undeclared_missing(dataset, names, self.modalities, known)

    def _with_subset(self, cases: Sequence[str], kind: str, *missing: Mapping[str, Sequence[str]]) -> list[str]:
        """The cases that have all of the subset, by ``missing_modalities`` and the given maps."""
        maps = (missing_modalities(self.dataset_json, self.modalities), *missing)
        needed = {self.modalities.index(name) for name in self.subset}
        lacking = [
            case
            for case in cases
            if needed & {gone for each in maps for gone in missing_channels(case, each, self.modalities)}
        ]
        subset = " + ".join(self.subset)
        if cases and len(lacking) == len(cases):
            raise InputError(
                f"no {kind} case of fold {self.fold} has all of {subset}: all {len(cases)} lack one of them. Train "
                "another subset, another fold, or a model for any subset"
            )
        if lacking:
            self.print_to_log_file(
                f"{len(lacking)} of the fold's {len(cases)} {kind} cases lack one of {subset} and are left out: "
                + ", ".join(lacking[:NAMED])
                + ", ..." * (len(lacking) > NAMED)
            )
        return [case for case in cases if case not in set(lacking)]
