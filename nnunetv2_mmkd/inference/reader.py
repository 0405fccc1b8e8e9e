"""Reading cases with missing images, and writing segmentations whole or not at all.

nnU-Net takes the reader and writer from the plans, in its workers too. :class:`CompletingPlans` hands out
:class:`CompletingIO`, a shell around the planned one:

- an entry of a case's file list may be a :func:`placeholder`; its channel is zeros with the geometry of the others,
  no file is read for it, and the properties that travel with the case say which channels are real;
- a case that is stored in another orientation than all training images is turned to theirs, and what is written of it
  is turned back;
- a file that nnU-Net exports into a folder made by :func:`partial_folder` moves up, out of it, when it is complete.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_mmkd.disk import TEMPORARY_FOLDER, cannot_write
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import temporary_folder
from nnunetv2_mmkd.geometry import Alignment, Grid, align, itk_grid, reference_of
from nnunetv2_mmkd.inference.model_folder import TrainedModel
from nnunetv2_mmkd.inference.uncertainty_files import remove_numbers
from nnunetv2_mmkd.nnunet_json import ORIENTATION
from nnunetv2_mmkd.workers import end_with_starter

AVAILABLE_KEY = "mmkd_available"
"""Key of a case's properties: list of bool, channel order, whether the image is available."""

_TURNED = "mmkd_turned"
"""Key of a case's properties, where it was turned: from which orientation to which."""

_PLACEHOLDER_FOLDER = "mmkd-missing:"


def placeholder(identifier: str, channel: int, file_ending: str) -> str:
    """Entry of a file list for an image that is missing; nnU-Net can still tell the case from its base name."""
    return f"{_PLACEHOLDER_FOLDER}/{identifier}_{channel:04d}{file_ending}"


def is_placeholder(entry: str) -> bool:
    """Whether an entry of a file list stands for a missing image."""
    return str(entry).startswith(_PLACEHOLDER_FOLDER)


def partial_folder(folder: str) -> str:
    """Make a folder for unfinished output inside ``folder`` (on the same disk, so that a rename is atomic)."""
    return str(temporary_folder(folder))


