"""Maps of uncertainty from probabilities, as BraTS 2019 and 2020 asked for: 0 sure to 100 unsure, a file per region.

The measure is left to the participant. Here it is ``100 (1 - |2 p - 1|)``, p the probability of the region: 0 where p
is 0 or 1, 100 where p is 1/2.

References: Mehta et al., QU-BraTS, Machine Learning for Biomedical Imaging 2022, arXiv:2112.10074.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.editions.discover import CaseFiles, discover
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.geometry import Alignment, align
from nnunetv2_mmkd.image_names import list_images
from nnunetv2_mmkd.label_names import heads_of, translation
from nnunetv2_mmkd.nifti_header import grid_of
from nnunetv2_mmkd.nnunet_json import labels_beside
from nnunetv2_mmkd.submission.check import grid_problem, header_problem, reference_grid, reference_header, refuse
from nnunetv2_mmkd.submission.write import archive_name, write_files

_TOLERANCE = 1e-2
"""How far probabilities may lie outside [0, 1] (they may be stored in half precision)."""


def uncertainty(probability: np.ndarray) -> np.ndarray:
    """Uncertainty of a binary decision, uint8 in 0..100, of any shape.

    Args:
        probability: in [0, 1].
    """
    result: np.ndarray = np.rint(100 * (1 - np.abs(2 * np.clip(probability.astype(np.float32), 0, 1) - 1))).astype(
        np.uint8
    )
    return result


def probabilities_of_regions(
    spec: EditionSpec, heads: np.ndarray, order: Sequence[frozenset[int]] | None = None
) -> dict[str, np.ndarray]:
    """Probability of each region.

    Args:
        spec: the edition.
        heads: ``[K, ...]``; a head per region, or per label with the background first.
        order: the edition's values that each head stands for; None: as the edition's own data set has them.

    Raises:
        InputError: another number of heads.
    """
    if order is not None:
        if len(order) != len(heads):
            raise InputError(f"{len(heads)} heads; dataset.json declares {len(order)}")
        return {name: _joined(name, frozenset(values), heads, order) for name, values in spec.regions.items()}
    if len(heads) == len(spec.regions):
        return dict(zip(spec.regions, heads, strict=True))
    if len(heads) == len(spec.classes) + 1:
        return {name: heads[list(values)].sum(axis=0, dtype=np.float32) for name, values in spec.regions.items()}
    raise InputError(f"{len(heads)} heads; expected {len(spec.regions)} regions or {len(spec.classes) + 1} labels")


def _joined(region: str, values: frozenset[int], heads: np.ndarray, order: Sequence[frozenset[int]]) -> np.ndarray:
    """The head of a region, or the sum of those of its labels."""
    parts = heads_of(values, order)
    if parts is None:
        raise InputError(f"no head for {region}: dataset.json declares neither the region nor all its labels")
    if values in order:
        head: np.ndarray = heads[parts[0]]
        return head
    total: np.ndarray = heads[parts].sum(axis=0, dtype=np.float32)
    return total


def _order(spec: EditionSpec, folder: Path) -> list[frozenset[int]] | None:
    """The edition's values of each head, by the names in the ``dataset.json`` of the predictions; None without one."""
    beside = labels_beside(folder)
    if beside is None:
        return None
    file, meanings = beside
    values = translation(meanings, spec.label_meanings(), file)
    if any(len(each) > 1 for each in meanings.values()):
        return [spec.label_meanings()[name] for name in meanings]
    return [frozenset([values[value]]) for value in sorted(values)]


