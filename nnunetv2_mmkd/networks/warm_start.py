"""A network that starts from the weights of one with other channels: matched by name, or of one channel without a name.

Legend: M modalities of the network, N of the weights, F features of the first convolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill, MeanFillProjection
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.networks.stems import ModalityStems

Weights = Mapping[str, Tensor]
NOBODY = ""
"""Name of the column of a shared encoder: no modality's, so the mean of all."""


class Misfit(Exception):
    """What of the weights does not fit the network."""


def start_encoder(network: nn.Module, weights: Weights, names: Sequence[str], source: Sequence[str] | None) -> None:
    """Copy the weights of an encoder into the encoder, or encoders, of a network.

    The first convolution, of N channels, becomes that of the network:

    - streams: the column of their modality, in a shared encoder the mean of all; of one channel it is taken as it is;
    - early fusion: each modality its column; a single column without a name is divided by M, so that M equal images
      give what one gave;
    - stems: each modality its column, and the planned norm.

    A modality that the weights do not have gets the mean of their columns.

    Args:
        network: planned, with ``encoder``, or a multi-stream network.
        weights: keys below the encoder (``stem.convs.0.conv.weight``, ``stages.0...``).
        names: of the network's M modalities.
        source: of the N columns; None: one column without a name.

    Raises:
        Misfit: a key that is absent or of another shape.
    """
    if isinstance(network, MultiStreamUNet):
        encoders: list[Any] = list(network.encoders)
        alone = len(encoders) > 1
        for number, encoder in enumerate(encoders):
            _start(encoder, weights, [names[number] if alone else NOBODY], source)
    else:
        _start(getattr(network, "encoder", network), weights, names, source)


@torch.no_grad()
def _start(encoder: Any, weights: Weights, names: Sequence[str], source: Sequence[str] | None) -> None:
    first = next(module for module in encoder.modules() if isinstance(module, _ConvNd))
    stems = next((module for module in encoder.modules() if isinstance(module, ModalityStems)), None)
    own = {id(parameter) for parameter in stems.parameters()} if stems is not None else set()
    for key, parameter in encoder.named_parameters():
        name = key.replace(".all_modules.0.conv.", ".conv.").replace(".all_modules.0.norm.", ".norm.")
        if name not in weights:
            raise Misfit(f"it has no {name}")
        value = weights[name]
        if parameter is first.weight:
            value = _columns(value, name, names, source)
            if stems is not None:
                value = value.transpose(0, 1).flatten(0, 1)[:, None]
            elif source is None and first.in_channels > 1:
                value = value / len(names)
            if value.shape[1] < parameter.shape[1]:  # the planes that say what is available start as they were made
                value = torch.cat([value, parameter[:, value.shape[1] :]], 1)
        elif id(parameter) in own:
            value = value.repeat(len(names))
        if value.shape != parameter.shape:
            raise Misfit(f"{name} has shape {tuple(value.shape)} instead of {tuple(parameter.shape)}")
        parameter.copy_(value)


def _columns(weight: Tensor, key: str, names: Sequence[str], source: Sequence[str] | None) -> Tensor:
    """Columns ``[F, M, ...]`` of a first convolution ``[F, N, ...]`` for the modalities, by name."""
    count = 1 if source is None else len(source)
    if weight.shape[1] != count:
        raise Misfit(f"{key} takes {weight.shape[1]} channels, {count} were expected")
    mean = weight.mean(1)
    return torch.stack([weight[:, source.index(name)] if source and name in source else mean for name in names], 1)


@torch.no_grad()
def start_by_name(network: nn.Module, weights: Weights, names: Sequence[str], source: Sequence[str]) -> None:
    """Copy the weights of a network of the same kind that has other modalities, or the same in another order.

    Modalities are matched by name; one that the weights do not have starts as the mean of theirs. The segmentation
    heads are left out, as nnU-Net leaves them out.

    Args:
        network: early fusion without stems, or streams whose fusion is MetaKD's or has no parameters.
        weights: a whole state dict.
        names: of the network's modalities.
        source: of the weights'.

    Raises:
        Misfit: another kind of network, or parts for each modality that cannot be matched.
    """
    state = network.state_dict()
    if isinstance(network, MultiStreamUNet):
        if not isinstance(network.fusions, MeanFill) and any(True for _ in network.fusions.parameters()):
            fusion = type(network.fusions).__name__
            raise Misfit(f"its modalities are others, and its fusion, {fusion}, cannot be matched by name")
        prefix = "encoders."
        for number, encoder in enumerate(network.encoders):
            copies = [number] if network.shared else _sources(names[number], source)
            for key in encoder.state_dict():
                found = [_get(weights, f"{prefix}{copy}.{key}") for copy in copies]
                _put(state, f"{prefix}{number}.{key}", torch.stack(found).mean(0))
    else:
        if any(isinstance(module, ModalityStems) for module in network.modules()):
            raise Misfit("it has a stem for each modality, which are in another order")
        prefix = "encoder."
        start_encoder(network, {k.removeprefix(prefix): v for k, v in weights.items()}, names, source)
    of_modalities = {
        f"{name}.weight" for name, module in network.named_modules() if isinstance(module, MeanFillProjection)
    }
    for key in state:
        if not key.startswith((prefix, "decoder.encoder.")) and ".seg_layers." not in key:
            value = _get(weights, key)
            if key in of_modalities:
                value = _columns(value.transpose(0, 1), key, names, source).transpose(0, 1)
            _put(state, key, value)


def _sources(name: str, source: Sequence[str]) -> list[int]:
    return [source.index(name)] if name in source else list(range(len(source)))


def _get(weights: Weights, key: str) -> Tensor:
    if key not in weights:
        raise Misfit(f"it has no {key}")
    return weights[key]


def _put(state: Weights, key: str, value: Tensor) -> None:
    """Into the network itself: a state dict shares its memory."""
    if state[key].shape != value.shape:
        raise Misfit(f"{key} has shape {tuple(value.shape)} instead of {tuple(state[key].shape)}")
    state[key].copy_(value)
