"""Which phantom stands in for an edition's data, and its labels in the edition's values.

The anatomy is the same glioma for every edition of BraTS, with a cavity or cyst where the edition labels one, and the
infarcted heart for MyoPS. What differs is what conversion has to cope with: folders, names of cases and files, label
values, several time points, tables of institutions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.editions.spec import Archive, EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom import brain_tissues, heart_tissues
from nnunetv2_mmkd.phantom.case import PhantomCase, PhantomConfig, labels_on_disk, make_brain_case
from nnunetv2_mmkd.phantom.heart_case import HeartConfig, make_heart_case

Config = PhantomConfig | HeartConfig

SEED_WITHOUT_LABEL = 1
"""Added to the seed for the cases without label."""

INSTITUTIONS = 3
"""Institutions that cases are dealt out to, where an edition has a table of them."""


def archive_of(spec: EditionSpec) -> Archive:
    """What the edition's archives look like.

    Raises:
        InputError: the spec does not say.
    """
    if spec.archive is None:
        raise InputError(f"{spec.title} has no phantom: its spec does not say what its archives look like (archive)")
    return spec.archive


def fitting_config(spec: EditionSpec, config: Config | None = None) -> Config:
    """The settings of the phantom that has the edition's modalities and labels.

    Args:
        spec: the edition.
        config: settings; None: the defaults.

    Raises:
        InputError: no phantom has these modalities and labels, or the settings are another phantom's.
    """
    names, values = {channel.name for channel in spec.channels}, set(spec.label_map.values()) - {0}
    if names <= set(brain_tissues.BRAIN_MODALITIES) and values in ({1, 2, 3}, {1, 2, 3, 4}):
        config = PhantomConfig() if config is None else config
        if isinstance(config, PhantomConfig):
            return replace(config, cavity=config.cavity or 4 in values)
    elif names <= set(heart_tissues.HEART_MODALITIES) and values == set(heart_tissues.HEART_VALUES.values()):
        config = HeartConfig() if config is None else config
        if isinstance(config, HeartConfig):
            return config
    else:
        raise InputError(
            f"no phantom has the modalities {', '.join(sorted(names))} with the labels {sorted(values)} of {spec.title}"
        )
    raise InputError(f"{type(config).__name__} is not for {spec.title}: its phantom is another one")


def make_edition_case(
    spec: EditionSpec, config: Config, index: int, label: bool = True
) -> tuple[PhantomCase, NDArray[np.integer]]:
    """Make one case of an edition.

    Args:
        spec: the edition.
        config: from :func:`fitting_config`.
        index: number of the case, from 0.
        label: a training case; else one of the cases without label, which are others.

    Returns:
        the case, and its labels in the edition's values.
    """
    if not label:
        config = replace(config, seed=config.seed + SEED_WITHOUT_LABEL)
    if isinstance(config, HeartConfig):
        heart = make_heart_case(config, index)
        return heart, labels_on_disk(heart.tissue, heart_tissues.HEART_VALUES, spec)
    brain = make_brain_case(config, index)
    return brain, labels_on_disk(brain.tissue, brain_tissues.BRAIN_VALUES, spec)


def institution(index: int) -> str:
    """The institution of a training case, ``"1"``, ``"2"``, ..."""
    return str(1 + index % INSTITUTIONS)
