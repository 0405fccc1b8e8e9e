"""What ``mmkd demo`` does: phantom -> convert -> plan -> train MetaKD -> predict -> Dice table, picture, submission."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import Marker, locked
from nnunetv2_mmkd.nnunet_json import read_plans
from nnunetv2_mmkd.paths import set_ext_trainer

log = logging.getLogger(__name__)

TRAINING_ID, HELD_OUT_ID = 501, 502
PLANS, CONFIGURATION = "nnUNetPlans", "3d_fullres"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
DEMO = Marker("mmkd_demo.json", "a demo", "give --out another folder")
FULL, WITHOUT_T1CE = "t1+t1ce+t2+flair", "t1+t2+flair"


@dataclass(frozen=True)
class DemoConfig:
    """Size of the demonstration.

    Attributes:
        trainer: name of the trainer, without the training length.
        cases: phantoms to train on (a fold holds out a fifth of them).
        held_out: phantoms to predict.
        size: edge of a phantom in voxels.
        epochs, iterations: training length.
        features: width of the network's first stage (nnU-Net plans 32; fewer fit two CPU cores).
        device: ``"cpu"`` or ``"cuda"``.
        progress: show progress bars.
    """

    trainer: str = "nnUNetTrainerMetaKD"
    cases: int = 12
    held_out: int = 3
    size: int = 48
    epochs: int = 8
    iterations: int = 40
    features: int = 8
    device: str = "cpu"
    progress: bool = True


def run_demo(out: Path, config: DemoConfig) -> Path:
    """Run the chain in a folder of its own.

    nnU-Net's output goes to ``demo.log`` there; its environment variables are set in this process.

    Returns:
        the folder with the results: ``dice.csv``, ``demo.png``, ``report/``, the predictions and the submission.

    Raises:
        InputError: bad settings, see :func:`check_config`; the folder holds something else, or cannot be written.
    """
    set_environment(out)
    check_config(config)
    with locked(out):
        DEMO.claim(out, {"written by": "mmkd demo"})
        return _run(out, config)


def _run(out: Path, config: DemoConfig) -> Path:
    for name in FOLDERS:
        (out / name).mkdir(exist_ok=True)
    steps = Steps(out / "demo.log", config.progress)
    with steps("phantoms", 1):
        from nnunetv2_mmkd.phantom.case import PhantomConfig
        from nnunetv2_mmkd.phantom.writer import write_phantom

        training, held_out = out / "phantom" / "training", out / "phantom" / "held_out"
        write_phantom(training, config.cases, PhantomConfig(size=config.size))
        write_phantom(held_out, config.held_out, PhantomConfig(size=config.size, seed=1))
    with steps("conversion to nnU-Net raw format", 2):
        from nnunetv2_mmkd.conversion.convert import convert
        from nnunetv2_mmkd.editions.brats import BRATS2018

        convert(BRATS2018, [training], TRAINING_ID, name="DemoTraining", processes=1, show_progress=False)
        truth = convert(BRATS2018, [held_out], HELD_OUT_ID, name="DemoHeldOut", processes=1, show_progress=False)
    with steps("fingerprint, plan, preprocessing", 3):
        plan(config)
    with steps(f"training {config.trainer}", 4, config.epochs):
        train_model(config)
    with steps("prediction of held-out cases, with all modalities and without T1ce", 5):
        for subset, missing in ((FULL, None), (WITHOUT_T1CE, ["t1ce"])):
            predict_cases(config, truth / "imagesTr", out / "predictions" / subset, missing)
    with steps("Dice and picture", 6):
        from nnunetv2_mmkd.workflows.demo.report import write_demo_report

        names = {FULL: "full", WITHOUT_T1CE: "T1ce missing"}
        lines = write_demo_report(truth, config.trainer.removeprefix("nnUNetTrainer"), out / "predictions", names, out)
    with steps("BraTS 2018 submission", 7):
        from nnunetv2_mmkd.submission.write import write_submission

        archive = write_submission(
            BRATS2018, out / "predictions" / FULL, [held_out], out / "submission", show_progress=False
        )
    for line in lines:
        log.info("%s", line)
    log.info(
        "Dice table: %s\npicture: %s\nreport: %s\nsubmission: %s",
        *(out / "dice.csv", out / "demo.png", out / "report", archive),
    )
    return out


def set_environment(out: Path) -> None:
    """Point nnU-Net's folders into the demo's, and its trainer search to ours. Before nnU-Net is imported."""
    os.environ.update({name: str(out / name) for name in FOLDERS})
    set_ext_trainer()
    os.environ.setdefault("nnUNet_n_proc_DA", "1")
    os.environ.setdefault("nnUNet_def_n_proc", "2")


def check_config(config: DemoConfig) -> None:
    """Check what would fail in a later step.

    Raises:
        InputError: a number that is too small, an unknown trainer, or no such device.
    """
    numbers = {"-n": (config.cases, 5), "--epochs": (config.epochs, 1), "--iterations": (config.iterations, 1)}
    for option, (value, least) in numbers.items():
        if value < least:
            raise InputError(f"{option} {value}: expected at least {least}")
    workers = os.environ["nnUNet_n_proc_DA"]
    if not workers.isdecimal() or int(workers) < 1:
        raise InputError(f"nnUNet_n_proc_DA is {workers!r}: nnU-Net's planning needs at least 1; set it, or unset it")

    from nnunetv2_mmkd.inference.run import pick_device
    from nnunetv2_mmkd.phantom.case import PhantomConfig
    from nnunetv2_mmkd.trainer_lookup import find_trainer

    PhantomConfig(size=config.size)
    pick_device(config.device)
    find_trainer(trainer_name(config))


def plan(config: DemoConfig) -> None:
    """nnU-Net's planning and preprocessing, with a narrower network."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    extract_fingerprints([TRAINING_ID], num_processes=1, check_dataset_integrity=True, show_progress_bar=False)
    plan_experiments([TRAINING_ID])
    file = next(Path(os.environ["nnUNet_preprocessed"]).glob(f"Dataset{TRAINING_ID}_*")) / f"{PLANS}.json"
    plans = read_plans(file).content
    architecture = plans["configurations"][CONFIGURATION]["architecture"]["arch_kwargs"]
    widest = max(architecture["features_per_stage"])
    architecture["features_per_stage"] = [
        min(config.features * 2**stage, widest) for stage in range(architecture["n_stages"])
    ]
    file.write_text(json.dumps(plans, indent=2))
    preprocess([TRAINING_ID], PLANS, (CONFIGURATION,), (1,), show_progress_bar=False)


