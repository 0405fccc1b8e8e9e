"""Networks from nnU-Net's plans: whatever nnU-Net planned stays true."""

from __future__ import annotations

import inspect
import math
import pydoc
from collections.abc import Callable, Sequence
from typing import Any

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.availability import check_encoding, condition_norms
from nnunetv2_mmkd.networks.fusion.base import Fusion
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.scale_spec import ScaleSpec, scale_specs
from nnunetv2_mmkd.networks.masking import mask_inputs
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.networks.stems import separate_stems
from nnunetv2_mmkd.networks.tied import tied_encoders
from nnunetv2_mmkd.networks.transformer_unet import TransformerUNet

FusionFactory = Callable[[Sequence[ScaleSpec]], Fusion]
"""``scales, largest first -> fusion``."""

_MODULES = ("dynamic_network_architectures.", "torch.nn.")


def planned_network(request: NetworkRequest, input_channels: int) -> nn.Module:
    """The network exactly as nnU-Net plans and initialises it, for so many input channels.

    Raises:
        InputError: the plans name something else than a network and its layers.
        NotImplementedError: the plan's architecture is not a plain or residual-encoder U-Net.
    """
    configuration = request.configuration
    arguments = configuration.network_arch_init_kwargs
    layers = [arguments.get(key) for key in configuration.network_arch_init_kwargs_req_import]
    for name in (configuration.network_arch_class_name, *(layer for layer in layers if layer is not None)):
        _check_module(name)
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        input_channels,
        request.heads,
        allow_init=True,
        deep_supervision=request.deep_supervision,
    )
    if not isinstance(network, (PlainConvUNet, ResidualEncoderUNet)):
        raise NotImplementedError(
            f"the plans ask for {type(network).__name__}; this package builds on the planned encoder and decoder of "
            "PlainConvUNet and ResidualEncoderUNet only"
        )
    planned: nn.Module = network
    return planned


def _check_module(name: Any) -> None:
    """Plans may come with a model of others, and nnU-Net calls whatever function they name."""
    known = isinstance(name, str) and name.startswith(_MODULES)
    found = pydoc.locate(name) if known else None
    if not known or not (found is None or (inspect.isclass(found) and issubclass(found, nn.Module))):
        raise InputError(f"the plans ask for {name!r}: expected a module below {' or '.join(_MODULES)}")


def early_fusion(request: NetworkRequest) -> nn.Module:
    """The planned network with ``forward(x, available=None)``: missing channels become zero.

    Args:
        request: what is asked for. Its option ``availability``, a key of
            :data:`~nnunetv2_mmkd.networks.availability.ENCODINGS`, says how the network is told what is available.
            ``"none"``, the default: nothing else of the planned network changes; ``"planes"``: it takes 2M channels;
            ``"norms"``: its norms have parameters for missing modalities.

    Raises:
        InputError: another ``availability``.
        NotImplementedError: see :func:`planned_network`; or ``"norms"`` or ``"stems"`` without affine instance norms.
    """
    availability = request.options.get("availability", "none")
    check_encoding(availability)
    channels = len(request.modalities) * (2 if availability == "planes" else 1)
    network = planned_network(request, channels)
    if availability == "norms":
        condition_norms(network, len(request.modalities))
    elif availability == "stems":
        separate_stems(network)
    return mask_inputs(network, request.modalities, availability)


def multi_stream(
    request: NetworkRequest, *, shared: bool = True, own_parts: bool = False, fusion: FusionFactory = MeanFill
) -> MultiStreamUNet:
    """A multi-stream network: the planned encoder for one channel, the planned decoder, a fusion at every scale.

    Args:
        request: what is asked for, of at least two modalities.
        shared: one encoder for all modalities, or one for each.
        own_parts: with a shared encoder, whether each modality has a first convolution and scales and shifts of the
            norms of its own (:func:`~nnunetv2_mmkd.networks.tied.tied_encoders`): a shared encoder cannot know which
            contrast it sees.
        fusion: makes the fusion from what it may know of the scales.

    Raises:
        InputError: fewer than two modalities.
        ValueError: parts of their own with encoders of their own.
        NotImplementedError: see :func:`planned_network`.
    """
    modalities = request.modalities
    if len(modalities) < 2:
        raise InputError("a multi-stream network needs at least two modalities; train a stock nnU-Net on one")
    if own_parts and not shared:
        raise ValueError("separate encoders have all parts of their own: own_parts is for a shared one")
    planned: Any = planned_network(request, 1)
    encoders: list[Any] = [planned.encoder]
    if own_parts:
        encoders = tied_encoders(planned.encoder, len(modalities))
    elif not shared:
        encoders += [planned_network(request, 1).encoder for _ in modalities[1:]]
    patch = request.configuration.patch_size
    scales = scale_specs(planned.encoder, patch, len(modalities), request.heads, request.exclusive)
    return MultiStreamUNet(encoders, fusion(scales), planned.decoder, modalities)


def transformer_unet(request: NetworkRequest) -> TransformerUNet:
    """The planned network for all modalities at once, with a multi-scale transformer at its bottleneck."""
    planned: Any = planned_network(request, len(request.modalities))
    strides = [math.prod(axis) for axis in zip(*planned.encoder.strides, strict=True)]
    patch = request.configuration.patch_size
    bottleneck = [max(1, size // stride) for size, stride in zip(patch, strides, strict=True)]
    return TransformerUNet(planned.encoder, planned.decoder, request.modalities, bottleneck)
