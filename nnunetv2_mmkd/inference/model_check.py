"""Whether a trained model can be loaded and will predict: its checkpoints, its plans and its network, all checked."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_mmkd.errors import InputError, one_line
from nnunetv2_mmkd.inference.checkpoint_file import WEIGHTS, check_finite, read_nnunet_checkpoint
from nnunetv2_mmkd.inference.model_folder import ModelDescription, TrainedModel, read_model
from nnunetv2_mmkd.inference.planned import check_intensities, check_planned, check_reader, refuse_cascade
from nnunetv2_mmkd.nnunet_json import ORIENTATION, DatasetJson, check_dataset_json, value_of
from nnunetv2_mmkd.paths import EXT_TRAINER, set_ext_trainer
from nnunetv2_mmkd.trainer_lookup import find_trainer

_OF_IMAGES = ("transpose_forward", "foreground_intensity_properties_per_channel")
_OF_INPUT = ("spacing", "normalization_schemes", "use_mask_for_norm", "architecture")


def check_loadable(
    folder: str, folds: Sequence[int | str], checkpoint: str, *, trust: bool = False
) -> ModelDescription:
    """Check that a model can be loaded and predict, before anything else is done with it.

    Args:
        folder: of the model.
        folds: of it.
        checkpoint: file name.
        trust: see :func:`~nnunetv2_mmkd.inference.checkpoint_file.read_nnunet_checkpoint`.

    Returns:
        What the model predicts with.

    Raises:
        InputError: a checkpoint cannot be read or lacks what a prediction needs, the trainer's class is not found, its
            network cannot be built from ``plans.json``, or weights do not fit the network or are not finite.
    """
    model = read_model(folder)
    set_ext_trainer()
    trainer, configuration, shapes = "", "", None
    for fold in folds:
        file = os.path.join(folder, f"fold_{fold}", checkpoint)
        content = read_nnunet_checkpoint(file, mmap=True, trust=trust)
        check_origin(file, content, model.dataset_json, os.path.join(folder, "dataset.json"))
        if shapes is None:  # as nnU-Net: the first fold says what the network is
            trainer, configuration = _training_of(file, content)
            _check_configuration(file, configuration, model)
        check_plans_of_origin(file, content, configuration, model.plans.content, os.path.join(folder, "plans.json"))
        if shapes is None:
            shapes = _network_shapes(file, model, trainer, configuration)
        check_axes(file, content, model.plans.content, configuration)
        check_weights(file, content[WEIGHTS], shapes)
        check_finite(file, content[WEIGHTS])
    return ModelDescription(os.path.abspath(folder), trainer, configuration, tuple(folds), checkpoint)


def check_weights(
    file: str,
    weights: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    asked: str = "plans.json and dataset.json of its folder ask for",
) -> None:
    """Compare a checkpoint's weights with those of a network.

    Args:
        file: for the message.
        weights: of the checkpoint.
        shapes: of the network.
        asked: what asks for the network, for the message.

    Raises:
        InputError: another network's.
    """
    wrong = next((f"it has no {key}" for key in shapes if key not in weights), None)
    wrong = wrong or next((f"it has {key}" for key in weights if key not in shapes), None)
    for key, shape in () if wrong else shapes.items():
        found = tuple(weights[key].shape)
        if found != shape:
            wrong = f"{key} has shape {found} instead of {shape}"
            break
    for key, each in () if wrong else weights.items():  # nnU-Net's decoder has the encoder once more, stored once
        other = weights.get(key.removeprefix("decoder."), each)
        same = other.data_ptr() == each.data_ptr()
        if not same and not torch.equal(other.float().nan_to_num(), each.float().nan_to_num()):
            raise InputError(
                f"{file}: {key} differs from {key.removeprefix('decoder.')}, which is the same weight: copy it again"
            )
    if wrong:
        raise InputError(
            f"{file} is of another network than {asked}: {wrong}. Restore all three files from one training"
        )


def _training_of(file: str, checkpoint: Mapping[str, Any]) -> tuple[str, str]:
    """The trainer and the configuration that a checkpoint says."""
    try:
        arguments = value_of(checkpoint, "init_args", dict, file)
        configuration = value_of(arguments, "configuration", str, f"{file}, init_args")
        return value_of(checkpoint, "trainer_name", str, file), configuration
    except InputError as error:
        raise InputError(f"{error}, as nnU-Net writes it. Copy the checkpoint of the training again") from error


def _check_configuration(file: str, name: str, model: TrainedModel) -> None:
    plans = os.path.join(model.folder, "plans.json")
    if name not in model.plans.configurations:
        raise InputError(
            f"{file} was trained with the configuration {name!r}; {plans} has {', '.join(model.plans.configurations)}: "
            "restore the plans of the training"
        )
    try:
        where = os.path.join(model.folder, "dataset.json")
        planned = check_planned(model.plans.content, name, len(model.modalities), plans)
        refuse_cascade(planned, name)
        check_intensities(model.plans.content, planned, plans)
        check_reader(model.plans.content, plans, model.dataset_json.file_ending, where)
    except NotImplementedError as error:
        raise InputError(f"{plans}: {error}") from error
    except InputError as error:
        raise InputError(f"{error}. Restore the plans of the training") from error


def check_origin(file: str, checkpoint: Mapping[str, Any], now: DatasetJson, dataset: str) -> None:
    """Compare ``dataset.json`` with the one of the training, where the checkpoint has it: order gives the heads.

    Args:
        file: of the checkpoint, for messages.
        checkpoint: its content.
        now: ``dataset.json`` that the weights shall be used with.
        dataset: its file, for messages.

    Raises:
        InputError: they differ, or the checkpoint's is none.
    """
    arguments = checkpoint.get("init_args")
    if not isinstance(arguments, Mapping) or "dataset_json" not in arguments:
        return
    before = check_dataset_json(value_of(arguments, "dataset_json", dict, f"{file}, init_args"), f"{file}, init_args")
    facts = {
        "channel_names": (before.modalities, now.modalities),
        "labels": tuple(list(each.content["labels"].values()) for each in (before, now)),
        "regions_class_order": tuple(each.content.get("regions_class_order") for each in (before, now)),
    }
    moved = [
        name for name, value in before.content["labels"].items() if now.content["labels"].get(name, value) != value
    ]
    if moved:
        facts["labels"] = tuple(
            [f"{name} = {each.content['labels'][name]}" for name in moved] for each in (before, now)
        )
    for key, (old, new) in facts.items():
        if old != new:
            raise InputError(
                f"{dataset}: {key!r} has {_listed(new)}, but {file} was trained with {_listed(old)}. Restore the "
                "dataset.json of the training"
            )


def check_plans_of_origin(
    file: str, checkpoint: Mapping[str, Any], configuration: str, now: dict[str, Any], where: str
) -> None:
    """Compare what plans say of images and network with the plans that a checkpoint has, if it has any.

    Args:
        file: of the checkpoint, for messages.
        checkpoint: its content.
        configuration: one of the plans.
        now: plans that the weights shall be used with.
        where: their file, for messages.

    Raises:
        InputError: they differ, or the checkpoint's are none.
    """
    arguments = checkpoint.get("init_args")
    if not isinstance(arguments, Mapping) or "plans" not in arguments:
        return
    before = _facts(value_of(arguments, "plans", dict, f"{file}, init_args"), configuration)
    for key, value in _facts(now, configuration).items():
        if before[key] != value:
            raise InputError(
                f"{where}: {key!r} is {one_line(value, 150)}, but {file} was trained with "
                f"{one_line(before[key], 150)}. Restore the plans of the training"
            )


def _facts(plans: dict[str, Any], configuration: str) -> dict[str, str]:
    """What a network's input and its layers depend on, as JSON."""
    try:
        planned = PlansManager(plans).get_configuration(configuration).configuration
    except Exception:  # whatever nnU-Net makes of damaged plans
        planned = {}
    found = {**{key: plans.get(key) for key in _OF_IMAGES}, **{key: planned.get(key) for key in _OF_INPUT}}
    return {key: json.dumps(value, default=str, sort_keys=True) for key, value in found.items()}


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) if values is not None else "nothing"


