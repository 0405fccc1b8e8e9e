"""What ``mmkd demo`` does: phantom -> convert -> plan -> train -> evaluate with images missing -> submission."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import Marker, locked
from nnunetv2_mmkd.paths import set_ext_trainer
from nnunetv2_mmkd.workflows.next_steps import TRAINER

log = logging.getLogger(__name__)

TRAINING_ID, HELD_OUT_ID = 501, 502
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
DEMO = Marker("mmkd_demo.json", "a demo", "give --out another folder")
FULL, WITHOUT_T1CE, FLAIR = "t1+t1ce+t2+flair", "t1+t2+flair", "flair"
NAMES = {FULL: "all four", WITHOUT_T1CE: "without T1ce", FLAIR: "FLAIR alone"}
SCANNER: dict[str, Any] = {"noise": 0.1}
"""Of the phantoms: so noisy that each further image helps, and so clear that a minute of training is enough."""

STAGES = (
    "phantoms, as a BraTS 2018 archive",
    "conversion to nnU-Net's raw format",
    "fingerprint, plan and preprocessing",
    "training",
    "segmentation of held-out phantoms with images missing; Dice, tables and figures",
    "BraTS 2018 submission",
)


@dataclass(frozen=True)
class DemoConfig:
    """Size of the demonstration.

    Attributes:
        configuration: ``"2d"`` or ``"3d_fullres"``.
        trainer: name of the trainer, without the training length.
        cases: phantoms to train on (a fold holds out a fifth of them).
        held_out: phantoms to segment.
        size: edge of a phantom in voxels.
        epochs, iterations: training length.
        features: width of the network's first stage (nnU-Net plans 32; fewer fit two CPU cores).
        seed: of weights and modality dropout; the phantoms are always the same.
        device: ``"cpu"`` or ``"cuda"``.
        progress: show progress bars.
    """

    configuration: str = "2d"
    trainer: str = TRAINER
    cases: int = 15
    held_out: int = 4
    size: int = 64
    epochs: int = 6
    iterations: int = 120
    features: int = 12
    seed: int = 0
    device: str = "cpu"
    progress: bool = True


SIZES: dict[str, dict[str, Any]] = {
    "2d": {},
    "3d_fullres": {"configuration": "3d_fullres", "epochs": 10, "iterations": 60, "features": 8},
}
"""Configuration -> what of :class:`DemoConfig` is another by default."""


def run_demo(out: Path, config: DemoConfig) -> Path:
    """Run the chain in a folder of its own.

    nnU-Net's output goes to ``demo.log`` there; its environment variables are set in this process.

    Returns:
        the folder with the results: ``demo.png``, ``dice.csv``, ``report/`` and the submission.

    Raises:
        InputError: bad settings, see :func:`check_config`; the folder holds something else, or cannot be written.
    """
    set_environment(out, config)
    check_config(config)
    with locked(out):
        DEMO.claim(out, {"written by": "mmkd demo"})
        return _run(out, config)


def _run(out: Path, config: DemoConfig) -> Path:
    from nnunetv2_mmkd.conversion.convert import convert
    from nnunetv2_mmkd.editions.brats import BRATS2018
    from nnunetv2_mmkd.inference.run import usable_cores
    from nnunetv2_mmkd.phantom.case import PhantomConfig
    from nnunetv2_mmkd.phantom.writer import write_phantom
    from nnunetv2_mmkd.submission.write import write_submission
    from nnunetv2_mmkd.workflows.demo.planning import plan_and_preprocess
    from nnunetv2_mmkd.workflows.demo.report import NEXT, copy_picture, last_words, write_dice
    from nnunetv2_mmkd.workflows.demo.screen import Stages

    for name in FOLDERS:
        (out / name).mkdir(exist_ok=True)
    stages = Stages(out / "demo.log", STAGES, log.info)
    cores = min(2, usable_cores())
    training, held_out = out / "phantom" / "training", out / "phantom" / "held_out"
    with stages.next():
        write = partial(write_phantom, processes=cores, show_progress=config.progress)
        phantom = partial(PhantomConfig, size=config.size, **SCANNER)
        write(training, config.cases, phantom(seed=0))
        write(held_out, config.held_out, phantom(seed=1))
    with stages.next(), only_warnings("nnunetv2_mmkd.conversion"):
        into_raw = partial(convert, BRATS2018, processes=1, show_progress=False)
        into_raw([training], TRAINING_ID, name="DemoTraining")
        truth = into_raw([held_out], HELD_OUT_ID, name="DemoHeldOut")
    with stages.next():
        plan_and_preprocess(TRAINING_ID, config.configuration, config.features, progress=config.progress)
    with stages.next():
        train_model(config)
    with stages.next(), only_warnings("nnunetv2_mmkd.workflows.evaluate", "nnunetv2_mmkd.inference"):
        model, table = evaluate_model(config, truth, out / "report")
    with stages.next(), only_warnings("nnunetv2_mmkd.submission"):
        segmentations = out / "report" / "predictions" / method_name(config) / FULL
        archive = write_submission(BRATS2018, segmentations, [held_out], out / "submission", show_progress=False)
    write_dice(table, NAMES, out / "dice.csv")
    copy_picture(table, out / "report", out / "demo.png")
    places = {
        "picture": out / "demo.png", "Dice per case": out / "dice.csv", "tables, figures": out / "report",
        "model": model, "submission": archive, "nnU-Net's output": out / "demo.log",
    }  # fmt: skip
    words = last_words(table, NAMES, FULL, WITHOUT_T1CE, config.cases)
    found = [f"  {what:<17} {place}" for what, place in places.items()]
    log.info("%s", "\n".join(["", *words, "", "What you have now:", *found, "", NEXT]))
    return out


@contextmanager
def only_warnings(*loggers: str) -> Iterator[None]:
    """Let these packages say what is wrong, and not what they are doing."""
    before = {name: logging.getLogger(name).level for name in loggers}
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(logging.WARNING)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def set_environment(out: Path, config: DemoConfig) -> None:
    """Point nnU-Net's folders into the demo's, and its trainer search to ours. Before nnU-Net is imported."""
    os.environ.update({name: str(out / name) for name in FOLDERS})
    set_ext_trainer()
    os.environ.setdefault("nnUNet_n_proc_DA", "1")
    os.environ.setdefault("nnUNet_def_n_proc", "2")
    if config.configuration == "2d":  # so small that threads would only wait for one another
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def check_config(config: DemoConfig) -> None:
    """Check what would fail in a later stage.

    Raises:
        InputError: a number that is too small, an unknown configuration or trainer, or no such device.
    """
    if config.configuration not in SIZES:
        raise InputError(f"--configuration {config.configuration}: expected {' or '.join(SIZES)}")
    numbers = {
        "-n": (config.cases, 5), "--epochs": (config.epochs, 1), "--iterations": (config.iterations, 1),
        "--seed": (config.seed, 0),
    }  # fmt: skip
    for option, (value, least) in numbers.items():
        if value < least:
            raise InputError(f"{option} {value}: expected at least {least}")
    for variable in ("nnUNet_n_proc_DA", "nnUNet_def_n_proc"):
        workers = os.environ[variable]
        if not workers.isdecimal():
            raise InputError(f"{variable} is {workers!r}: expected a number; set it, or unset it")

    from nnunetv2_mmkd.inference.run import pick_device
    from nnunetv2_mmkd.phantom.case import PhantomConfig
    from nnunetv2_mmkd.trainer_lookup import find_trainer

    PhantomConfig(size=config.size)
    pick_device(config.device)
    find_trainer(trainer_name(config))


def trainer_name(config: DemoConfig) -> str:
    """The trainer's class name, with training length and seed as suffixes."""
    return f"{config.trainer}_{config.epochs}epochs_{config.iterations}iters_seed{config.seed}"


