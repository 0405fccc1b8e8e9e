"""One prediction job: where its output goes, what is done when it ends, and the report about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import write_json
from nnunetv2_mmkd.inference.cases import Case
from nnunetv2_mmkd.inference.model_folder import Model
from nnunetv2_mmkd.inference.reader import partial_folder
from nnunetv2_mmkd.nnunet_json import read_object

REPORT_NAME = "mmkd_report.json"
"""The report, in the output folder."""


def report_name(part_id: int = 0, num_parts: int = 1) -> str:
    """Name of the report's file; parts of a prediction (``-num_parts``) have one each, as they run side by side."""
    return REPORT_NAME if num_parts == 1 else f"mmkd_report_part{part_id}of{num_parts}.json"


@dataclass
class Job:
    """The cases of one call, ready for nnU-Net.

    Attributes:
        modalities: names of the M modalities of the model.
        cases: what is predicted now, in order.
        lists: their file lists, with placeholders.
        outputs: their final output files without ending, or None if the results are returned.
        previous: nnU-Net's files of a previous stage (cascade), or Nones.
        model: what predicts.
        file_ending: of the segmentations.
        report_file: where the report goes, or None.
        expected: case -> what the model's performance card promises for what it has; for the report.
        models: case -> what predicts it, where cases have models of their own (``model`` says nothing then); None:
            ``model`` predicts all.
    """

    modalities: Sequence[str]
    cases: Sequence[Case]
    lists: list[list[str]]
    outputs: list[str] | None
    previous: list[str | None]
    model: Model
    file_ending: str
    report_file: str | None = None
    expected: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    models: Mapping[str, Model] | None = None
    _partial: dict[str, str] = field(default_factory=dict)
    _before: list[tuple[int, int] | None] = field(default_factory=list)
    _kept: dict[str, Any] = field(default_factory=dict)

    def only(self, model: Model) -> Job:
        """The part of a job that has begun which one of several models predicts; its output goes where the job's does.

        It is neither begun nor ended by itself.
        """
        models = self.models or {}
        keep = [index for index, case in enumerate(self.cases) if models[case.identifier] == model]
        return replace(
            self,
            cases=[self.cases[index] for index in keep],
            lists=[self.lists[index] for index in keep],
            outputs=None if self.outputs is None else [self.outputs[index] for index in keep],
            previous=[self.previous[index] for index in keep],
        )

    def begin(self) -> None:
        """Make the output folders and write the report of what is going to be done."""
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
            self._remove_partial()
            raise InputError(f"the output folder is not writable: {error}. Choose another one") from error
        self._kept = self._read_old()
        self._write_report(finished=False)

    def partial_outputs(self) -> list[str] | None:
        """Where nnU-Net exports to; complete cases move up from there by themselves."""
        if self.outputs is None:
            return None
        return [os.path.join(self._partial[os.path.dirname(o)], os.path.basename(o)) for o in self.outputs]

    def end(self, *, finished: bool) -> None:
        """Remove what is unfinished and bring the report up to date."""
        if self.outputs is None:
            return
        self._remove_partial()
        self._write_report(finished=finished)

    def _remove_partial(self) -> None:
        for folder in self._partial.values():
            shutil.rmtree(folder, ignore_errors=True)

    def _state(self, output: str) -> tuple[int, int] | None:
        try:
            status = os.stat(output + self.file_ending)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _read_old(self) -> dict[str, Any]:
        """Cases of an earlier report whose segmentation is still there and is not made again."""
        if self.report_file is None or not os.path.isfile(self.report_file):
            return {}
        try:
            old = read_object(self.report_file)
            entries = {case: {"model": old.get("model"), **entry} for case, entry in old["cases"].items()}
        except (InputError, KeyError, TypeError, AttributeError):
            return {}
        again = {os.path.basename(output) for output in self.outputs or ()}
        folder = os.path.dirname(self.report_file)
        kept = {}
        for case, entry in entries.items():
            if case not in again and os.path.isfile(os.path.join(folder, case + self.file_ending)):
                if self.models is None and entry["model"] == self.model.as_json():
                    del entry["model"]
                kept[case] = {**entry, "done": True}
        return kept

    def _write_report(self, *, finished: bool) -> None:
        if self.report_file is None:
            return
        entries = dict(self._kept)
        for case, output, before in zip(self.cases, self.outputs or (), self._before, strict=True):
            now = self._state(output)
            entries[os.path.basename(output)] = {
                "used": list(case.used),
                "missing": dict(case.missing),
                "segmentation": os.path.basename(output) + self.file_ending,
                "done": now is not None and now != before,
            }
            if self.models is not None:
                entries[os.path.basename(output)]["model"] = self.models[case.identifier].as_json()
            if case.identifier in self.expected:
                entries[os.path.basename(output)]["expected"] = dict(self.expected[case.identifier])
        cases = dict(sorted(entries.items()))
        content: dict[str, Any] = {"model": self.model.as_json()}
        if self.models is not None:
            of_cases = [entry["model"] for entry in cases.values()]
            content = {"models": [each for index, each in enumerate(of_cases) if each not in of_cases[:index]]}
        content |= {"modalities": list(self.modalities), "finished": finished}
        write_json(Path(self.report_file), {**content, "cases": cases})