def write_uncertainty(
    spec: EditionSpec,
    probabilities: Path | str,
    originals: Sequence[Path | str],
    out: Path | str,
    *,
    zip_name: str | None = None,
    allow_missing: bool = False,
    show_progress: bool = True,
) -> Path:
    """Write the maps of uncertainty of all cases and a flat archive of them, which is read again and checked.

    Args:
        spec: an edition whose challenge takes such maps.
        probabilities: folder with ``<case>.npz`` as ``--save_probabilities`` writes them.
        originals: folders with the original cases, as they were converted.
        out: folder for the files and the archive; made if absent.
        zip_name: name of the archive; default ``<edition>_uncertainty.zip``.
        allow_missing: original cases without probabilities are fine.
        show_progress: show a progress bar.

    Returns:
        the path of the archive.

    Raises:
        InputError: the edition takes no such maps, unknown or missing cases, another shape, values that are no
            probabilities (with the list of offenders), a broken file, or writing fails.
    """
    folder = Path(probabilities)
    if not spec.uncertainty:
        raise InputError(f"{spec.title} takes no maps of uncertainty; BraTS 2019 and 2020 do")
    archive = Path(out) / archive_name(spec, zip_name or f"{spec.name}_uncertainty")
    if not folder.is_dir():
        raise InputError(f"folder of probabilities {folder} does not exist")
    found = {path.stem: path for path in sorted(folder.glob("*.npz")) if not path.name.startswith(".")}
    if not found:
        raise InputError(f"{folder} holds no probabilities; predict with --save_probabilities to get <case>.npz")
    cases = {files.case: files for files in discover(spec, originals)}
    refuse(folder, "files that match no original case", [found[case].name for case in found if case not in cases])
    lacking = [case for case in cases if case not in found]
    content = list_images(folder, ".npz")
    beside = (".nii", ".nii.gz", ".pkl")  # what nnU-Net writes with them
    others = tuple(name for name in content.others if not name.endswith(beside))
    replace(content, others=others).refuse_lookalikes(dict.fromkeys(lacking, "probabilities"))
    order = _order(spec, folder)
    if not allow_missing:
        refuse(folder, "original cases have no probabilities (--allow_missing leaves them out)", lacking)
    grids = [grid_problem(spec, path.name, reference_header(cases[case])) for case, path in found.items()]
    refuse(folder, f"cases whose grid {spec.platform.name} does not take", [grid for grid in grids if grid is not None])
    contents: dict[str, bytes] = {}
    wrong = []
    for case, path in tqdm(found.items(), f"uncertainty {spec.title}", disable=not show_progress):
        try:
            contents |= _maps(spec, path, cases[case], order)
        except InputError as error:
            wrong.append(f"{path.name} ({error})")
    refuse(folder, "files that do not hold the probabilities of their case", wrong)
    write_files(spec, archive, contents, _expected(spec, cases), uncertainty_problem, allow_missing=allow_missing)
    return archive


def uncertainty_problem(spec: EditionSpec, volume: nifti.Volume, files: CaseFiles) -> str | None:
    """What is wrong with a submitted map of uncertainty, or None."""
    problem = header_problem(spec, volume, np.dtype("uint8"), files)
    if problem is not None:
        return problem
    largest = int(volume.voxels.max())
    return f"{volume.path.name} (value {largest}, expected 0 to 100)" if largest > 100 else None


def _expected(spec: EditionSpec, cases: Mapping[str, CaseFiles]) -> dict[str, CaseFiles]:
    return {f"{case}{ending}.nii.gz": files for case, files in cases.items() for ending in spec.uncertainty}


def _maps(spec: EditionSpec, path: Path, files: CaseFiles, order: Sequence[frozenset[int]] | None) -> dict[str, bytes]:
    """File name -> content, for one case."""
    try:
        with np.load(path) as stored:
            heads = np.asarray(stored["probabilities"])
    except (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"cannot be read: {error}") from error
    grid, header = reference_grid(files), reference_header(files)
    alignment = Alignment.none()
    segmentation = path.with_suffix(".nii.gz")
    if segmentation.is_file():  # probabilities have no header: they are on the grid of the segmentation
        predicted = grid_of(segmentation, nifti.read_header(segmentation))
        alignment, grid = align(predicted, grid), predicted
    expected = grid.shape[::-1]  # nnU-Net's arrays are z, y, x
    if heads.shape[1:] != expected:
        raise InputError(f"shape {heads.shape}, expected {expected} per head: z, y, x of {grid.path.name}")
    if not (heads.min() >= -_TOLERANCE and heads.max() <= 1 + _TOLERANCE):  # NaN fails, too
        raise InputError(f"values from {heads.min():g} to {heads.max():g}, expected probabilities")
    regions = probabilities_of_regions(spec, heads, order)
    return {
        f"{files.case}{ending}.nii.gz": nifti.compress(
            nifti.image_bytes(np.ascontiguousarray(alignment.apply(uncertainty(regions[region]).T)), header)
        )
        for ending, region in spec.uncertainty.items()
    }
