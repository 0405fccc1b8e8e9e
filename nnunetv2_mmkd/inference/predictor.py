"""The predictor of this package: files by name, any subset of the modalities per case."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.configuration import default_num_processes

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.arrays import stack_arrays
from nnunetv2_mmkd.inference.cases import case_of_files, require_modalities
from nnunetv2_mmkd.inference.checks import check_case, say_orientations
from nnunetv2_mmkd.inference.job import JobRequest, PredictionJob, alone, prepare_job, with_model
from nnunetv2_mmkd.inference.masked_predictor import MaskedPredictor
from nnunetv2_mmkd.inference.reader import AVAILABLE_KEY, partial_folder
from nnunetv2_mmkd.modalities import mask_of
from nnunetv2_mmkd.names import canonical
from nnunetv2_mmkd.output_folders import check_writable

InputOutputLists = tuple[list[list[str]], list[str] | None, list[str | None]]
"""Images of each case, output files, segmentations of a previous stage: what nnU-Net predicts from."""


def _plain(argument: Any) -> Any:
    """nnU-Net knows no Path."""
    return str(argument) if isinstance(argument, Path) else argument


class MMKDPredictor(MaskedPredictor):
    """``nnUNetPredictor`` for models of this package, with any non-empty subset of the modalities per case.

    Which modalities are available is decided per case: an image that does not exist, that :meth:`select` excludes (or,
    if nothing is selected, the variable ``nnUNet_missing_modalities``) or that is all zero is missing. Excluded images
    are not read: the result is that with the file absent. A specialist reads the images of its subset, and needs them.

    Example::

        predictor = MMKDPredictor(device=torch.device("cpu"))
        predictor.initialize_from_trained_model_folder(model_folder, (0,))
        predictor.predict_from_files("images", "segmentations")
        segmentation = predictor.predict_case({"t1": "a.nii.gz", "t2": "b.nii.gz", "t1ce": None})
    """

    _job: PredictionJob | None = None

    def predict_from_files(
        self,
        list_of_lists_or_source_folder: str | Path | list[list[str | None]],
        output_folder_or_list_of_truncated_output_files: str | Path | list[str] | None,
        save_probabilities: bool = False,
        overwrite: bool = True,
        num_processes_preprocessing: int = default_num_processes,
        num_processes_segmentation_export: int = default_num_processes,
        folder_with_segs_from_prev_stage: str | None = None,
        num_parts: int = 1,
        part_id: int = 0,
    ) -> list[Any] | None:
        """Predict cases from files; see nnU-Net, whose arguments these are.

        The input is a folder (``CASE_XXXX`` + file ending, any subset of the channels per case; or what
        :mod:`.input_folder` reads), a folder and how to read it (:class:`.inputs.InputImages`), or a list of file lists
        (one entry per modality, None where missing; or fewer files, told apart by their suffix).
        ``mmkd_report.json`` in the output folder says per case what was used and what was missing, and why.

        Raises:
            InputError: anything wrong with input, output or selection; nothing has been written then.
        """
        request = JobRequest(
            _plain(list_of_lists_or_source_folder),
            _plain(output_folder_or_list_of_truncated_output_files),
            save_probabilities,
            overwrite,
            folder_with_segs_from_prev_stage,
            num_parts,
            part_id,
        )
        with alone(request.output, part_id, num_parts):
            job = self._prepare(request, num_processes_preprocessing)
            with job.running():
                return self.run(job, max(1, num_processes_preprocessing), num_processes_segmentation_export)

    def predict_from_files_sequential(
        self,
        list_of_lists_or_source_folder: str | Path | list[list[str | None]],
        output_folder_or_list_of_truncated_output_files: str | Path | list[str] | None,
        save_probabilities: bool = False,
        overwrite: bool = True,
        folder_with_segs_from_prev_stage: str | None = None,
    ) -> list[Any] | None:
        """:meth:`predict_from_files` in this process alone; see nnU-Net, whose arguments these are."""
        request = JobRequest(
            _plain(list_of_lists_or_source_folder),
            _plain(output_folder_or_list_of_truncated_output_files),
            save_probabilities,
            overwrite,
            folder_with_segs_from_prev_stage,
        )
        with alone(request.output):
            job = self._prepare(request)
            with job.running():
                return self.run(job)

    def _prepare(self, request: JobRequest, processes: int = 1) -> PredictionJob:
        job = prepare_job(self.trained, request, self.excluded(), processes=processes, progress=self.allow_tqdm)
        return with_model(job, self.trained, self.model)

    def run(self, job: PredictionJob, preprocessing_processes: int = 0, export_processes: int = 0) -> list[Any] | None:
        """Predict the cases of a job that is running (:meth:`PredictionJob.running`) with the loaded model.

        Args:
            job: prepared and checked.
            preprocessing_processes, export_processes: workers; both 0 for none at all.
        """
        self._job, request = job, job.request
        try:
            if preprocessing_processes == export_processes == 0:
                self._sequence = iter([(case.identifier, case.available) for case in job.cases])
                segmentations: list[Any] | None = super().predict_from_files_sequential(
                    request.plain_source, request.output, request.save_probabilities, request.overwrite,
                    request.previous_stage,
                )  # fmt: skip
            else:
                segmentations = super().predict_from_files(
                    request.plain_source, request.output, request.save_probabilities, request.overwrite,
                    max(1, preprocessing_processes), max(1, export_processes), request.previous_stage,
                    request.num_parts, request.part_id,
                )  # fmt: skip
            return segmentations
        finally:
            job.gate.update(self.gate)
            self._job = self._sequence = self._current = None
            self._case = ""

    def _manage_input_and_output_lists(self, *args: Any, **kwargs: Any) -> InputOutputLists:
        if self._job is None:
            lists: InputOutputLists = super()._manage_input_and_output_lists(*args, **kwargs)
            return lists
        return self._job.lists, self._job.partial_outputs(), self._job.previous

    def predict_case(
        self,
        images: Mapping[str, str | Path | np.ndarray | None],
        output_file: str | Path | None = None,
        *,
        properties: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Predict one case from its images by name.

        Args:
            images: modality (name or alias) -> file, or array ``[z, y, x]``, or None; one that is not in it is missing.
            output_file: also write the segmentation there, with the geometry of the images (files only).
            properties: for arrays: ``{"spacing": (z, y, x) in mm}``.

        Returns:
            The segmentation ``[z, y, x]`` (labels) in the grid of the images.

        Raises:
            InputError: unknown name, no image, broken or contradicting images, output not writable.
        """
        given = {name: image for name, image in images.items() if image is not None}
        mask = mask_of(self.modalities, available=given)
        by_name = {canonical(name): image for name, image in given.items()}
        if len(by_name) < len(given):
            raise InputError(f"a modality is given twice, by name and alias: {', '.join(given)}")
        if any(isinstance(image, np.ndarray) for image in by_name.values()):
            if properties is None or output_file is not None:
                raise InputError('arrays need properties={"spacing": ...} and can only be returned, not written')
            array = stack_arrays(by_name, self.modalities)
            result: np.ndarray = self.predict_single_npy_array(array, {**properties, AVAILABLE_KEY: mask.tolist()})
            return result
        ending = self.dataset_json["file_ending"]
        if output_file is not None:
            if not str(output_file).endswith(ending):
                raise InputError(f"output file {output_file} must end with {ending}")
            check_writable(os.path.dirname(output_file) or ".")
        files = [str(by_name[name]) if name in by_name else None for name in self.modalities]
        identifier = os.path.basename(next(file for file in files if file is not None))
        case = case_of_files(identifier, self.modalities, files)
        require_modalities([case], self.subset)
        case = check_case(case.without(self.excluded()), self.plans_manager, {})
        require_modalities([case], self.subset)
        say_orientations([case], self.plans_manager)
        reader = self.plans_manager.image_reader_writer_class()
        array, geometry = reader.read_images(case.entries(ending))
        segmentation: np.ndarray = self.predict_single_npy_array(array, geometry)
        if output_file is not None:
            folder, name = os.path.split(output_file)
            os.makedirs(folder or ".", exist_ok=True)
            unfinished = partial_folder(folder)
            try:
                reader.write_seg(segmentation, os.path.join(unfinished, name), geometry)
            finally:
                if os.path.isfile(os.path.join(unfinished, name)):
                    os.unlink(os.path.join(unfinished, name))
                os.rmdir(unfinished)
        stored: np.ndarray = reader.as_stored(segmentation, geometry)
        return stored
