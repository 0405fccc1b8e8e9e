"""The processes of a sweep: trainings and evaluations, what each is called with, and when it is finished."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nnunetv2_mmkd.evaluation.templates import template_metrics
from nnunetv2_mmkd.files import differing, read_marker, write_json
from nnunetv2_mmkd.training.suffixes import SUFFIX
from nnunetv2_mmkd.workflows.sweep.definition import PREFIX, EvaluationOptions, Sweep

FINAL = "checkpoint_final.pth"
CHECKPOINTS = (FINAL, "checkpoint_latest.pth", "checkpoint_best.pth")
"""Any of them lets nnU-Net go on (``--c``)."""


@dataclass(frozen=True)
class SweepModel:
    """One trained model, with all its folds.

    Attributes:
        method: trainer without ``nnUNetTrainer``.
        tag: of the missing-rate table, or None.
        seed: or None.
        trainer: full class name, with all endings.
        folder: nnU-Net's model folder.
    """

    method: str
    tag: str | None
    seed: int | None
    trainer: str
    folder: Path

    @property
    def trained(self) -> str:
        """Method and table, as in the tables: what its seeds have in common."""
        return self.method if self.tag is None else f"{self.method}_{self.tag}"

    @property
    def label(self) -> str:
        """Its name among the models."""
        return self.trained if self.seed is None else f"{self.trained}_seed{self.seed}"


class Task(Protocol):
    """A process to be run once."""

    @property
    def name(self) -> str:
        """For people and folders."""
        ...

    @property
    def folder(self) -> Path:
        """Of its log and state."""
        ...

    def finished(self) -> bool:
        """Whether it has nothing left to do."""
        ...

    def arguments(self) -> list[str]:
        """Of ``mmkd``, now."""
        ...

    def conclude(self) -> None:
        """What is noted when the process has ended well."""
        ...


@dataclass(frozen=True)
class Training:
    """``mmkd train`` of one fold.

    nnU-Net's own files tell what is done: the final checkpoint, and the summary of the final validation, which is
    written last.
    """

    model: SweepModel
    fold: int
    dataset: str
    configuration: str
    plans: str
    device: str
    folder: Path

    @property
    def name(self) -> str:
        """For people and folders."""
        return f"train_{self.model.label}_fold{self.fold}"

    @property
    def fold_folder(self) -> Path:
        """nnU-Net's."""
        return self.model.folder / f"fold_{self.fold}"

    def finished(self) -> bool:
        """Trained and validated."""
        return (self.fold_folder / FINAL).is_file() and (self.fold_folder / "validation" / "summary.json").is_file()

    def begun(self) -> bool:
        """There is a checkpoint to go on from."""
        return any((self.fold_folder / name).is_file() for name in CHECKPOINTS)

    def arguments(self) -> list[str]:
        """A new training, one that goes on, or only the validation that is lacking."""
        what = ["train", self.dataset, self.configuration, str(self.fold), "-tr", self.model.trainer]
        what += ["-p", self.plans, "-device", self.device]
        if (self.fold_folder / FINAL).is_file():
            return [*what, "--val"]
        return [*what, "--c"] if self.begun() else what

    def conclude(self) -> None:
        """nnU-Net has noted all."""


@dataclass(frozen=True)
class Evaluation:
    """``mmkd evaluate`` of one model."""

    model: SweepModel
    folds: tuple[int, ...]
    dataset: str
    configuration: str
    plans: str
    device: str
    options: EvaluationOptions
    output: Path
    folder: Path

    @property
    def name(self) -> str:
        """For people and folders."""
        return f"evaluate_{self.model.label}"

    @property
    def results(self) -> Path:
        """The long table."""
        return self.output / "results.csv"

    def finished(self) -> bool:
        """The table exists, of these checkpoints and by these arguments."""
        noted = read_marker(self.folder / "evaluated.json")
        return bool(noted) and self.results.is_file() and not differing(noted or {}, self._record())

    def arguments(self) -> list[str]:
        """One model, all its folds. Predictions of checkpoints that are no longer there are thrown away."""
        how = ["--overwrite", "--no_page", "--disable_progress_bar", "-device", self.device]
        return [*self._what(), "-o", str(self.output), *how]

    def conclude(self) -> None:
        """Note what was evaluated."""
        write_json(self.folder / "evaluated.json", self._record())

    def _what(self) -> list[str]:
        options = self.options
        what = ["evaluate", "-d", self.dataset, "-c", self.configuration, "-p", self.plans, "-tr", self.model.trainer]
        what += ["--names", self.model.label, "-f", *map(str, self.folds), "--metrics"]
        what += template_metrics(options.template, options.metrics)
        what += ["--subsets", *options.subsets, "--empty", options.empty, "--tolerance", str(options.tolerance)]
        what += ["--lesions", options.lesions] if options.lesions else []
        what += ["--et_threshold", str(options.et_threshold)] if options.et_threshold else []
        what += ["-step_size", str(options.step_size), *["--disable_tta"] * options.disable_tta]
        what += ["--test"] * options.test
        return [*what, "-np", str(max(1, options.processes)), "-nps", str(options.processes)]

    def _record(self) -> dict[str, object]:
        stamps = {}
        for fold in self.folds:
            status = os.stat(self.model.folder / f"fold_{fold}" / FINAL)
            stamps[str(fold)] = [status.st_size, status.st_mtime_ns]
        return {"arguments": self._what(), "checkpoints": stamps}


def models_of(sweep: Sweep, parent: Path) -> list[SweepModel]:
    """All models of a sweep. A method whose name has a length of its own, say ``_13epochs``, keeps it.

    Args:
        sweep: what the file says.
        parent: nnU-Net's folder of the data set's models.
    """
    found = []
    for rates in sweep.missing_rates:
        for seed in sweep.seeds or (None,):
            for method in sweep.methods:
                own = {match.lastgroup for match in SUFFIX.finditer(method)}
                parts = [
                    f"_{rates.tag}" if rates else "",
                    f"_{sweep.length.epochs}epochs" if sweep.length.epochs and "epochs" not in own else "",
                    f"_{sweep.length.iterations}iters" if sweep.length.iterations and "iterations" not in own else "",
                    f"_seed{seed}" if seed is not None else "",
                ]
                trainer = PREFIX + method + "".join(parts)
                folder = parent / f"{trainer}__{sweep.plans}__{sweep.configuration}"
                found.append(SweepModel(method, rates.tag if rates else None, seed, trainer, folder))
    return found


def trainings_of(sweep: Sweep, models: list[SweepModel], output: Path) -> list[Training]:
    """A training per fold and model; folds of one model are not next to one another, so that they rarely meet."""
    return [
        Training(
            model, fold, sweep.dataset, sweep.configuration, sweep.plans, sweep.device,
            output / "jobs" / f"train_{model.label}_fold{fold}",
        )
        for fold in sweep.folds
        for model in models
    ]  # fmt: skip


def evaluations_of(sweep: Sweep, models: list[SweepModel], output: Path) -> list[Evaluation]:
    """An evaluation per model."""
    return [
        Evaluation(
            model, sweep.folds, sweep.dataset, sweep.configuration, sweep.plans, sweep.device, sweep.evaluation,
            output / "models" / model.label, output / "jobs" / f"evaluate_{model.label}",
        )
        for model in models
    ]  # fmt: skip