def method_name(config: DemoConfig) -> str:
    """The method's name in the report."""
    return config.trainer.removeprefix("nnUNetTrainer") or config.trainer


def train_model(config: DemoConfig) -> None:
    """What ``mmkd train 501 2d 0 -tr nnUNetTrainerModalityDropout_...`` does, without the final validation."""
    from nnunetv2.run.run_training import get_trainer_from_args

    from nnunetv2_mmkd.benchmark.environment import periodic_update
    from nnunetv2_mmkd.inference.run import pick_device
    from nnunetv2_mmkd.workflows.demo.screen import training_bar

    device = pick_device(config.device)
    trainer = get_trainer_from_args(str(TRAINING_ID), config.configuration, 0, trainer_name(config), device=device)
    workers = os.environ["nnUNet_n_proc_DA"]
    if config.configuration == "2d":  # augmentation in this process: the same numbers in each run
        os.environ["nnUNet_n_proc_DA"] = "0"
    try:
        with training_bar(trainer, periodic_update(trainer), config.progress):
            trainer.run_training()
    finally:
        os.environ["nnUNet_n_proc_DA"] = workers


def evaluate_model(config: DemoConfig, truth: Path, report: Path) -> tuple[Path, Any]:
    """What ``mmkd evaluate -d 501 -c 2d -i IMAGES -l LABELS --subsets ...`` does.

    Args:
        config: of the demo.
        truth: raw data set with ``imagesTr`` and ``labelsTr``.
        report: folder for everything.

    Returns:
        model folder, results.
    """
    from nnunetv2_mmkd.evaluation.score import ScoreSettings
    from nnunetv2_mmkd.inference.model_folder import model_folder
    from nnunetv2_mmkd.workflows.evaluate.run import evaluate
    from nnunetv2_mmkd.workflows.evaluate.settings import ReportOptions, Target, WindowSettings

    model = model_folder(str(TRAINING_ID), trainer_name(config), "nnUNetPlans", config.configuration)
    subsets = tuple(NAMES)
    table = evaluate(
        report,
        {method_name(config): str(model)},
        {},
        Target(subsets, (0,), images=str(truth / "imagesTr"), labels=str(truth / "labelsTr")),
        WindowSettings(mirroring=False, device=config.device, export_processes=0, progress=config.progress),
        ScoreSettings(("dice",), empty="nan"),
        ReportOptions(card=False, overlay_subsets=subsets, reference="t1ce"),
        overwrite=True,
    )
    return Path(model), table
