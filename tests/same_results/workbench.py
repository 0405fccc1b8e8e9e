"""Where everything happens: a temporary folder with tiny data sets, models and commands."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from same_results.tried_trainings import DATA, Training
from same_results.value_record import Record
from tiny_nnunet import PLAIN, RESIDUAL, Home, inline_pools, set_variables

from nnunetv2_mmkd.cli.main import main

HOW = ("-device", "cpu", "--disable_progress_bar")
QUICK = ("--disable_tta", "-step_size", "1")
INLINE = ("-npp", "0", "-nps", "0")
"""Options of ``mmkd predict``: always; without mirroring and overlap; without workers."""


class Bench:
    """A temporary home: data sets and models, made when first asked for.

    Args:
        root: an empty folder.
        record: takes the values.
        say: tells how far we are.
        models: folder of models of another commit, or None.
        match: of the long sections only parts whose names match.
    """

    def __init__(
        self, root: Path, record: Record, say: Callable[[str], None], models: Path | None, match: str = ""
    ) -> None:
        self.root, self.record, self.say, self.models, self.match = root, record, say, models, match
        (root / "home").mkdir()
        self.home = Home(root / "home")
        self._patch = pytest.MonkeyPatch()
        set_variables(self._patch, self.home, root / "models")
        inline_pools(self._patch)
        self.losses: dict[Training, list[float]] = {}
        self.final: dict[Training, dict[str, Any]] = {}
        self.data_sets: dict[tuple[int, str], str] = {}

    # -- trainings -----------------------------------------------------------------------------------------------------

    def trainer(self, training: Training, class_name: str | None = None) -> Any:
        """A trainer that is not initialised."""
        dataset = self.dataset(training)
        seed()
        found = recursive_find_trainer_class_by_name(class_name or training.class_name)
        plans = RESIDUAL if training.residual else PLAIN
        return self.home.trainer(found, dataset, training.configuration, training.fold, plans)

    def dataset(self, training: Training) -> str:
        """Name of a training's data set, with its missing-rate table."""
        name = self.data(*training.data)
        _, _, tag = training.trainer.partition("_")
        if tag == "mr28" and not (self.home.preprocessed / name / "mmkd_missing_mr28.json").exists():
            rates = ["t1=0.2", "t1ce=0.3", "t2=0.4", "flair=0.5"]
            self.mmkd("rates", "-d", name[7:10], "--tag", "mr28", "--rates", *rates, "--seed", "3")
        return name

    def data(self, modalities: int, labels: str) -> str:
        """Name of a tiny data set. All are made at once, so that a name does not depend on what is asked for first."""
        if not self.data_sets:
            seed()
            self.data_sets = {key: self.home.dataset(*key) for key in DATA}
        return self.data_sets[modalities, labels]

    def train(self, training: Training) -> Path:
        """The folder of a trained model; trains it if that was not done yet."""
        if training not in self.final:
            with self.variables(nnUNet_results=self.root / "models"):
                self._train(training)
        return self.model_folder(training)

    def _train(self, training: Training) -> None:
        trainer = self.trainer(training)
        self.losses[training] = losses = []
        step, end = trainer.train_step, trainer.on_epoch_end

        def train_step(batch: dict[str, Any]) -> dict[str, Any]:
            result: dict[str, Any] = step(batch)
            losses.append(float(result["loss"]))
            return result

        def on_epoch_end() -> None:
            end()
            latest = Path(trainer.output_folder) / "checkpoint_latest.pth"
            if trainer.current_epoch == 1:
                shutil.copy(latest, latest.with_name("checkpoint_middle.pth"))

        trainer.train_step, trainer.on_epoch_end = train_step, on_epoch_end
        trainer.run_training()
        self.final[training] = dict(trainer.network.state_dict())

    def model_folder(self, training: Training) -> Path:
        """Where a model of this bench is."""
        plans = "nnUNetResEncUNetMPlans" if training.residual else "nnUNetPlans"
        folder = f"{training.class_name}__{plans}__{training.configuration}"
        return self.root / "models" / self.data(*training.data) / folder

    def copy_of(self, training: Training) -> Path:
        """A copy of a trained model that may be written to."""
        folder = self.train(training)
        return Path(shutil.copytree(folder, self.new("copies") / folder.name))

    # -- folders and commands ------------------------------------------------------------------------------------------

    def new(self, name: str) -> Path:
        """A folder that nobody has used; its path does not depend on the other parts."""
        home = self.root / "made" / re.sub(r"\W+", "_", self.record.part)
        number = len(list(home.glob(f"{name}_*"))) if home.is_dir() else 0
        folder = home / f"{name}_{number}"
        folder.mkdir(parents=True)
        return folder

    def images(self, training: Training, *cases: str, without: Mapping[str, Sequence[int]] | None = None) -> Path:
        """A folder with cases of a training's data set, some channels of some cases left out."""
        folder = self.new("images")
        raw = self.home.raw / self.data(*training.data) / "imagesTr"
        for case in cases:
            for file in sorted(raw.glob(f"{case}_*.nii.gz")):
                if int(file.name[-11:-7]) not in (without or {}).get(case, ()):
                    shutil.copy(file, folder)
        return folder

    def mmkd(self, *arguments: object) -> tuple[Any, str]:
        """``mmkd`` in this process.

        Returns:
            The exit code (or the name of an exception), and what it wrote to the standard output.
        """
        seed()
        said = io.StringIO()
        code: Any
        try:
            with contextlib.redirect_stdout(said):
                code = main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        except Exception as error:
            traceback.print_exc()
            code = type(error).__name__
        print(f"mmkd {' '.join(map(str, arguments))}\n{said.getvalue()}exit code {code}")
        return code, said.getvalue()

    def run(self, name: str, *arguments: object, expected: int = 0) -> str:
        """``mmkd``, its exit code recorded; returns its standard output."""
        code, said = self.mmkd(*arguments)
        self.record.add(f"{name}/exit code", code)
        if code != expected:
            self.record.problems.append(f"{name}: exit code {code}")
        return said

    def predict(self, name: str, model: Path, images: Path, *options: object, folds: Sequence[int] = (0,)) -> Path:
        """``mmkd predict`` with a model folder; everything that it writes is recorded."""
        out = self.new("predicted")
        what = ["-m", model, "-i", images, "-o", out, "-f", *folds]
        self.run(name, "predict", *what, *HOW, *INLINE, *options)
        self.record.add_folder(name, out, ["dataset.json"])
        return out

    @contextlib.contextmanager
    def variables(self, **values: object) -> Iterator[None]:
        """Environment variables for a while."""
        before = {name: os.environ.get(name) for name in values}
        os.environ.update({name: str(value) for name, value in values.items()})
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

    def wants(self, name: str) -> bool:
        """Whether a part is to be done."""
        return re.search(self.match, name) is not None

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part of a section: an exception is recorded, and the next part goes on."""
        began, computed = time.monotonic(), cpu_seconds()
        print(f"\n==== {name}", flush=True)
        self.record.part = name
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.record.add(f"{name}/exception", type(error).__name__)
            self.record.problems.append(f"{name}: {type(error).__name__}: {error}")
        self.say(f"{name}: {time.monotonic() - began:.1f} s, {cpu_seconds() - computed:.1f} s on the CPU")


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def seed() -> None:
    """Set all generators."""
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
