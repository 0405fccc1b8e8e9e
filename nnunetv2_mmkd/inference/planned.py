"""What nnU-Net reads from plans: checked before a training, a measurement or a prediction, by file and key."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nnunetv2
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization, ImageNormalization
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_mmkd.errors import InputError, choices, one_line
from nnunetv2_mmkd.networks.architecture import check_architecture
from nnunetv2_mmkd.nnunet_json import names_of_list, value_of

_OF_PLANS: Mapping[str, type] = {
    "dataset_name": str,
    "plans_name": str,
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
_READER = "image_reader_writer"
_INTENSITIES = "foreground_intensity_properties_per_channel"
_OF_CT = ("mean", "std", "percentile_00_5", "percentile_99_5")
_LARGEST_PATCH = 8192  # voxels along an axis
_LARGEST_BATCH = 65536
_SMALLEST_SPACING, _LARGEST_SPACING = 1e-4, 1e4  # mm

_RESAMPLED = ["data", "new_shape", "current_spacing", "new_spacing"]
_MODES = ("linear", "bilinear", "trilinear", "bicubic", "area", "nearest", "nearest-exact")
_ORDER = (lambda value: type(value) is int and 0 <= value <= 5, "a whole number from 0 to 5")
_RESAMPLING_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "order": _ORDER,
    "order_z": _ORDER,
    "force_separate_z": (lambda value: value is None or type(value) is bool, "true, false or null"),
    "separate_z_anisotropy_threshold": (
        lambda value: type(value) in (int, float) and 1 <= value < math.inf,
        "a number from 1 on",
    ),
    "mode": (lambda value: value in _MODES, f"one of {', '.join(_MODES)}"),
    "aniso_axis_mode": (lambda value: value in _MODES, f"one of {', '.join(_MODES)}"),
    "memefficient_seg_resampling": (lambda value: type(value) is bool, "true or false"),
    "num_threads": (lambda value: type(value) is int and value >= 1, "a whole number from 1 on"),
}
"""What arguments of nnU-Net's functions for resampling can be."""


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
    what = f"{inside}: 'patch_size'"
    _check_numbers(planned.patch_size, (2, 3), int, what, 1, _LARGEST_PATCH)
    what = f"{inside}: 'spacing'"
    _check_numbers(planned.spacing, (axes,), (int, float), what, _SMALLEST_SPACING, _LARGEST_SPACING)
    forward, backward = (list(map(repr, manager.plans[f"transpose_{way}"])) for way in ("forward", "backward"))
    if sorted(forward) != ["0", "1", "2"] or backward != [str(forward.index(str(axis))) for axis in range(3)]:
        raise InputError(
            f"{where}: 'transpose_forward' is {manager.plans['transpose_forward']}, 'transpose_backward' "
            f"{manager.plans['transpose_backward']}: expected 0, 1 and 2 in some order, and what turns that back"
        )
    for key in ("normalization_schemes", "use_mask_for_norm"):
        count = len(planned.configuration[key])
        if count != channels:
            raise InputError(f"{inside}: {key!r} has {count} entries for {channels} modalities")
    if not all(isinstance(each, bool) for each in planned.use_mask_for_norm):
        raise InputError(f"{inside}: 'use_mask_for_norm' is {planned.use_mask_for_norm}: expected true or false in it")
    for name in names_of_list(planned.configuration, "normalization_schemes", inside):
        _check_named(name, "preprocessing.normalization", ImageNormalization, f"{inside}: 'normalization_schemes'")
    name = planned.preprocessor_name
    _check_named(name, "preprocessing", DefaultPreprocessor, f"{inside}: 'preprocessor_name'")
    _check_named(plans["label_manager"], "utilities.label_handling", LabelManager, f"{where}: 'label_manager'")
    for key in _RESAMPLING:
        _check_resampling(planned.configuration, key, inside)
    _check_stages(planned, plans, inside)
    check_architecture(planned, inside)
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
    if not 1 <= size <= _LARGEST_BATCH:
        raise InputError(f"{inside}: 'batch_size' is {size}: expected 1 to {_LARGEST_BATCH}")
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
    found = _check_named(plans[_READER], "imageio", BaseReaderWriter, f"{where}: {_READER!r}")
    known = found.supported_file_endings
    if ending.lower() not in known:
        raise InputError(
            f"{dataset}: 'file_ending' is {ending}, which the reader of the model's plans does not take "
            f"(it takes {', '.join(known)})"
        )


