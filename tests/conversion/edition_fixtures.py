"""Small cases of boxes in the layout of every edition, for the tests that spoil something; others use phantoms.

The folders and names are those of the phantoms (``EditionSpec.archive``).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from brats_like import AFFINE, SHAPE, save

from nnunetv2_mmkd.editions.spec import EditionSpec


def truth(spec: EditionSpec, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A label map with every value that the edition has on disk, each in a slab of its own."""
    values = np.zeros(shape, np.int16 if max(spec.label_map) > 255 else np.uint8)
    for index, value in enumerate(spec.allowed_labels):
        values[2 * index : 2 * index + 2, 2:10, 2:8] = value
    return values


def write(
    spec: EditionSpec,
    root: Path,
    *,
    label: bool = True,
    missing: Iterable[str] = (),
    shape: tuple[int, ...] = SHAPE,
    folder: str | None = None,
) -> Path:
    """Write one case in the edition's layout below ``root``; returns its folder.

    Args:
        spec: the edition.
        root: where its archives would be unpacked.
        label: a training case, or a validation case (without label).
        missing: canonical names of the modalities that have no file.
        shape: of the images.
        folder: another folder of the case, below ``root``; the case is named after it.
    """
    archive = spec.archive
    assert archive is not None
    folder = folder or archive.path(0, label)
    case = Path(folder).name
    place = root / (folder if spec.layout == "folders" else Path(folder).parent)
    rng = np.random.default_rng(0)
    for channel, ending in zip(spec.channels, archive.endings, strict=False):
        voxels = rng.integers(1, 1000, shape).astype(np.int16)
        if channel.name not in set(missing):
            save(place / f"{case}{ending}{archive.extension}", voxels, AFFINE)
    if label:
        save(
            place / archive.label_folder / f"{case}{archive.endings[-1]}{archive.extension}", truth(spec, shape), AFFINE
        )
    return place
