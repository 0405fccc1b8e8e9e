"""What a metric says when a region is empty: the policies, by name.

Every table of results has to name its policy: means over cases differ by tens of per cent between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nnunetv2_mmkd.errors import InputError, choices

LEGACY_PENALTY = math.sqrt(240**2 + 240**2 + 155**2)
"""Distance in mm for a region that is missing on one side: the diagonal of the BraTS 2018-2021 grid, 373.1287."""


@dataclass(frozen=True)
class EmptyPolicy:
    """Values where the formula of a metric is undefined.

    A ratio is asked only where its denominator is 0. So the Dice of one empty mask is 0 under every policy (the formula
    says so), and specificity is 1 for two empty masks (all voxels are true negatives).

    Attributes:
        name: name in tables and file names.
        both_ratio: Dice, NSD, sensitivity, precision, both masks empty.
        one_ratio: a ratio 0/0 otherwise: sensitivity of an empty truth, precision of an empty prediction, specificity
            of a truth that fills the image.
        both_distance: distances, both masks empty, in mm.
        one_distance: distances, exactly one mask empty, in mm.
    """

    name: str
    both_ratio: float
    one_ratio: float
    both_distance: float
    one_distance: float


EMPTY_POLICIES: Mapping[str, EmptyPolicy] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            EmptyPolicy("nan", math.nan, math.nan, math.nan, math.inf),
            EmptyPolicy("legacy", 1.0, 0.0, 0.0, LEGACY_PENALTY),
        )
    }
)
"""``"nan"``: undefined stays NaN (Dice as nnUNetv2_evaluate_folder), a distance to nothing is infinite.
``"legacy"``: BraTS 2018-2021 and FeTS (CaPTk): both empty 1 and 0 mm, one empty 0 and 373.1287 mm."""


def empty_policy(policy: str | EmptyPolicy) -> EmptyPolicy:
    """The policy of a name; an :class:`EmptyPolicy` of one's own passes.

    Raises:
        InputError: an unknown name.
    """
    if isinstance(policy, EmptyPolicy):
        return policy
    if policy not in EMPTY_POLICIES:
        raise InputError(
            f"empty-region policy {policy!r} is unknown: choose from {choices(str(policy), EMPTY_POLICIES)}"
        )
    return EMPTY_POLICIES[policy]
