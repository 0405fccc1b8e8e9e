"""``-pretrained_weights``: a start from self-supervision, or from a model of other modalities."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.checkpoint_file import WEIGHTS, check_finite, read_nnunet_checkpoint
from nnunetv2_mmkd.inference.model_check import build_network, network_shapes
from nnunetv2_mmkd.names import modality_names
from nnunetv2_mmkd.networks.warm_start import Misfit, start_by_name, start_encoder
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

ADAPTATION = "nnssl_adaptation_plan"
"""Key of the checkpoints of nnssl (OpenMind, nnFoundation): where the parts of the encoder are."""


def fitted(
    file: str, trainer: type[Any], plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
) -> tuple[dict[str, Tensor], str] | None:
    """The weights that a network starts with, where it cannot take a file's as they are.

    Args:
        file: a checkpoint of nnU-Net, or of nnssl.
        trainer: class that is to be trained.
        plans: its plans.
        configuration: its configuration.
        dataset_json: its data set.

    Returns:
        a state dict and a line for the reader; None: nnU-Net itself can load the file.

    Raises:
        InputError: it does not exist, cannot be read, or is of another topology.
    """
    try:
        checkpoint = read_nnunet_checkpoint(file)
        weights: Mapping[str, Tensor] = checkpoint[WEIGHTS]
        check_finite(file, weights)
    except InputError as error:
        raise InputError(f"-pretrained_weights: {error}") from error
    plans = with_entry(trainer, plans, dataset_json)
    names = modalities_of(plans, dataset_json)
    if names is not None:
        before = checkpoint.get("init_args")
        said = before if isinstance(before, Mapping) else {}
        source = modalities_of(said.get("plans") or {}, said.get("dataset_json"))
        if ADAPTATION in checkpoint:
            return _from_self_supervision(file, checkpoint, trainer, plans, configuration, dataset_json, names)
        if source is not None and source != names:
            network = _network(trainer, plans, configuration, dataset_json)
            _check_encoders(file, weights, network.state_dict())
            try:
                start_by_name(network, weights, names, source)
            except Misfit as error:
                raise InputError(misfit(file, str(error))) from error
            new = [name for name in names if name not in source]
            started = f"; new: {', '.join(new)} (the mean of the others)" if new else ""
            return network.state_dict(), f"{file}: {', '.join(source)} matched by name{started}"
    shapes = network_shapes(trainer, plans, configuration, dataset_json)
    _check_encoders(file, weights, shapes)
    for key, shape in shapes.items():
        if ".seg_layers." in key:  # nnU-Net does not transfer them
            continue
        if key not in weights:
            raise InputError(misfit(file, f"it has no {key}"))
        if tuple(weights[key].shape) != shape:
            raise InputError(misfit(file, f"{key} has shape {tuple(weights[key].shape)} instead of {shape}"))
    return None


def _check_encoders(file: str, weights: Collection[str], network: Collection[str]) -> None:
    """Refuse encoders of several modalities for one of all, which would start as that of the first modality.

    Raises:
        InputError: the weights have several encoders, the network has one.
    """
    several, wanted = (any(key.startswith("encoders.1.") for key in keys) for keys in (weights, network))
    if several and not wanted and any(key.startswith("encoders.0.") for key in network):
        raise InputError(misfit(file, "it has an encoder for each modality, and the network one for all"))


def _from_self_supervision(
    file: str,
    checkpoint: Mapping[str, Any],
    trainer: type[Any],
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
    names: Sequence[str],
) -> tuple[dict[str, Tensor], str]:
    """The encoder of the file in a network whose other parts start anew."""
    encoder = _encoder_weights(file, checkpoint)
    network = _network(trainer, plans, configuration, dataset_json)
    try:
        start_encoder(network, encoder, names, None)
    except Misfit as error:
        raise InputError(
            f"-pretrained_weights: the encoder of {file} is not that of the plans: {error}. Plan the network that it "
            "was trained with (ResEnc-L: nnUNetv2_plan_experiment -pl nnUNetPlannerResEncL), or choose another file"
        ) from error
    return network.state_dict(), f"{file}: the encoder starts from it, decoder and heads start anew"


def _encoder_weights(file: str, checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The encoder's weights under nnU-Net's keys below ``encoder.``.

    Raises:
        InputError: the adaptation plan names no encoder, or the file has nothing of it.
    """
    plan, weights = checkpoint[ADAPTATION], checkpoint[WEIGHTS]
    keys = {}
    for key, own in (("key_to_stem", "stem"), ("key_to_encoder", "stages")):
        value = plan.get(key) if isinstance(plan, Mapping) else None
        if not isinstance(value, str) or not value:
            raise InputError(f"-pretrained_weights: {ADAPTATION} of {file} has no {key!r}; write it anew with nnssl")
        keys[value.strip(".")] = own
    found: dict[str, Tensor] = {}
    for prefix, own in keys.items():  # the stem of a plain U-Net lies within its stages: those come last
        found |= {own + key[len(prefix) :]: value for key, value in weights.items() if key.startswith(f"{prefix}.")}
    if not any(key.startswith("stages.") for key in found):
        raise InputError(
            f"-pretrained_weights: {file} has no weights below {list(keys)[-1]!r}, where its {ADAPTATION} says the "
            "encoder is; only encoders of convolutions can be taken (ResEnc-L, not Primus)"
        )
    return found


def with_entry(trainer: type[Any], plans: dict[str, Any], dataset_json: dict[str, Any]) -> dict[str, Any]:
    """Plans with what a trainer of ours writes into them before its network is built."""
    if not issubclass(trainer, nnUNetTrainerMMKD):
        return plans
    labels = PlansManager(plans).get_label_manager(dataset_json)
    return {**plans, "mmkd": trainer.plans_entry(modality_names(dataset_json), not labels.has_regions)}


def _network(trainer: type[Any], plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]) -> Any:
    """The network with the weights that it starts with, those of a seeded training by its seed."""
    with torch.random.fork_rng(devices=[]):
        if (seed := getattr(trainer, "suffix_seed", None)) is not None:
            torch.manual_seed(seed)
        return build_network(trainer, plans, configuration, dataset_json)


def modalities_of(plans: Any, dataset_json: Any) -> list[str] | None:
    """Names of a network's channels; None where they are not said, or are no modalities.

    Args:
        plans: with our entry, if the trainer is one of ours.
        dataset_json: of its data set.
    """
    try:
        if "mmkd" in plans:
            return list(plans["mmkd"].get("subset") or plans["mmkd"]["modalities"])
        return list(modality_names(dataset_json))
    except (InputError, KeyError, TypeError, AttributeError):
        return None


def misfit(file: str, what: str) -> str:
    """The message about weights of another topology."""
    return (
        f"-pretrained_weights: {file} is from a model of another topology: {what}. Both must have the same plans "
        "(nnUNetv2_move_plans_between_datasets), configuration and kind of network"
    )


@contextmanager
def fitted_file(weights: Mapping[str, Tensor]) -> Iterator[str]:
    """A temporary checkpoint with these weights, for nnU-Net to read."""
    with tempfile.TemporaryDirectory(prefix="mmkd_pretrained_") as folder:
        file = Path(folder) / "checkpoint.pth"
        torch.save({WEIGHTS: dict(weights)}, file)
        yield str(file)
