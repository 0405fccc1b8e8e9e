"""Channels that are all zero though no modality was declared missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnunetv2_mmkd.training.missing_rates import missing_of


def undeclared_missing(
    dataset: Any, cases: Iterable[str], modalities: Sequence[str], declared: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Look into preprocessed cases for channels that are all zero and not declared missing.

    The middle slice decides first, so that a present channel costs one slice; only where that is blank is the whole
    channel read.

    Args:
        dataset: nnU-Net's data set of preprocessed cases (``load_case``).
        cases: whom to look at.
        modalities: names of the channels.
        declared: what ``dataset.json`` declares.

    Returns:
        case -> names, only cases with a finding.
    """
    found: dict[str, list[str]] = {}
    for case in cases:
        data = dataset.load_case(case)[0]
        known = set(missing_of(case, declared, modalities))
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

    class Blanked(dataset_class):  # type: ignore[misc]
        def load_case(self, identifier: str) -> tuple[Any, ...]:
            data, *rest = super().load_case(identifier)
            if missing.get(identifier):
                data = np.array(data[:])
                data[list(missing[identifier])] = 0
            return data, *rest

    return Blanked
