"""The held-out split: training cases of a fold that a method needs for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import HeldOut


def split_held_out(
    cases: Sequence[str], present: Mapping[str, NDArray[np.bool_]], wanted: HeldOut, seed: int = 12345
) -> tuple[list[str], list[str]]:
    """Split a fold's training cases into those trained on and those held out.

    Args:
        cases: the fold's training cases.
        present: what each case has, ``[M]``.
        wanted: how many, and which first; where that does not tell, a seeded draw decides.
        seed: of the draw; 12345 is what nnU-Net splits with.

    Returns:
        training cases, held-out cases; disjoint unless ``wanted.overlap``, each sorted.

    Raises:
        InputError: fewer than two cases.
    """
    if len(cases) < 2:
        raise InputError(
            f"this method holds out training cases (its {wanted.kind} split), but the fold has only {len(cases)}"
        )
    count = int(wanted.share * len(cases))
    count = max(1, count if wanted.most is None else min(wanted.most, count))
    order = [str(case) for case in np.random.RandomState(seed).permutation(sorted(cases))]
    if wanted.complete_first:
        order.sort(key=lambda case: -int(present[case].sum()))  # stable: the draw decides among equals
    held_out = set(order[:count])
    training = [case for case in sorted(cases) if wanted.overlap or case not in held_out]
    return training, sorted(held_out)
