"""Which modalities each case has, by ``dataset.json``, by a missing-rate table and by its preprocessed images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError, one_line
from nnunetv2_mmkd.protocols.missing_table import missing_channels


def present_masks(
    cases: Iterable[str], modalities: Sequence[str], *missing: Mapping[str, Sequence[str]]
) -> dict[str, NDArray[np.bool_]]:
    """What each case has: a mask ``[M]`` per case, after all the given maps of missing modalities.

    Raises:
        InputError: an unknown modality, or a case left with nothing.
    """
    masks = {}
    for case in cases:
        mask = np.ones(len(modalities), dtype=bool)
        for each in missing:
            mask[missing_channels(case, each, modalities)] = False
        if not mask.any():
            raise InputError(f"case {case} has no modality at all: remove it from the training cases")
        masks[case] = mask
    return masks


def realised_rates(masks: Mapping[str, NDArray[np.bool_]], modalities: Sequence[str]) -> dict[str, float]:
    """Share of the cases that miss each modality."""
    table = np.stack(list(masks.values()))
    return {name: float(rate) for name, rate in zip(modalities, 1 - table.mean(0), strict=True)}


def undeclared_missing(
    dataset: Any, cases: Iterable[str], modalities: Sequence[str], declared: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Look into preprocessed cases for channels that are all zero and not declared missing.

    The middle slice decides first, so that a present channel costs one slice; only where that is blank is the whole
    channel read.

    Args:
        dataset: nnU-Net's data set of preprocessed cases (``load_case``).
        cases: case identifiers.
        modalities: names of the channels.
        declared: what ``dataset.json`` declares.

    Returns:
        case -> names, only cases with a finding.

    Raises:
        InputError: a case cannot be read.
    """
    found: dict[str, list[str]] = {}
    for case in cases:
        try:
            data = dataset.load_case(case)[0]
        except Exception as error:  # whatever its readers say of a damaged file
            raise InputError(
                f"the preprocessed case {case} cannot be read ({one_line(error, 200)}): preprocess the data set again"
            ) from error
        known = set(missing_channels(case, declared, modalities))
        blank = [
            name
            for channel, name in enumerate(modalities)
            if channel not in known and not np.any(data[channel, data.shape[1] // 2]) and not np.any(data[channel])
        ]
        if blank:
            found[case] = blank
    return found


def blanking(dataset_class: type, missing: Mapping[str, Sequence[int]]) -> type:
    """A data set class whose cases come with their missing channels all zero.

    Normalisations that shift (CT) leave a missing channel at some other value, where it could not be detected.

    Args:
        dataset_class: nnU-Net's.
        missing: case -> positions of the channels that it lacks.
    """

    class Blanked(dataset_class):
        def load_case(self, identifier: str) -> tuple[Any, ...]:
            data, *rest = super().load_case(identifier)
            if missing.get(identifier):
                data = np.array(data[:])
                data[list(missing[identifier])] = 0
            return data, *rest

    return Blanked