def check_axes(file: str, checkpoint: Mapping[str, Any], plans: dict[str, Any], configuration: str) -> None:
    """Check the axes along which a prediction may mirror.

    Raises:
        InputError: they are none.
    """
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    count = len(PlansManager(plans).get_configuration(configuration).patch_size)
    good = isinstance(axes, (list, tuple)) and all(type(axis) is int and 0 <= axis < count for axis in axes)
    if axes is not None and not good:
        raise InputError(
            f"{file}: 'inference_allowed_mirroring_axes' is {axes!r}: expected axes from 0 to {count - 1}, or None. "
            "Restore the checkpoint of the training"
        )


def _network_shapes(file: str, model: TrainedModel, name: str, configuration: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the network that a checkpoint's trainer builds from the model's plans."""
    try:
        trainer = find_trainer(name)
    except InputError as error:
        raise InputError(
            f"{file}: the class of its trainer {one_line(name, 100)} was not found. This package's trainers are known; "
            f"add the folder of a trainer of your own to {EXT_TRAINER} ({error})"
        ) from error
    plans = os.path.join(model.folder, "plans.json")
    _check_entry(trainer, model, plans)
    try:
        network = _without_memory(trainer, model.plans.content, configuration, model.dataset_json.content)
    except Exception as error:  # what the constructors of networks make of damaged plans
        reason = one_line(error, 300) or type(error).__name__
        raise InputError(
            f"{plans}: the network of {name} cannot be built from the configuration {configuration} ({reason}). "
            "Restore the plans of the training"
        ) from error
    if not network._forward_pre_hooks and "available" not in inspect.signature(network.forward).parameters:
        raise InputError(
            f"{file}: 'trainer_name' is {name}, whose network does not take a mask of the available modalities, but "
            f"{plans} is of a trainer of this package. Restore the checkpoint of the training"
        )
    return _shapes(network)


def _check_entry(trainer: type[Any], model: TrainedModel, where: str) -> None:
    """Compare ``mmkd`` of the plans with what a trainer of this package writes; earlier versions wrote less."""
    if not hasattr(trainer, "plans_entry"):
        return
    labels = PlansManager(model.plans.content).get_label_manager(model.dataset_json.content)
    found, written = model.plans.content["mmkd"], trainer.plans_entry(model.modalities, not labels.has_regions)
    for inside, own, known in (
        ("mmkd", found, written),
        ("mmkd, network", found.get("network", {}), written.get("network", {})),
    ):
        for key in own:
            if key not in known and key != ORIENTATION:
                raise InputError(
                    f"{where}, {inside}: {trainer.__name__} knows no {key!r}. Restore the plans of the training, or "
                    "install the version of nnunetv2-mmkd that wrote them"
                )
    if found.get("exclusive", written["exclusive"]) != written["exclusive"]:
        kind = "regions" if labels.has_regions else "classes"
        raise InputError(
            f"{where}, mmkd: 'exclusive' is {str(found['exclusive']).lower()}, but dataset.json has {kind}. Restore "
            "both from one training"
        )


def build_network(trainer: type[Any], plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]) -> Any:
    """A trainer's network, with new weights."""
    manager = PlansManager(plans)
    planned = manager.get_configuration(configuration)
    return trainer.build_network_architecture(
        manager,
        planned,
        determine_num_input_channels(manager, planned, dataset_json),
        manager.get_label_manager(dataset_json).num_segmentation_heads,
        True,
    )


def network_shapes(
    trainer: type[Any], plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of a trainer's network; built without memory where its class allows that."""
    return _shapes(_without_memory(trainer, plans, configuration, dataset_json))


def _shapes(network: Any) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def _without_memory(trainer: type[Any], plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]) -> Any:
    try:
        with torch.device("meta"):
            return build_network(trainer, plans, configuration, dataset_json)
    except NotImplementedError:  # of a tensor without memory, or of the architecture, which then says so again
        return build_network(trainer, plans, configuration, dataset_json)
