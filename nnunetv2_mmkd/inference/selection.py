"""Which modalities are left out of all cases: what the user, the environment variable or a specialist says."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import mask_of
from nnunetv2_mmkd.names import parse_names
from nnunetv2_mmkd.networks.masking import MISSING_VARIABLE

BY_USER = "excluded by the user"
"""Why a modality is missing: ``--missing`` or ``--available``."""
BY_VARIABLE = f"excluded by {MISSING_VARIABLE}"
"""The same, through the environment variable."""
NOT_TAKEN = "not a modality of this specialist"
"""The same, because the model has no channel for it."""


def excluded_modalities(
    modalities: Sequence[str],
    subset: Sequence[str] = (),
    *,
    missing: str | Sequence[str] | None = None,
    available: str | Sequence[str] | None = None,
) -> dict[str, str]:
    """The modalities that are left out of all cases, and why.

    Args:
        modalities: of the model, in channel order.
        subset: of a specialist, what it takes and needs.
        missing: names or aliases to leave out.
        available: names or aliases of the only ones to use. With neither, ``nnUNet_missing_modalities`` decides.

    Raises:
        InputError: an unknown name, nothing would be left, or less than a specialist needs.
    """
    for flag, names in (("--missing", missing), ("--available", available)):
        if isinstance(names, list | tuple) and not all(name.strip() for name in names):
            raise InputError(f"{flag}: an empty name; name a modality of {', '.join(modalities)}, or leave it out")
    reason = BY_USER
    if missing is None and available is None:
        missing, reason = os.environ.get(MISSING_VARIABLE, ""), BY_VARIABLE
    mask = mask_of(
        modalities,
        available=None if available is None else parse_names(available),
        missing=None if missing is None else parse_names(missing),
    )
    reasons = {name: reason for name, used in zip(modalities, mask.tolist(), strict=True) if not used}
    lost = [name for name in subset if name in reasons]
    if lost:
        raise InputError(
            f"{lost[0]} is {reasons[lost[0]]}, and this model is a specialist for {' + '.join(subset)}: use a model "
            "for any subset"
        )
    if subset:
        reasons |= {name: NOT_TAKEN for name in modalities if name not in {*subset, *reasons}}
    return reasons
