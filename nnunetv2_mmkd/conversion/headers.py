"""The headers of a case, checked before the first voxel of any case is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.conversion.resample import LEAST_COVERAGE
from nnunetv2_mmkd.editions.discover import CaseFiles
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.geometry import Alignment, Grid, align, coverage, note, reference_of
from nnunetv2_mmkd.nifti_header import grid_of


@dataclass(frozen=True, eq=False)
class CaseHeaders:
    """The one grid of a case.

    Attributes:
        reference: header of the image that the others are brought onto.
        grid: its grid.
        alignments: how each file gets there; an image that is not in it is resampled.
        messages: files that are changed for it.
    """

    reference: nib.Nifti1Header
    grid: Grid
    alignments: Mapping[Path, Alignment]
    messages: tuple[str, ...]


def check_headers(spec: EditionSpec, files: CaseFiles) -> CaseHeaders:
    """Check the headers of a case: readable, one grid. Voxels are not read.

    The grid is the one that most of its files have, of several the first one's; where the edition says onto which image
    the others are resampled, that image's (the label's if the case does not have it).

    Raises:
        InputError: unreadable header, a file on another grid, or an image that is to be resampled and lies elsewhere.
    """
    headers = [nifti.read_header(path, files.volumes_in(path)) for path in files.files]
    grids = [grid_of(path, header) for path, header in zip(files.files, headers, strict=True)]
    index = _reference(spec, files) if spec.onto else reference_of(grids)
    case = f"case {files.case}: "
    alignments = {}
    for grid in grids:
        try:
            alignments[grid.path] = align(grid, grids[index], case)
        except InputError:
            if not spec.onto or grid.path == files.label:
                raise
            _require_coverage(grid, grids[index], case)
    notes = [note(each, grids[index], alignments[each.path], case) for each in grids if each.path in alignments]
    return CaseHeaders(headers[index], grids[index], alignments, tuple(each for each in notes if each is not None))


def _reference(spec: EditionSpec, files: CaseFiles) -> int:
    named = files.images[[channel.name for channel in spec.channels].index(spec.onto)]
    return files.files.index(named or files.label or files.files[0])


def _require_coverage(image: Grid, reference: Grid, case: str) -> None:
    share = coverage(image, reference)
    if share < LEAST_COVERAGE:
        raise InputError(
            f"{case}{image.path} covers {share:.0%} of the grid of {reference.path.name}, expected at least "
            f"{LEAST_COVERAGE:.0%}: are both of one exam? Register it if its header is wrong, or take it out"
        )
