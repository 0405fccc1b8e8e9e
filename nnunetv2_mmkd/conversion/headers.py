"""The headers of a case, checked before the first voxel of any case is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.editions.discover import CaseFiles
from nnunetv2_mmkd.geometry import Alignment, Grid, align, note, reference_of
from nnunetv2_mmkd.nifti_header import grid_of


@dataclass(frozen=True, eq=False)
class CaseHeaders:
    """The one grid of a case.

    Attributes:
        reference: header of the image that the others are brought onto.
        grid: its grid.
        alignments: how each file gets there.
        messages: files that are changed for it.
    """

    reference: nib.Nifti1Header
    grid: Grid
    alignments: Mapping[Path, Alignment]
    messages: tuple[str, ...]


def check_headers(files: CaseFiles) -> CaseHeaders:
    """Check the headers of a case: readable, one grid. Voxels are not read.

    The grid is the one that most of its files have, of several the first one's.

    Raises:
        InputError: unreadable header, or a file on another grid.
    """
    headers = [nifti.read_header(path) for path in files.files]
    grids = [grid_of(path, header) for path, header in zip(files.files, headers, strict=True)]
    index = reference_of(grids)
    case = f"case {files.case}: "
    alignments = {grid.path: align(grid, grids[index], case) for grid in grids}
    notes = [note(grid, grids[index], alignments[grid.path], case) for grid in grids]
    return CaseHeaders(headers[index], grids[index], alignments, tuple(each for each in notes if each is not None))
