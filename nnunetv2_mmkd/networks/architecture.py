"""The U-Net that plans describe: names of its layers, one entry for each stage, a patch that its strides divide.

nnU-Net calls whatever the plans name, and leaves out a layer whose name it does not find: all is looked at here first.
"""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dynamic_network_architectures
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_mmkd.errors import InputError, choices, one_line

UNETS = (PlainConvUNet, ResidualEncoderUNet)
"""The networks that this package builds on."""

_PACKAGE = "dynamic_network_architectures."
_MODULES = (_PACKAGE, "torch.nn.")
_LAYERS = {"conv_op": None, "norm_op": "norm_op_kwargs", "dropout_op": "dropout_op_kwargs", "nonlin": "nonlin_kwargs"}
_STAGES = {
    "features_per_stage": 0,
    "kernel_sizes": 0,
    "strides": 0,
    "n_conv_per_stage": 0,
    "n_blocks_per_stage": 0,
    "n_conv_per_stage_decoder": 1,
}  # how many entries fewer than stages
_PER_AXIS = ("kernel_sizes", "strides")
_MOST_STAGES = 16
_MOST = 65536  # of features, convolutions, voxels along an axis


def module_class(name: Any) -> type[nn.Module] | None:
    """The class that plans name, where it is a module of PyTorch or of nnU-Net's architectures; nothing else is called.

    As nnU-Net, a network that has moved is found by its last name.
    """
    if not isinstance(name, str) or not name.startswith(_MODULES):
        return None
    try:
        found = pydoc.locate(name)
        if found is None and name.startswith(_PACKAGE):
            folder = Path(dynamic_network_architectures.__path__[0]) / "architectures"
            found = recursive_find_python_class(
                str(folder), name.rpartition(".")[2], "dynamic_network_architectures.architectures"
            )
    except Exception:  # whatever an import says of a name that is none
        return None
    return found if inspect.isclass(found) and issubclass(found, nn.Module) else None


def check_architecture(planned: ConfigurationManager, inside: str = "the plans") -> None:
    """Check that a planned U-Net can be built and takes the planned patch.

    A network that is named from elsewhere, or is no U-Net, is the business of the trainer that builds it.

    Args:
        planned: the configuration.
        inside: where it stands, for messages.

    Raises:
        InputError: a key is absent or its value is none that the network can use.
    """
    architecture = planned.configuration["architecture"]
    where = f"{inside}, architecture"
    name = architecture.get("network_class_name")
    if not isinstance(name, str):
        raise InputError(f"{where}: 'network_class_name' is {_short(name)}: expected the name of a network")
    if not name.startswith(_MODULES):
        return
    network = module_class(name)
    if network is None:
        raise InputError(f"{where}: 'network_class_name' is {_short(name)}, which is no network of nnU-Net's")
    if not issubclass(network, UNETS):
        return
    arguments = architecture.get("arch_kwargs")
    if not isinstance(arguments, Mapping):
        raise InputError(f"{where}: 'arch_kwargs' is {_short(arguments)}: expected an object")
    _check_keys(network, arguments, where)
    axes = len(planned.patch_size)
    _check_layers(architecture, arguments, axes, where)
    _check_stages(arguments, axes, where)
    check_patch(planned.patch_size, arguments["strides"], f"{inside}: 'patch_size'")


def _check_keys(network: type[nn.Module], arguments: Mapping[str, Any], where: str) -> None:
    parameters = [
        each
        for each in inspect.signature(network).parameters.values()
        if each.name not in ("input_channels", "num_classes")
    ]
    known = [each.name for each in parameters]
    for key in arguments:
        if key not in known:
            raise InputError(f"{where}: {network.__name__} has no {key!r}; it has {choices(key, known)}")
    for each in parameters:
        if each.default is inspect.Parameter.empty and each.name not in arguments:
            raise InputError(f"{where} has no {each.name!r}, which {network.__name__} needs")
    for key in ("conv_bias", "deep_supervision", "nonlin_first"):
        if not isinstance(arguments.get(key, False), bool):
            raise InputError(f"{where}: {key!r} is {_short(arguments[key])}: expected true or false")


