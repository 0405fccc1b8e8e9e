"""The meta split: training cases of a fold that are held out for what a method learns about modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError

MOST_CASES = 5
"""As many as MetaKD's released code holds out."""

LARGEST_SHARE = 0.1
"""At most this share of the fold's training cases (but at least one case)."""


def split_meta(
    cases: Sequence[str], present: Mapping[str, NDArray[np.bool_]], seed: int = 12345
) -> tuple[list[str], list[str]]:
    """Split a fold's training cases into those trained on and the meta split.

    Complete cases are chosen first, then those that miss least; among equals a seeded draw decides.

    Args:
        cases: the fold's training cases.
        present: what each case has, ``[M]``.
        seed: of the draw; 12345 is what nnU-Net splits with.

    Returns:
        training cases, meta cases; disjoint, each sorted.

    Raises:
        InputError: fewer than two cases.
    """
    if len(cases) < 2:
        raise InputError(
            f"this method holds out training cases for its meta-updates, but the fold has only {len(cases)}"
        )
    count = max(1, min(MOST_CASES, int(LARGEST_SHARE * len(cases))))
    order = np.random.RandomState(seed).permutation(sorted(cases))
    ranked = sorted(order, key=lambda case: -int(present[case].sum()))  # stable: the draw decides among equals
    meta = {str(case) for case in ranked[:count]}
    return [case for case in sorted(cases) if case not in meta], sorted(meta)
