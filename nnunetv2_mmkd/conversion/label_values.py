"""The values in the segmentations of a user's own data set, checked against what was said of them before the work."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from tqdm import tqdm

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.editions.discover import CaseFiles
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError, first_few

logger = logging.getLogger(__name__)


def check_label_values(spec: EditionSpec, cases: Sequence[CaseFiles], processes: int, show_progress: bool) -> None:
    """Read all segmentations; say which values that were named are in none of them.

    Args:
        spec: the edition.
        cases: all cases.
        processes: as many threads.
        show_progress: show a progress bar.

    Raises:
        InputError: a broken file, or a value that was not named.
    """
    labelled = [files for files in cases if files.label is not None]
    used: set[int] = set()
    with ThreadPoolExecutor(max_workers=processes) as pool:
        results = pool.map(partial(_values, spec), labelled)
        try:
            for values in tqdm(results, "check labels", len(labelled), disable=not show_progress):
                used |= values
        finally:
            pool.shutdown(cancel_futures=True)
    names = {**spec.classes, **spec.regions}
    for value, inside in spec.label_map.items():
        if labelled and value not in used and value != 0:
            where = [name for name, of in names.items() if inside in (of if isinstance(of, tuple) else (of,))]
            logger.warning("no segmentation has the label %d (%s): is that right?", value, ", ".join(where))


def _values(spec: EditionSpec, files: CaseFiles) -> set[int]:
    assert files.label is not None
    values = set(np.unique(nifti.integer_labels(files.label, nifti.read_volume(files.label).voxels)).tolist())
    unknown = sorted(values - set(spec.label_map))
    if unknown:
        raise InputError(
            f"case {files.case}: {files.label} has the label {first_few(unknown, 5)}; {spec.title} names "
            f"{', '.join(map(str, spec.allowed_labels))}: name it with --label (in a YAML file: label), or correct it"
        )
    return values