def _check_layers(architecture: Mapping[str, Any], arguments: Mapping[str, Any], axes: int, where: str) -> None:
    imported = architecture.get("_kw_requires_import")
    if not isinstance(imported, list | tuple) or not all(isinstance(key, str) for key in imported):
        raise InputError(f"{where}: '_kw_requires_import' is {_short(imported)}: expected names of keys of arch_kwargs")
    for key in imported:
        if key not in arguments:
            raise InputError(f"{where}: '_kw_requires_import' has {key!r}, which 'arch_kwargs' has not")
        if key not in _LAYERS and arguments[key] is not None and module_class(arguments[key]) is None:
            raise _no_layer(arguments, key, where)
    for key, options in _LAYERS.items():
        if arguments.get(key) is None and key != "conv_op":
            continue
        layer = module_class(arguments.get(key))
        if layer is None:
            raise _no_layer(arguments, key, where)
        if key not in imported:
            raise InputError(f"{where}: '_kw_requires_import' lacks {key!r}, so nnU-Net would not find the layer")
        if layer.__name__[-2:] in ("1d", "2d", "3d") and int(layer.__name__[-2]) != axes:
            raise InputError(f"{where}: {key!r} is {arguments[key]}, but 'patch_size' has {axes} axes")
        if key == "conv_op":
            if layer not in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
                raise _no_layer(arguments, key, where)
            continue
        given = arguments.get(str(options)) or {}
        try:
            _try_layer(layer, (4,) if key == "norm_op" else (), given, axes)
        except Exception as error:  # whatever a layer says of arguments that are none of its own
            raise InputError(
                f"{where}: {key!r} {arguments[key]} with {options!r} {_short(given)} is no layer that keeps the shape "
                f"of features ({one_line(error, 150)})"
            ) from error


def _try_layer(layer: type[nn.Module], first: tuple[int, ...], given: Mapping[str, Any], axes: int) -> None:
    """Run a layer on two samples of four channels."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
        features = torch.zeros(2, 4, *[4] * axes)
        result = layer(*first, **given)(features)
    if not isinstance(result, torch.Tensor) or result.shape != features.shape:
        raise ValueError("another shape")


def _no_layer(arguments: Mapping[str, Any], key: str, where: str) -> InputError:
    example = {"conv_op": "torch.nn.modules.conv.Conv3d", "nonlin": "torch.nn.LeakyReLU"}.get(key, "torch.nn....")
    return InputError(
        f"{where}: {key!r} is {_short(arguments.get(key))}: expected a layer below {' or '.join(_MODULES)}, "
        f"such as {example}"
    )


def _check_stages(arguments: Mapping[str, Any], axes: int, where: str) -> None:
    stages = arguments["n_stages"]
    if not _is_count(stages) or not 2 <= stages <= _MOST_STAGES:
        raise InputError(f"{where}: 'n_stages' is {_short(stages)}: expected a whole number from 2 to {_MOST_STAGES}")
    for key, fewer in _STAGES.items():
        values = arguments.get(key)
        if key not in arguments or (_is_count(values) and key != "strides"):
            continue
        if not isinstance(values, list | tuple) or len(values) != stages - fewer:
            raise InputError(
                f"{where}: {key!r} is {_short(values)}: expected a list of {stages - fewer} entries, 'n_stages' is "
                f"{stages}"
            )
        for each in values:
            several = key in _PER_AXIS and isinstance(each, list | tuple)
            if several and len(each) != axes:
                raise InputError(f"{where}: an entry of {key!r} is {_short(each)}: expected {axes} numbers")
            if not all(map(_is_count, each if several else [each])):
                raise InputError(f"{where}: an entry of {key!r} is {_short(each)}: expected whole numbers from 1 on")
    if set(_per_axis(arguments["strides"][0], axes)) != {1}:
        raise InputError(f"{where}: the first entry of 'strides' is {arguments['strides'][0]}: expected 1 on each axis")
    kernels = arguments["kernel_sizes"]
    for each in kernels if isinstance(kernels, list | tuple) else [kernels]:
        if any(size % 2 == 0 for size in _per_axis(each, axes)):
            raise InputError(f"{where}: an entry of 'kernel_sizes' is {each}: expected odd numbers")


def check_patch(patch: Sequence[int], strides: Sequence[Any], what: str = "patch") -> None:
    """Check that a U-Net's strides divide a patch.

    Args:
        patch: voxels along each axis.
        strides: of each stage, one number or one for each axis.
        what: the patch is, for messages.

    Raises:
        InputError: an axis is no multiple of the product of its strides, or one voxel is left at the bottleneck.
    """
    products = [1] * len(patch)
    for each in strides:
        products = [total * stride for total, stride in zip(products, _per_axis(each, len(patch)), strict=True)]
    if any(size % total for size, total in zip(patch, products, strict=True)) or list(patch) == products:
        raise InputError(
            f"{what} {list(patch)}: each axis must be a multiple of {products}, the product of the strides, and more "
            "than one voxel must be left at the bottleneck (it is normalised over space)"
        )


def _per_axis(value: Any, axes: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * axes


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MOST


def _short(value: Any) -> str:
    return one_line(repr(value), 100)
