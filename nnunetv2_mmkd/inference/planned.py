"""What nnU-Net reads from plans: checked before a training, a measurement or a prediction, by file and key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.nnunet_json import value_of

_OF_PLANS: Mapping[str, type] = {
    "dataset_name": str,
    "image_reader_writer": str,
    "label_manager": str,
    "transpose_forward": list,
    "transpose_backward": list,
    "foreground_intensity_properties_per_channel": dict,
}
_RESAMPLING = ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities")
_OF_CONFIGURATION: Mapping[str, type] = {
    "preprocessor_name": str,
    "patch_size": list,
    "spacing": list,
    "normalization_schemes": list,
    "use_mask_for_norm": list,
    "architecture": dict,
    **dict.fromkeys(_RESAMPLING, str),
    **dict.fromkeys([f"{name}_kwargs" for name in _RESAMPLING], dict),
}
_CLASSES = ("preprocessor_class", *_RESAMPLING)
_READER = "image_reader_writer"


def check_planned(plans: dict[str, Any], configuration: str, channels: int, where: str) -> ConfigurationManager:
    """Check what nnU-Net reads from a configuration in training and prediction alike.

    Args:
        plans: content of the file, of which the configuration is one.
        configuration: its name.
        channels: number of the data set's.
        where: file of the plans, for messages.

    Returns:
        the configuration, with what it inherits.

    Raises:
        InputError: a key is absent or its value is none that nnU-Net can use.
    """
    manager = PlansManager(plans)
    for key, kind in _OF_PLANS.items():
        value_of(manager.plans, key, kind, where)
    inside = f"{where}, configurations, {configuration}"
    try:
        planned = manager.get_configuration(configuration)
    except Exception as error:  # inherits from nothing, or in a circle; or is of an old kind and not complete
        raise InputError(f"{inside} cannot be used ({type(error).__name__}: {error})") from error
    for key, kind in _OF_CONFIGURATION.items():
        value_of(planned.configuration, key, kind, inside)
    axes = len(planned.patch_size)
    _check_numbers(planned.patch_size, (2, 3), int, f"{inside}: 'patch_size'")
    _check_numbers(planned.spacing, (axes,), (int, float), f"{inside}: 'spacing'")
    for key in ("transpose_forward", "transpose_backward"):
        if sorted(map(str, manager.plans[key])) != ["0", "1", "2"]:
            raise InputError(f"{where}: {key!r} is {manager.plans[key]}: expected 0, 1 and 2 in some order")
    for key in ("normalization_schemes", "use_mask_for_norm"):
        count = len(planned.configuration[key])
        if count != channels:
            raise InputError(f"{inside}: {key!r} has {count} entries for {channels} modalities")
    for key in _CLASSES:
        if _found(planned, key) is None:
            name = key.removesuffix("_class").replace("preprocessor", "preprocessor_name")
            raise InputError(f"{where}: nnU-Net knows no {name!r} {planned.configuration[name]!r}")
    _check_dimensions(planned.configuration["architecture"], axes, inside)
    return planned


def check_trainable(planned: ConfigurationManager, inside: str) -> None:
    """Check what only a training reads from a configuration.

    Args:
        planned: the configuration.
        inside: where it stands, for messages.

    Raises:
        InputError: no batch, a batch of no cases, or no word about Dice's sums.
    """
    size = value_of(planned.configuration, "batch_size", int, inside)
    if size < 1:
        raise InputError(f"{inside}: 'batch_size' is {size}: expected 1 or more")
    value_of(planned.configuration, "batch_dice", bool, inside)
    value_of(planned.configuration, "data_identifier", str, inside)


def check_reader(plans: dict[str, Any], where: str, ending: str, dataset: str) -> None:
    """Check that the planned reader exists and takes the data set's files.

    Args:
        plans: content of the file.
        where: file of the plans, for messages.
        ending: of the data set's files.
        dataset: its ``dataset.json``, for messages.

    Raises:
        InputError: nnU-Net has no such reader, or it reads other formats.
    """
    manager = PlansManager(plans)
    found = _found(manager, f"{_READER}_class")
    if found is None:
        raise InputError(f"{where}: nnU-Net knows no {_READER!r} {manager.plans[_READER]!r}")
    known = found.supported_file_endings
    if ending.lower() not in known:
        raise InputError(
            f"{dataset}: 'file_ending' is {ending}, which the reader of the model's plans does not take "
            f"(it takes {', '.join(known)})"
        )


def _found(owner: Any, key: str) -> Any:
    try:
        return getattr(owner, key)
    except Exception:  # whatever its look-up says of a name that is none
        return None


def _check_dimensions(architecture: Mapping[str, Any], axes: int, inside: str) -> None:
    """A patch of three axes needs a network of three."""
    value_of(architecture, "network_class_name", str, f"{inside}, architecture")
    arguments = value_of(architecture, "arch_kwargs", dict, f"{inside}, architecture")
    operation = arguments.get("conv_op")
    if isinstance(operation, str) and operation.endswith(("1d", "2d", "3d")) and int(operation[-2]) != axes:
        raise InputError(f"{inside}: 'patch_size' has {axes} axes, but 'conv_op' of the architecture is {operation}")
    for key in ("kernel_sizes", "strides"):
        entries = arguments.get(key)
        for each in entries if isinstance(entries, list) else []:
            if isinstance(each, list):
                _check_numbers(each, (axes,), int, f"{inside}, architecture: an entry of {key!r}")


def _check_numbers(values: Sequence[Any], lengths: Sequence[int], kind: Any, what: str) -> None:
    good = all(isinstance(each, kind) and type(each) is not bool and 0 < each < math.inf for each in values)
    if len(values) not in lengths or not good:
        raise InputError(f"{what} is {values}: expected {' or '.join(map(str, lengths))} positive numbers")
