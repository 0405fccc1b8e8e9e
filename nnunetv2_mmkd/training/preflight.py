"""What must be true before nnU-Net's training command is called, so that its errors can be read."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_mmkd.errors import InputError, one_line
from nnunetv2_mmkd.files import LONGEST_NAME, content_of
from nnunetv2_mmkd.inference.checkpoint_file import WEIGHTS
from nnunetv2_mmkd.inference.model_check import (
    check_axes,
    check_origin,
    check_plans_of_origin,
    check_weights,
    network_shapes,
)
from nnunetv2_mmkd.inference.planned import check_data_set, check_planned, check_trainable, refuse_cascade
from nnunetv2_mmkd.inference.run import check_device
from nnunetv2_mmkd.nnunet_json import check_dataset_json, read_object, read_plans, value_of
from nnunetv2_mmkd.output_folders import check_writable
from nnunetv2_mmkd.paths import require_variables
from nnunetv2_mmkd.protocols.data_set import declared_missing
from nnunetv2_mmkd.trainer_lookup import find_trainer
from nnunetv2_mmkd.training.checkpoint import read_resumable
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream
from nnunetv2_mmkd.training.prepared_cases import (
    check_enough_cases,
    check_prepared,
    check_splits,
    check_unchanged,
    data_identifier,
)
from nnunetv2_mmkd.training.pretrained import fitted, fitted_file, misfit, with_entry
from nnunetv2_mmkd.training.suffixes import refuse_ambiguous, refuse_unknown
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

logger = logging.getLogger(__name__)


def check_training(
    dataset: str,
    configuration: str,
    fold: str,
    trainer: str,
    plans: str,
    device: str,
    loaded: Sequence[str] = (),
) -> Path:
    """Check the arguments of ``nnUNetv2_train``.

    Args:
        dataset: name or id.
        configuration: e.g. ``"3d_fullres"``.
        fold: number or ``"all"``.
        trainer: class name.
        plans: plans identifier.
        device: ``"cuda"``, ``"cpu"`` or ``"mps"``.
        loaded: checkpoints of the fold that nnU-Net may load.

    Returns:
        The folder of the fold, which need not exist.

    Raises:
        InputError: anything that is absent or wrong, with what to do.
    """
    require_variables(["nnUNet_preprocessed", "nnUNet_results"])
    if fold != "all" and not (fold.isascii() and fold.isdigit() and len(fold) < 5):
        raise InputError(f"fold must be a number from 0 on or 'all', not {one_line(fold, 60)!r}")
    fold = fold if fold == "all" else str(int(fold))  # as nnU-Net: 00 is fold 0
    folder = _preprocessed(dataset)
    plans_file = os.path.join(folder, plans + ".json")
    if not os.path.isfile(plans_file):
        known = [name for name in sorted(os.listdir(folder)) if name.endswith("lans.json")]
        raise InputError(
            f"{plans_file} does not exist; plans in this folder: {', '.join(known) or 'none'}. Run "
            f"`nnUNetv2_plan_and_preprocess -d {dataset}`, or choose with -p"
        )
    planned = read_plans(plans_file)
    check_data_set(planned.content, plans_file, os.path.basename(folder))
    if configuration not in planned.configurations:
        raise InputError(
            f"{plans_file} has no configuration {configuration!r}; it has {', '.join(planned.configurations)}"
        )
    prepared = Path(folder, data_identifier(planned.content["configurations"], configuration))
    remedy = f"run `nnUNetv2_preprocess -d {dataset} -plans_name {plans} -c {configuration}`"
    if not prepared.is_dir():
        raise InputError(f"{prepared} does not exist: {remedy} first")
    model = f"{trainer}__{planned.content.get('plans_name', plans)}__{configuration}"
    output = Path(str(nnUNet_results), os.path.basename(folder), model, f"fold_{fold}")
    if len(os.fsencode(model)) > LONGEST_NAME:
        raise InputError(f"the model's folder would have a name of {len(model)} letters: at most {LONGEST_NAME} work")
    trainer_class = find_trainer(trainer)
    file = Path(folder, "dataset.json")
    content = read_object(file)
    if issubclass(trainer_class, nnUNetTrainerMMKD):
        refuse_ambiguous(trainer_class, folder)
        refuse_unknown(trainer_class, folder)
        raw = os.path.join(os.environ.get("nnUNet_raw", ""), os.path.basename(folder))
        checked = check_dataset_json(content, file)
        check_unchanged(content, file, Path(raw, "dataset.json"), dataset)
        declared_missing(checked, file, Path(raw))
        if issubclass(trainer_class, nnUNetTrainerMultiStream) and len(checked.modalities) < 2:
            raise InputError(f"{file} has one channel: {trainer} needs at least two; train nnUNetTrainer on one")
        check_enough_cases(Path(folder), checked.file_ending, fold, dataset)
    names = content.get("channel_names")
    if isinstance(names, dict):  # else nnU-Net says so itself
        ready = check_planned(planned.content, configuration, len(names), plans_file)
        check_trainable(ready, f"{plans_file}, configurations, {configuration}")
        if issubclass(trainer_class, nnUNetTrainerMMKD):
            check_network(trainer_class, planned.content, configuration, content, plans_file)
    cases = check_splits(Path(folder), fold, str(content.get("file_ending", "")))
    if prepared != Path(folder):
        check_prepared(prepared, cases, remedy)
    for name in loaded:
        check_loaded(str(output / name), trainer_class, planned.content, configuration, file, fold, plans_file)
    check_device(device)
    check_writable(str(output))
    return output


def check_network(
    trainer: type[nnUNetTrainerMMKD],
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
    where: str,
) -> None:
    """Check that a trainer's network can be built from plans.

    Args:
        trainer: of this package, or made from it.
        plans: content of the file, checked.
        configuration: one of them.
        dataset_json: of the data set.
        where: file of the plans, for messages.

    Raises:
        InputError: it cannot.
    """
    try:
        refuse_cascade(PlansManager(plans).get_configuration(configuration), configuration)
        network_shapes(trainer, with_entry(trainer, plans, dataset_json), configuration, dataset_json)
    except (InputError, NotImplementedError) as error:
        raise InputError(f"{where}: {trainer.__name__} cannot be trained with {configuration}: {error}") from error


def check_loaded(
    file: str, trainer: type[Any], plans: dict[str, Any], configuration: str, dataset: Path, fold: str, plans_file: str
) -> None:
    """Check a checkpoint that a training goes on from or is validated with, if it exists.

    Args:
        file: of the checkpoint.
        trainer: class that shall go on.
        plans: of the data set.
        configuration: one of them.
        dataset: the data set's ``dataset.json``.
        fold: number or ``"all"``.
        plans_file: where the plans are, for messages.

    Raises:
        InputError: it cannot be read, needs trust, is of another network, fold or data set, or its weights are not
            finite.
    """
    if not os.path.lexists(file):
        return
    own, dataset_json = issubclass(trainer, nnUNetTrainerMMKD), read_object(dataset)
    checkpoint = read_resumable(file, own=own)
    arguments = value_of(checkpoint, "init_args", dict, file)
    for key, now in {"configuration": configuration, "fold": fold}.items():
        if str(arguments.get(key)) != now:
            raise InputError(
                f"{file}, init_args: {key!r} is {one_line(arguments.get(key), 60)}, and this is {key} {now}: restore "
                "the checkpoint of this training"
            )
    check_axes(file, checkpoint, plans, configuration)
    for key in ("plans", "dataset_json"):
        value_of(arguments, key, dict, f"{file}, init_args")
    check_plans_of_origin(file, checkpoint, configuration, plans, plans_file)
    if own:
        check_origin(file, checkpoint, check_dataset_json(dataset_json), str(dataset))
    shapes = network_shapes(trainer, with_entry(trainer, plans, dataset_json), configuration, dataset_json)
    check_weights(file, checkpoint[WEIGHTS], shapes, "the plans of its data set ask for")


def check_run(
    output: Path, *, resume: bool, validate: bool, validate_best: bool, pretrained: bool, saves: bool
) -> None:
    """Check what ``nnUNetv2_train`` shall do in a fold: flags that exclude one another, checkpoints that must exist.

    Args:
        output: folder of the fold.
        resume: ``--c``.
        validate: ``--val``.
        validate_best: ``--val_best``.
        pretrained: ``-pretrained_weights`` is given.
        saves: not ``--disable_checkpointing``.

    Raises:
        InputError: nnU-Net could not do it.
    """
    if resume and validate:
        raise InputError("--c goes on with a training and --val only validates one: choose one of them")
    if pretrained and (resume or validate):
        raise InputError(
            "-pretrained_weights is for the start of a training: leave it out, or start anew without --c and --val"
        )
    if validate_best and not saves:
        raise InputError("--val_best needs the checkpoints that --disable_checkpointing does not write: choose one")
    name = "checkpoint_final.pth"
    if validate and not (output / name).is_file():
        raise InputError(f"--val: {output / name} does not exist; finish the training first (with --c)")
    name = "checkpoint_best.pth"
    if validate and validate_best and not (output / name).is_file():
        raise InputError(f"--val_best: {output / name} does not exist; leave it out")


def check_gpus(number: int, device: str) -> None:
    """Check ``-num_gpus``.

    Raises:
        InputError: more than there are, or several that are no GPUs.
    """
    if number > 1 and device != "cuda":
        raise InputError(f"-num_gpus {number}: several devices are for -device cuda, not {device}")
    if number > 1 and number > torch.cuda.device_count():
        raise InputError(f"-num_gpus {number}: there are {torch.cuda.device_count()} GPUs")


@contextlib.contextmanager
def removing_failed_start(output: Path) -> Iterator[None]:
    """Remove the folder of a fold that held nothing before, where its training is refused before it began.

    Args:
        output: folder of the fold, in that of the model, in that of the data set; locked by this process.
    """
    new = not content_of(output)
    try:
        yield
    except (InputError, NotImplementedError):
        if new and not any(output.glob("checkpoint_*.pth")):
            shutil.rmtree(output, ignore_errors=True)
            model = output.parent
            if not any(model.glob("fold_*")):  # of no other fold, which may be training
                shutil.rmtree(model, ignore_errors=True)
            with contextlib.suppress(OSError):
                model.parent.rmdir()
        raise


def _preprocessed(dataset: str) -> str:
    try:
        name = str(maybe_convert_to_dataset_name(dataset))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"data set {dataset!r}: {error}") from error
    folder = os.path.normpath(os.path.join(nnUNet_preprocessed, name))  # a slash at the end is no part of the name
    if not os.path.isdir(folder):
        raise InputError(f"{folder} does not exist; run `nnUNetv2_plan_and_preprocess -d {dataset}` first")
    return folder


def find_own_trainer(name: str) -> type[nnUNetTrainerMMKD]:
    """A trainer class of this package, or a user's own made from it.

    Raises:
        InputError: it is not found, or knows no missing modalities.
    """
    found = find_trainer(name)
    if not issubclass(found, nnUNetTrainerMMKD):
        raise InputError(
            f"{name} is no trainer of nnunetv2-mmkd (no nnUNetTrainerMMKD), so it knows no missing modalities; the "
            "stock network under modality dropout is nnUNetTrainerModalityDropout"
        )
    return found


@contextlib.contextmanager
def pretrained_file(
    dataset: str, configuration: str, trainer: str, plans: str, pretrained: str | None
) -> Iterator[str]:
    """What nnU-Net shall load for ``-pretrained_weights``: the file, or one that is made of it and says so.

    Args:
        dataset, configuration, trainer, plans: as :func:`check_training` has checked them.
        pretrained: the file, or None.

    Raises:
        InputError: it does not fit the network; no folder has been made then.
    """
    if pretrained is None:
        yield ""
        return
    folder = Path(_preprocessed(dataset))
    planned = read_plans(str(folder / f"{plans}.json")).content
    made = fitted(pretrained, find_trainer(trainer), planned, configuration, read_object(folder / "dataset.json"))
    if made is None:
        yield pretrained
        return
    weights, line = made
    logger.info("-pretrained_weights: %s", line)
    with fitted_file(weights) as file:
        yield file


@contextlib.contextmanager
def readable_pretrained(file: str | None) -> Iterator[None]:
    """Turn nnU-Net's complaint about weights of another topology into an error that names the file.

    Raises:
        InputError: instead of the ``AssertionError`` of ``load_pretrained_weights``.
    """
    try:
        yield
    except AssertionError as error:
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        if file is None or "load_pretrained_weights" not in frames:
            raise
        what = str(error).split("; your network")[0]
        raise InputError(misfit(file, what)) from error