def trainer_name(config: DemoConfig) -> str:
    """The trainer's class name, with the training length as suffixes."""
    return f"{config.trainer}_{config.epochs}epochs_{config.iterations}iters"


def train_model(config: DemoConfig) -> None:
    """What ``nnUNetv2_train 501 3d_fullres 0 -tr nnUNetTrainerMetaKD_...`` does."""
    import torch
    from nnunetv2.run.run_training import run_training

    from nnunetv2_mmkd.inference.run import usable_cores

    if config.device == "cpu":
        torch.set_num_threads(usable_cores())
    run_training(str(TRAINING_ID), CONFIGURATION, 0, trainer_name(config), PLANS, device=torch.device(config.device))


def predict_cases(config: DemoConfig, images: Path, output: Path, missing: list[str] | None) -> None:
    """What ``mmkd predict -d 501 -c 3d_fullres -f 0 -tr nnUNetTrainerMetaKD_...`` does."""
    from nnunetv2_mmkd.inference.model_folder import model_folder
    from nnunetv2_mmkd.inference.run import PredictionSettings, predict_folder

    settings = PredictionSettings(
        folds=(0,), device=config.device, progress=False, preprocessing_processes=1, export_processes=1
    )
    model = model_folder(str(TRAINING_ID), trainer_name(config), PLANS, CONFIGURATION)
    predict_folder(str(model), str(images), str(output), settings, missing=missing)


class Steps:
    """Announces the steps and keeps nnU-Net's output in a file.

    Args:
        file: where standard output goes meanwhile.
        progress: show a bar of epochs in training.
    """

    count = 7

    def __init__(self, file: Path, progress: bool) -> None:
        self.file = file
        self.progress = progress
        file.unlink(missing_ok=True)

    @contextmanager
    def __call__(self, title: str, number: int, epochs: int | None = None) -> Iterator[None]:
        """One step; ``epochs`` shows a bar that follows nnU-Net's output."""
        log.info("[%d/%d] %s", number, self.count, title)
        bar = tqdm(total=epochs, unit="epoch", disable=not self.progress or epochs is None)
        with self.file.open("a") as sink, bar, redirect_stdout(_Watched(sink, bar)):
            yield


class _Watched(TextIOBase):
    """Writes to a file and counts the epochs that nnU-Net says are over."""

    def __init__(self, sink: TextIO, bar: tqdm) -> None:
        self.sink = sink
        self.bar = bar

    def write(self, text: str) -> int:
        self.bar.update(len(re.findall(r"Epoch time:", text)))
        return self.sink.write(text)

    def flush(self) -> None:
        self.sink.flush()
