"""The exams to be aligned, checked by their headers before any voxel is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.images import read_header
from nnunetv2_mmkd.nifti_header import grid_of
from nnunetv2_mmkd.registration.rigid import COARSE

LEAST_SLICES = 4
"""Fewer along any axis are no volume that can be registered."""

LEAST_EXTENT = LEAST_SLICES * COARSE.spacing
"""mm; the coarsest level of the registration has so many slices, too."""


@dataclass(frozen=True)
class Exam:
    """The images of one case, each on a grid of its own.

    Attributes:
        case: its name.
        images: canonical name of a modality -> its file, in channel order; what is missing is not in it.
    """

    case: str
    images: Mapping[str, Path]

    def reference(self, wanted: Sequence[str]) -> str:
        """The modality that the others are brought onto: the first of some that the case has.

        Raises:
            InputError: it has none of them.
        """
        found = next((name for name in wanted if name in self.images), None)
        if found is None:
            raise InputError(
                f"case {self.case} has no {' and no '.join(wanted)} to bring the others onto, only "
                f"{', '.join(self.images)}: name more with --reference, in the order of your preference "
                f"(--reference {' '.join(wanted)} {next(iter(self.images))}), or take the case out"
            )
        return found


def check_exam(exam: Exam, wanted: Sequence[str]) -> None:
    """Check the headers of an exam, and that it has a reference.

    Raises:
        InputError: no reference, a header that is broken, contradicts itself or is sheared, or an image that is no
            volume.
    """
    exam.reference(wanted)
    for name, path in exam.images.items():
        try:
            grid = grid_of(path, read_header(path))
        except InputError as error:
            raise InputError(f"case {exam.case}, {name}: {error}") from error
        shape, extent = grid.shape, min(length * size for length, size in zip(grid.shape, grid.spacing, strict=True))
        if min(shape) < LEAST_SLICES:
            what = "two-dimensional" if sorted(shape)[0] == 1 else f"only {min(shape)} slices"
            raise InputError(
                f"case {exam.case}, {name}: {path} is {what} (shape {shape}); registration needs a volume of at least "
                f"{LEAST_SLICES} slices. Give the whole volume, or take the image out"
            )
        if len(exam.images) > 1 and extent < LEAST_EXTENT:
            raise InputError(
                f"case {exam.case}, {name}: {path} is {extent:.3g} mm thick along an axis (shape {shape}); expected at "
                f"least {LEAST_EXTENT:.3g} mm. Is its voxel size right? Else take the image out"
            )
