"""Specialists: nnU-Net for exactly one subset of the modalities, e.g. nnUNetTrainerSpecialist_t1_t2."""

from __future__ import annotations

from nnunetv2_mmkd.training.specialist import nnUNetTrainerSubset, parse_name
from nnunetv2_mmkd.training.suffixes import suffix_resolver

STATUS = "compared"


class nnUNetTrainerSpecialist(nnUNetTrainerSubset):
    """Specialist: nnU-Net as planned, on the modalities that the name gives."""


__getattr__ = suffix_resolver(globals(), parse_name)
