"""Images handed over as arrays: which channels are missing, and are the others sound?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.reader import AVAILABLE_KEY

log = logging.getLogger(__name__)


def stack_arrays(images: Mapping[str, Any], modalities: Sequence[str]) -> np.ndarray:
    """One array ``[M, z, y, x]`` from arrays ``[z, y, x]`` by canonical name, zero where available is none.

    Raises:
        InputError: not all are arrays, or their shapes differ.
    """
    shapes = {name: np.shape(image) for name, image in images.items() if isinstance(image, np.ndarray)}
    if len(shapes) < len(images) or len(set(shapes.values())) != 1:
        raise InputError(f"give all images as files, or all as arrays of one shape; the arrays are {shapes}")
    stacked = np.zeros((len(modalities), *next(iter(shapes.values()))), dtype=np.float32)
    for name, image in images.items():
        stacked[list(modalities).index(name)] = image
    return stacked


def complete_array(
    image: np.ndarray,
    properties: Mapping[str, Any],
    modalities: Sequence[str],
    excluded: Mapping[str, str],
    required: Sequence[str] = (),
) -> tuple[np.ndarray, dict[str, Any]]:
    """Zero the missing channels of a case and note in its properties which are available.

    Args:
        image: ``[M, z, y, x]``.
        properties: nnU-Net's, with ``spacing``; optionally ``mmkd_available``, list of bool.
        modalities: names of the channels.
        excluded: modalities left out of all cases.
        required: modalities that must be available.

    Returns:
        The image (a copy if anything had to be zeroed) and the properties with ``mmkd_available``.

    Raises:
        InputError: wrong number of channels, NaN or inf in an available channel, or no channel left, or not one
            that is required.
    """
    if image.ndim != 4 or image.shape[0] != len(modalities):
        raise InputError(
            f"the image has shape {image.shape}; expected [M, z, y, x] with M = {len(modalities)} "
            f"({', '.join(modalities)}), zeros where a modality is missing"
        )
    given = properties.get(AVAILABLE_KEY, [True] * len(modalities))
    if len(given) != len(modalities):
        raise InputError(f"{AVAILABLE_KEY} has {len(given)} entries, the model has {len(modalities)} modalities")
    available = [bool(flag) and name not in excluded for flag, name in zip(given, modalities, strict=True)]
    for channel, name in enumerate(modalities):
        if available[channel] and not np.isfinite(image[channel]).all():
            raise InputError(f"the image of {name} has voxels that are NaN or infinite; say that {name} is missing")
        if available[channel] and not image[channel].any():
            log.warning("the image of %s is all zero; %s is taken as missing", name, name)
            available[channel] = False
    lacking = [name for flag, name in zip(available, modalities, strict=True) if name in required and not flag]
    if lacking:
        raise InputError(
            f"the image of {lacking[0]} is missing, and this model is a specialist for {' + '.join(required)}: use a "
            "model for any subset"
        )
    if not any(available):
        raise InputError(f"no modality would be left of {', '.join(modalities)}: at least one must be available")
    if not all(available):
        keep = np.asarray(available).reshape(-1, 1, 1, 1)
        image = np.where(keep, image, np.zeros((), dtype=image.dtype))
    return image, {**properties, AVAILABLE_KEY: available}
