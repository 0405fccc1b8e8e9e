"""One prediction job: which cases, where their output goes, what is done when it ends, and the report about it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.disk import naming_full_disk
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import locked, within, write_json
from nnunetv2_mmkd.inference.cases import Case, cases_of_lists, require_modalities
from nnunetv2_mmkd.inference.checks import check_cases
from nnunetv2_mmkd.inference.expectations import as_json, case_line, confidence_line, expectations, never_there, summary
from nnunetv2_mmkd.inference.inputs import InputImages, find_cases
from nnunetv2_mmkd.inference.model_folder import ModelDescription, TrainedModel
from nnunetv2_mmkd.inference.naming import model_naming
from nnunetv2_mmkd.inference.output_folder import check_output_folder, check_overwrites_none, remove_damaged
from nnunetv2_mmkd.inference.reader import completing_plans, partial_folder
from nnunetv2_mmkd.inference.uncertainty_files import numbers_file, numbers_of
from nnunetv2_mmkd.nnunet_json import read_object
from nnunetv2_mmkd.output_folders import check_writable

log = logging.getLogger(__name__)

REPORT_NAME = "mmkd_report.json"
"""The report, in the output folder."""


def report_name(part_id: int = 0, num_parts: int = 1) -> str:
    """Name of the report's file; parts of a prediction (``-num_parts``) have one each, as they run side by side."""
    return REPORT_NAME if num_parts == 1 else f"mmkd_report_part{part_id}of{num_parts}.json"


@dataclass(frozen=True)
class JobRequest:
    """What is to be predicted, and where it goes: the arguments of ``nnUNetPredictor.predict_from_files``.

    Attributes:
        source: folder of images, a folder and how to read it, or lists of files.
        output: folder, or output files without ending, or None: the results are returned.
        save_probabilities: also write the probabilities.
        overwrite: predict cases again that exist already.
        previous_stage: folder of a previous stage's predictions (cascade).
        num_parts, part_id: this call does every ``num_parts``-th case from ``part_id`` on.
        uncertainty: also write maps and numbers of uncertainty.
    """

    source: str | InputImages | list[list[str | None]] | list[list[str]]
    output: str | list[str] | None
    save_probabilities: bool = False
    overwrite: bool = True
    previous_stage: str | None = None
    num_parts: int = 1
    part_id: int = 0
    uncertainty: bool = False

    @property
    def images(self) -> InputImages | None:
        """The input folder and how to read it, if one was given."""
        if isinstance(self.source, str):
            return InputImages(self.source)
        return self.source if isinstance(self.source, InputImages) else None

    @property
    def plain_source(self) -> str | list[list[str | None]] | list[list[str]]:
        """The source as nnU-Net knows it."""
        return self.source.folder if isinstance(self.source, InputImages) else self.source

    @property
    def folder(self) -> str | None:
        """The output folder, if one was given."""
        return self.output if isinstance(self.output, str) else None