class CompletingIO(BaseReaderWriter):
    """nnU-Net's planned reader and writer, with placeholders for missing images and whole files only.

    Args:
        planned: nnU-Net's.
        file_ending: of the data set.
        orientation: that cases are turned to; None: they stay as they are.
    """

    def __init__(self, planned: type[BaseReaderWriter], file_ending: str, orientation: str | None = None) -> None:
        self.planned = planned()
        self.file_ending = file_ending
        self.orientation = orientation

    def read_images(self, image_fnames: Sequence[str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read a case.

        Args:
            image_fnames: M entries in channel order, files or placeholders, at least one file.

        Returns:
            The images ``[M, z, y, x]`` float32, zero where missing, on the grid that most of them have (of several the
            first one's), turned to the model's orientation, and the properties of that with ``mmkd_available``.

        Raises:
            InputError: a file that cannot be read, has several channels or is on another grid.
        """
        available = [not is_placeholder(name) for name in image_fnames]
        read = [self.read_image(name) for name, real in zip(image_fnames, available, strict=True) if real]
        grids = [grid for _, _, grid in read]
        index = reference_of(grids)
        properties = read[index][1]
        completed = np.zeros((len(available), *read[index][0].shape[1:]), dtype=np.float32)
        for channel, (image, _, grid) in zip(np.flatnonzero(available), read, strict=True):
            completed[channel] = align(grid, grids[index]).apply_reversed(image[0])
        properties = {**properties, AVAILABLE_KEY: available}
        if not turns(grids[index], self.orientation):
            return completed, properties
        turned = Alignment.turning(*(ends := (grids[index].orientation, str(self.orientation))))
        spacing = turned.sizes(properties["spacing"][::-1])[::-1]
        return turned.apply_reversed(completed), {**properties, "spacing": spacing, _TURNED: ends}

    def as_stored(self, array: np.ndarray, properties: Mapping[str, Any]) -> np.ndarray:
        """Turn back what was predicted of a case: ``[..., z, y, x]`` in the orientation of its images."""
        if _TURNED not in properties:
            return array
        start, end = properties[_TURNED]
        return Alignment.turning(end, start).apply_reversed(array)

    def read_image(self, file: str) -> tuple[np.ndarray, dict[str, Any], Grid]:
        """Read one image with the planned reader.

        Returns:
            The image ``[1, z, y, x]`` float32, its properties, and its grid as the reader says (which may reorient).

        Raises:
            InputError: the reader fails, or the file has several channels.
        """
        try:
            image, properties = self.planned.read_images([file])
        except Exception as error:  # readers raise whatever their libraries do
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{file} cannot be read: {reason[-200:]}") from error
        if len(image) != 1:
            raise InputError(f"{file} holds {len(image)} channels; give one file per modality")
        return image, properties, _grid(file, image.shape[1:], properties)

    def read_seg(self, seg_fname: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Read a segmentation with the planned reader."""
        result: tuple[np.ndarray, dict[str, Any]] = self.planned.read_seg(seg_fname)
        return result

    def write_seg(self, seg: np.ndarray, output_fname: str, properties: dict[str, Any]) -> None:
        """Write a segmentation; in a partial folder, move the case's files up, the segmentation last.

        Raises:
            InputError: it was not written whole.
        """
        self.write_whole(seg, output_fname, properties)
        folder, name = os.path.split(output_fname)
        if not os.path.basename(folder).startswith(TEMPORARY_FOLDER):
            return
        stem, final = name[: -len(self.file_ending)], Path(folder).parent
        numbers = Path(folder, stem + ".npz")
        if _TURNED in properties and numbers.is_file():
            with np.load(numbers) as saved:
                probabilities = self.as_stored(saved["probabilities"], properties)
            np.savez_compressed(numbers, probabilities=probabilities)
        remove_numbers(str(final / stem), self.file_ending)
        for part in (stem + ".npz", stem + ".pkl", name):
            if os.path.isfile(os.path.join(folder, part)):
                os.replace(os.path.join(folder, part), final / part)

    def write_whole(self, seg: np.ndarray, file: str, properties: dict[str, Any]) -> None:
        """Write with the planned writer and read it again: on a full disk SimpleITK says nothing.

        Raises:
            InputError: what is there is not what was written.
        """
        try:
            seg = self.as_stored(seg, properties)
            self.planned.write_seg(seg, file, properties)
            there = np.array_equal(self.planned.read_seg(file)[0][0], seg)
        except (OSError, RuntimeError) as error:
            raise cannot_write(file, error) from error
        if not there:
            raise cannot_write(file)


def turns(grid: Grid, orientation: str | None) -> bool:
    """Whether a case is turned: to the orientation of all training images, where its own is beyond doubt."""
    return orientation not in (None, grid.orientation) and grid.upright and min(grid.shape) > 1


def _grid(file: str, shape: Sequence[int], properties: Mapping[str, Any]) -> Grid:
    """The grid of an image from what nnU-Net's readers tell; of formats without affine, voxel sizes only."""
    size = tuple(shape)[::-1]
    if "sitk_stuff" in properties:
        geometry = properties["sitk_stuff"]
        flat = len(geometry["spacing"])
        return itk_grid(Path(file), (*size, 1)[:flat], geometry["spacing"], geometry["origin"], geometry["direction"])
    known = properties.get("nibabel_stuff", {})
    affine = known.get("reoriented_affine", known.get("original_affine"))
    return Grid(Path(file), size, np.diag([*properties["spacing"][::-1], 1.0]) if affine is None else affine)


def completing_plans(model: TrainedModel) -> CompletingPlans:
    """A model's plans with a reader that completes its cases."""
    return CompletingPlans(model.plans.content, model.dataset_json.file_ending)


class CompletingPlans(PlansManager):
    """nnU-Net's plans, whose reader and writer is :class:`CompletingIO` around the planned one.

    They are unpickled in workers that nnU-Net starts, which then end with this process.
    """

    def __init__(self, plans: Mapping[str, Any], file_ending: str) -> None:
        super().__init__(dict(plans))
        self.file_ending = file_ending

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if multiprocessing.parent_process() is not None:
            end_with_starter()

    @property
    def of_volumes(self) -> bool:
        """Whether the model's data are volumes: some configuration has three-dimensional patches."""
        return any(len(each.get("patch_size", ())) == 3 for each in self.plans["configurations"].values())

    @property
    def of_empty_background(self) -> bool:
        """Whether the model's data are 0 around an organ: nnU-Net then normalises what is not 0."""
        masks = [
            each["use_mask_for_norm"] for each in self.plans["configurations"].values() if "use_mask_for_norm" in each
        ]
        return bool(masks) and all(map(all, masks))

    @property
    def reorients(self) -> bool:
        """Whether the planned reader turns all images to one orientation."""
        return str(super().image_reader_writer_class.__name__).endswith("WithReorient")

    @property
    def orientation(self) -> str | None:
        """How all training images are stored, e.g. LPS; None if not known, or if the planned reader reorients."""
        known: str | None = self.plans.get("mmkd", {}).get(ORIENTATION)
        return None if self.reorients else known

    @property
    def image_reader_writer_class(self) -> partial[CompletingIO]:
        """What makes a reader and writer when called without arguments."""
        return partial(CompletingIO, super().image_reader_writer_class, self.file_ending, self.orientation)
