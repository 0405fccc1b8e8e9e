"""Prediction with several models, one loaded at a time: for each case the one for what it has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_mmkd.inference.expectations import as_json, expectations, lines
from nnunetv2_mmkd.inference.job import Job
from nnunetv2_mmkd.inference.masked_predictor import MaskedPredictor
from nnunetv2_mmkd.inference.model_choice import Candidate, choose, read_candidates
from nnunetv2_mmkd.inference.model_folder import Model, check_loadable
from nnunetv2_mmkd.inference.predictor import MMKDPredictor
from nnunetv2_mmkd.inference.run import Settings, check_parts, orderly_termination, predictor_arguments

log = logging.getLogger(__name__)


class SeveralModelsPredictor(MMKDPredictor):
    """``MMKDPredictor`` that predicts each case with the model for what it has.

    Cases are found and checked, and models chosen, before the first model is loaded; the models then follow each other
    in the order given. A case is predicted as its model alone would predict it.

    Args:
        candidates: see :func:`~nnunetv2_mmkd.inference.model_choice.read_candidates`.
        settings: of the prediction; its folds and checkpoint are those of every model.
        missing: names of modalities to leave out in all cases.
        available: names of the only modalities to use.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        settings: Settings,
        *,
        missing: Sequence[str] | None = None,
        available: Sequence[str] | None = None,
    ) -> None:
        super().__init__(**predictor_arguments(settings), missing=missing, available=available)
        self.candidates = candidates
        self.settings = settings
        first = candidates[0]  # in names, reader and file ending all agree; together they are no specialist
        entry = {key: value for key, value in first.plans["mmkd"].items() if key != "subset"}
        self.plans_manager = PlansManager({**first.plans, "mmkd": entry})
        self.dataset_json = dict(first.dataset_json)
        self._adopt(first.folder)

    def predict(self, source: str, output: str) -> None:
        """Predict all cases of a folder, once; ``mmkd_report.json`` says for each case which model did.

        Raises:
            InputError: anything wrong with models, input, output or selection; nothing has been written then.
        """
        settings = self.settings
        manage = {
            "overwrite": settings.overwrite,
            "part_id": settings.part_id,
            "num_parts": settings.num_parts,
            "save_probabilities": settings.save_probabilities,
        }
        job, folders = self._with_models(self._prepare(source, output, manage, settings.preprocessing_processes or 1))
        with self._run(job):
            for model, folder in folders.items():
                self._predict_part(job.only(model), folder, output)

    def _with_models(self, job: Job) -> tuple[Job, dict[Model, str]]:
        """The job with the model of each case, and the models' folders."""
        settings = self.settings
        chosen = choose(job.cases, self.candidates)
        models: dict[str, Model] = {}
        expected: dict[str, Any] = {}
        folders: dict[Model, str] = {}
        for candidate in self.candidates:
            cases = [case for case in job.cases if chosen[case.identifier] is candidate]
            if not cases:
                continue
            model = check_loadable(candidate.folder, settings.folds, settings.checkpoint)
            folders[model] = candidate.folder
            models |= {case.identifier: model for case in cases}
            log.info("%s, for %s: %d case%s", model.trainer, candidate.takes, len(cases), "s" * (len(cases) > 1))
            known = expectations(cases, candidate.dataset_json, model)
            for line in lines(cases, known):
                log.info("expected of %s", line)
            expected |= {case: as_json(expectation) for case, expectation in known.items()}
        return replace(job, models=models, expected=expected), folders

    def _predict_part(self, part: Job, folder: str, output: str) -> None:
        """Load a model in the place of the one before, and predict its cases."""
        settings = self.settings
        self.network = self.list_of_parameters = None
        self.initialize_from_trained_model_folder(folder, tuple(settings.folds), settings.checkpoint)
        self._job = part
        if settings.preprocessing_processes == settings.export_processes == 0:
            self._sequence = iter([case.available for case in part.cases])
            MaskedPredictor.predict_from_files_sequential(self, part.lists, output, settings.save_probabilities)
            return
        MaskedPredictor.predict_from_files(  # MMKDPredictor's would prepare the job, which has begun
            self,
            part.lists,
            output,
            settings.save_probabilities,
            num_processes_preprocessing=max(1, settings.preprocessing_processes),
            num_processes_segmentation_export=max(1, settings.export_processes),
        )


def predict_with_models(
    models: Sequence[str],
    source: str,
    output: str,
    settings: Settings,
    *,
    missing: Sequence[str] | None = None,
    available: Sequence[str] | None = None,
) -> None:
    """Predict all cases of a folder, each with the one of several trained models that is for what it has.

    Args:
        models: model folders: specialists of different subsets, and at most one model for any subset.
        source: input folder.
        output: output folder.
        settings: of the prediction.
        missing: names of modalities to leave out in all cases.
        available: names of the only modalities to use.

    Raises:
        InputError: anything wrong with models, input, output or selection.
    """
    check_parts(settings)
    candidates = read_candidates(models, settings.folds, settings.checkpoint)
    predictor = SeveralModelsPredictor(candidates, settings, missing=missing, available=available)
    for name, reason in predictor.excluded().items():
        log.info("%s: %s", name, reason)
    with orderly_termination():
        predictor.predict(source, output)