@dataclass
class PredictionJob:
    """The cases of one call, ready for nnU-Net.

    Attributes:
        request: what was asked for.
        modalities: names of the M modalities of the model.
        cases: what is predicted now, in order.
        outputs: their final output files without ending, or None if the results are returned.
        previous: nnU-Net's files of a previous stage (cascade), or Nones.
        file_ending: of images and segmentations.
        model: what predicts.
        models: case -> what predicts it, where cases have models of their own (``model`` says nothing then); None:
            ``model`` predicts all.
        expected: case -> what the model's performance card promises for what it has; for the report.
        found: all cases of the input, also those that are not predicted now.
        gate: case, or name of its output -> what its network says its modalities weigh; filled by the predictor.
    """

    request: JobRequest
    modalities: Sequence[str]
    cases: Sequence[Case]
    outputs: list[str] | None
    previous: list[str | None]
    file_ending: str
    model: ModelDescription = field(default_factory=ModelDescription)
    models: Mapping[str, ModelDescription] | None = None
    expected: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    found: Sequence[Case] = ()
    gate: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    _partial: dict[str, str] = field(default_factory=dict)
    _before: list[tuple[int, int] | None] = field(default_factory=list)
    _kept: dict[str, Any] = field(default_factory=dict)

    @property
    def lists(self) -> list[list[str]]:
        """The cases' file lists, with placeholders for what is missing."""
        return [case.entries(self.file_ending) for case in self.cases]

    @property
    def report_file(self) -> str | None:
        """Where the report goes, or None."""
        request = self.request
        if request.folder is None:
            return None
        return os.path.join(request.folder, report_name(request.part_id, request.num_parts))

    def only(self, model: ModelDescription) -> PredictionJob:
        """The part of a job that has begun which one of several models predicts; its output goes where the job's does.

        It is neither begun nor ended by itself.
        """
        models = self.models or {}
        keep = [index for index, case in enumerate(self.cases) if models[case.identifier] == model]
        cases = [self.cases[index] for index in keep]
        lists = [case.entries(self.file_ending) for case in cases]
        return replace(
            self,
            request=JobRequest(lists, self.request.output, self.request.save_probabilities),
            cases=cases,
            outputs=None if self.outputs is None else [self.outputs[index] for index in keep],
            previous=[self.previous[index] for index in keep],
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make the output folders and write the report; at the end remove what is unfinished and complete the report.

        Raises:
            InputError: the output folder is not writable.
        """
        finished = False
        try:
            self._begin()
            with naming_full_disk(self.request.folder or ", ".join(self._partial)):
                yield
            finished = True
        finally:
            self._end(finished=finished)

    def _begin(self) -> None:
        if self.outputs is None:
            return
        self._before = [self._state(output) for output in self.outputs]
        try:
            if self.report_file is not None:
                os.makedirs(os.path.dirname(self.report_file) or ".", exist_ok=True)
            for output in self.outputs:
                folder = os.path.dirname(output)
                if folder not in self._partial:
                    os.makedirs(folder or ".", exist_ok=True)
                    self._partial[folder] = partial_folder(folder)
        except OSError as error:
            raise InputError(f"the output folder is not writable: {error}. Choose another one") from error
        self._kept = self._read_old()
        self._write_report(finished=False)
        for case in self.cases:
            log.info("%s", case_line(case))
        for name in never_there(self.cases):
            log.warning("no case has an image of %s: if there should be one, look at the names of the files", name)

    def partial_outputs(self) -> list[str] | None:
        """Where nnU-Net exports to; complete cases move up from there by themselves."""
        if self.outputs is None:
            return None
        return [os.path.join(self._partial[os.path.dirname(o)], os.path.basename(o)) for o in self.outputs]

    def _end(self, *, finished: bool) -> None:
        if self.outputs is None:
            return
        self._remove_partial()
        if not finished:
            remove_damaged(self.request.folder)
        with nullcontext() if finished else suppress(InputError):  # what ended the prediction is more telling
            self._write_report(finished=finished)
            for line in summary(self.cases, self.expected):
                log.info("%s", line)
            for case, output in zip(self.cases, self.outputs, strict=True) if self.request.uncertainty else ():
                log.info("%s", confidence_line(case.identifier, self._confidence(output)))
            log.info("segmentations: %s%s", *self._places())

    def _places(self) -> tuple[str, str]:
        """Where the segmentations and the report are, for the last line."""
        folders = ", ".join(dict.fromkeys(os.path.dirname(output) or "." for output in self.outputs or ()))
        return (
            folders or "none new, all exist already",
            f"; what each was made from: {self.report_file}" if self.report_file else "",
        )

    def _remove_partial(self) -> None:
        for folder in self._partial.values():
            shutil.rmtree(folder, ignore_errors=True)

    def _confidence(self, output: str) -> dict[str, Any]:
        """The numbers of ``--uncertainty`` that belong to a segmentation."""
        return numbers_of(output, self.request.folder or "")

    def _state(self, output: str) -> tuple[int, int] | None:
        try:
            status = os.stat(output + self.file_ending)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _read_old(self) -> dict[str, Any]:
        """Cases of an earlier report whose segmentation still exists and is not made again."""
        if self.report_file is None or not os.path.isfile(self.report_file):
            return {}
        try:
            old = read_object(self.report_file)
            entries = {case: {"model": old.get("model"), **entry} for case, entry in old["cases"].items()}
        except (InputError, KeyError, TypeError, AttributeError):
            return {}
        again = {case.identifier for case in self.cases}
        folder = Path(os.path.dirname(self.report_file))
        kept = {}
        for case, entry in entries.items():
            if case not in again and _is_there(folder, entry.get("segmentation", case + self.file_ending)):
                if self.models is None and entry["model"] == self.model.as_json():
                    del entry["model"]
                name = str(entry.get("segmentation", case + self.file_ending)).removesuffix(self.file_ending)
                numbers = self._confidence(str(folder / name))
                entry.pop("uncertainty", None)
                kept[case] = {**entry, "done": True, **({"uncertainty": numbers} if numbers else {})}
        return kept

    def _write_report(self, *, finished: bool) -> None:
        if self.report_file is None:
            return
        entries = dict(self._kept)
        for case, output, before in zip(self.cases, self.outputs or (), self._before, strict=True):
            now = self._state(output)
            entries[case.identifier] = {
                "used": list(case.used),
                "missing": dict(case.missing),
                "segmentation": os.path.relpath(output, os.path.dirname(self.report_file)) + self.file_ending,
                "done": now is not None and now != before,
            }
            if self.models is not None:
                entries[case.identifier]["model"] = self.models[case.identifier].as_json()
            if case.identifier in self.expected:
                entries[case.identifier]["expected"] = dict(self.expected[case.identifier])
            if gate := self.gate.get(case.identifier) or self.gate.get(os.path.basename(output)):
                entries[case.identifier]["gate"] = gate
            if entries[case.identifier]["done"] and (numbers := self._confidence(output)):
                entries[case.identifier]["uncertainty"] = numbers
        cases = dict(sorted(entries.items()))
        content: dict[str, Any] = {"model": self.model.as_json()}
        if self.models is not None:
            of_cases = [entry["model"] for entry in cases.values()]
            content = {"models": [each for index, each in enumerate(of_cases) if each not in of_cases[:index]]}
        content |= {"modalities": list(self.modalities), "finished": finished}
        write_json(Path(self.report_file), {**content, "cases": cases})


def _is_there(folder: Path, name: Any) -> bool:
    """Whether a report's segmentation exists."""
    try:
        return within(folder, str(name)).is_file()
    except InputError:
        return False


@contextmanager
def alone(output: str | Sequence[str] | None, part_id: int = 0, num_parts: int = 1) -> Iterator[None]:
    """Use an output folder alone; the parts of a prediction share it.

    Args:
        output: as in :class:`JobRequest`; only a folder is locked.
        part_id, num_parts: as there.

    Raises:
        InputError: another run uses it; the message says which process on which host.
    """
    if not isinstance(output, (str, Path)):
        yield
        return
    check_writable(str(output))
    with locked(Path(output), "" if num_parts == 1 else f".part{part_id}of{num_parts}"):
        yield


def prepare_job(
    model: TrainedModel, request: JobRequest, excluded: Mapping[str, str], *, processes: int = 1, progress: bool = True
) -> PredictionJob:
    """Find, choose and check the cases, without writing anything.

    Args:
        model: what is to predict them.
        request: what is asked for.
        excluded: modalities left out of all cases, and why.
        processes: for checking.
        progress: show a progress bar.

    Raises:
        InputError: anything wrong with input, output or selection.
    """
    ending, output = model.dataset_json.file_ending, request.output
    for folder in [output] if isinstance(output, str) else {os.path.dirname(file) for file in output or ()}:
        check_writable(folder)
    if request.previous_stage is not None and not os.path.isdir(request.previous_stage):
        raise InputError(f"-prev_stage_predictions {request.previous_stage}: there is no such folder")
    images = request.images
    if images is not None:
        found = find_cases(images, model)
    else:
        assert isinstance(request.source, list)
        found = cases_of_lists(request.source, model_naming(model.modalities, model.dataset_json))
    if isinstance(output, str):
        source = None if images is None else images.folder
        check_output_folder(output, source, request.previous_stage, model, found)
    require_modalities(found, model.subset)
    cases = [case.without(excluded) for case in found]
    outputs = [os.path.join(output, case.identifier) for case in cases] if isinstance(output, str) else output
    if isinstance(output, str) and images is not None and images.output_name != "{case}":
        outputs = images.outputs(found, output, ending)
    check_overwrites_none(found, outputs or (), ending)
    chosen = _indices(request, len(cases), outputs, ending)
    checked = check_cases(
        [cases[index] for index in chosen],
        completing_plans(model),
        model.dataset_json.missing,
        processes=processes,
        progress=progress,
    )
    require_modalities(checked, model.subset)
    previous = request.previous_stage
    return PredictionJob(
        request,
        model.modalities,
        checked,
        None if outputs is None else [outputs[index] for index in chosen],
        [None if previous is None else os.path.join(previous, case.identifier + ending) for case in checked],
        ending,
        found=found,
    )


def _indices(request: JobRequest, count: int, outputs: list[str] | None, ending: str) -> list[int]:
    """Which cases are predicted now: those of this part that do not exist yet, as nnU-Net chooses them."""
    mine = range(count)[request.part_id :: request.num_parts]
    if request.overwrite or outputs is None:
        return list(mine)
    endings = [ending, ".npz"] if request.save_probabilities else [ending]

    def exists(output: str) -> bool:
        files = [output + each for each in endings] + [str(numbers_file(output))] * request.uncertainty
        return all(map(os.path.isfile, files))

    return [index for index in mine if not exists(outputs[index])]


def with_model(job: PredictionJob, model: TrainedModel, description: ModelDescription) -> PredictionJob:
    """The job with the model that predicts it, and what to expect of that."""
    return replace(job, model=description, expected=_expected(job.cases, model, description))


def with_models(
    job: PredictionJob, chosen: Mapping[str, TrainedModel], descriptions: Mapping[str, ModelDescription]
) -> PredictionJob:
    """The job with the model of each case, and what to expect of it.

    Args:
        job: prepared.
        chosen: case -> its model.
        descriptions: model folder -> what it predicts with.
    """
    expected: dict[str, Mapping[str, Any]] = {}
    for model in {each.folder: each for each in chosen.values()}.values():
        cases = [case for case in job.cases if chosen[case.identifier] is model]
        expected |= _expected(cases, model, descriptions[model.folder])
    models = {case: descriptions[model.folder] for case, model in chosen.items()}
    return replace(job, models=models, expected=expected)


def _expected(
    cases: Sequence[Case], model: TrainedModel, description: ModelDescription
) -> dict[str, Mapping[str, Any]]:
    known = expectations(cases, model.dataset_json.content, description)
    return {case: as_json(expectation) for case, expectation in known.items()}