def refuse_cascade(planned: ConfigurationManager, name: str) -> None:
    """Refuse a configuration that belongs to a cascade.

    Args:
        planned: the configuration.
        name: its own.

    Raises:
        NotImplementedError: it does.
    """
    if planned.previous_stage_name is not None or planned.next_stage_names:
        raise NotImplementedError(
            f"the configuration {name} belongs to a cascade; trainers of this package do not support cascades, because "
            "the previous stage would need its own subset. Train 2d or 3d_fullres"
        )


def check_intensities(plans: Mapping[str, Any], planned: ConfigurationManager, where: str) -> None:
    """Check what a prediction reads of the training's intensities.

    Args:
        plans: content of the file.
        planned: the configuration.
        where: file of the plans, for messages.

    Raises:
        InputError: a channel has none, or not those that its normalisation needs.
    """
    for channel, name in enumerate(planned.normalization_schemes):
        values = value_of(plans[_INTENSITIES], str(channel), dict, f"{where}, {_INTENSITIES}")
        scheme = _named(name, "preprocessing.normalization")
        for key in _OF_CT if issubclass(scheme, CTNormalization) else ():
            value = values.get(key)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(
                    f"{where}, {_INTENSITIES}, channel {channel}: {key!r} is {value!r}: {name} needs a number"
                )


def check_data_set(plans: Mapping[str, Any], where: str, name: str) -> None:
    """Check that plans are of the data set in whose folder they lie, since nnU-Net trains on the one that they name.

    Raises:
        InputError: they are another's.
    """
    named = value_of(plans, "dataset_name", str, where)
    if named != name:
        raise InputError(
            f"{where}: 'dataset_name' is {one_line(named, 100)!r}, so these are plans of another data set than {name}: "
            "restore them, or bring plans over with `nnUNetv2_move_plans_between_datasets`"
        )


def _named(name: str, package: str) -> Any:
    """What nnU-Net finds under a name in a package of its own; None: nothing."""
    folder = Path(nnunetv2.__path__[0], *package.split("."))
    try:
        return recursive_find_python_class(str(folder), name, f"nnunetv2.{package}")
    except Exception:  # whatever its look-up says of a name that is none
        return None


def _check_named(name: str, package: str, kind: type, what: str) -> Any:
    """A class that plans name, which must be of a kind."""
    found = _named(name, package)
    if not inspect.isclass(found) or not issubclass(found, kind) or inspect.isabstract(found):
        raise InputError(f"{what} is {one_line(name, 100)!r}: nnU-Net knows no {kind.__name__} of this name")
    return found


def _check_resampling(configuration: Mapping[str, Any], key: str, inside: str) -> None:
    """The function of a name must take what nnU-Net hands it, and labels only where it resamples labels."""
    function, given = _named(configuration[key], "preprocessing.resampling"), configuration[f"{key}_kwargs"]
    parameters = inspect.signature(function).parameters if inspect.isfunction(function) else {}
    if list(parameters)[: len(_RESAMPLED)] != _RESAMPLED:
        raise InputError(f"{inside}: nnU-Net knows no {key!r} {one_line(configuration[key], 100)!r}")
    for name in given:
        if name not in parameters or name in _RESAMPLED:
            known = list(parameters)[len(_RESAMPLED) :]
            raise InputError(
                f"{inside}, {key}_kwargs: {configuration[key]} does not take {name!r}; it takes {choices(name, known)}"
            )
    if "is_seg" in parameters:
        given = {"is_seg": parameters["is_seg"].default, **given}
    for name, value in given.items():
        good, expected = _RESAMPLING_VALUES.get(name, (lambda _: True, ""))
        if name == "is_seg":
            good, expected = (lambda value: value is (key == _RESAMPLING[1])), str(key == _RESAMPLING[1]).lower()
        if not good(value):
            raise InputError(f"{inside}, {key}_kwargs: {name!r} is {one_line(value, 60)}: expected {expected}")


def _check_stages(planned: ConfigurationManager, plans: Mapping[str, Any], inside: str) -> None:
    """The stages of a cascade are configurations."""
    for key in ("previous_stage", "next_stage"):
        stages = planned.configuration.get(key)
        for name in stages if isinstance(stages, list) else [stages]:
            if name is not None and name not in list(plans["configurations"]):
                raise InputError(f"{inside}: {key!r} is {one_line(name, 60)!r}: expected one of the configurations")


def _check_numbers(
    values: Sequence[Any], lengths: Sequence[int], kind: Any, what: str, least: float, most: float
) -> None:
    good = all(isinstance(each, kind) and type(each) is not bool and least <= each <= most for each in values)
    if len(values) not in lengths or not good:
        raise InputError(
            f"{what} is {one_line(values, 100)}: expected {' or '.join(map(str, lengths))} numbers from {least:g} to "
            f"{most:g}"
        )
