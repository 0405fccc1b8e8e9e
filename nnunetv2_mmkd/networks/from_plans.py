"""Networks from nnU-Net's plans: whatever nnU-Net planned stays true."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.names import indices
from nnunetv2_mmkd.networks.architecture import UNETS, check_architecture, module_class
from nnunetv2_mmkd.networks.availability import check_encoding, condition_norms
from nnunetv2_mmkd.networks.decoupled import DecoupledUNet
from nnunetv2_mmkd.networks.experts import Gate, GatedExperts
from nnunetv2_mmkd.networks.fusion.base import Fusion
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.scale_spec import ScaleSpec, scale_specs
from nnunetv2_mmkd.networks.fusion.shared_specific import SharedSpecificFusion
from nnunetv2_mmkd.networks.lending import lending_order
from nnunetv2_mmkd.networks.masking import mask_inputs
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.networks.shared_specific import SharedSpecificUNet
from nnunetv2_mmkd.networks.stems import separate_stems
from nnunetv2_mmkd.networks.tied import tied_encoders
from nnunetv2_mmkd.networks.transformer_unet import TransformerUNet

FusionFactory = Callable[[Sequence[ScaleSpec]], Fusion]
"""``scales, largest first -> fusion``."""


def planned_network(request: NetworkRequest, input_channels: int) -> nn.Module:
    """The network exactly as nnU-Net plans and initialises it, for so many input channels.

    Raises:
        InputError: the plans name something else than a network and its layers.
        NotImplementedError: the plan's architecture is not a plain or residual-encoder U-Net.
    """
    configuration = request.configuration
    check_architecture(configuration)
    name = configuration.network_arch_class_name
    found = module_class(name)
    if found is None:
        raise InputError(f"the plans ask for the network {name!r}: expected one below dynamic_network_architectures")
    if not issubclass(found, UNETS):
        raise NotImplementedError(
            f"the plans ask for {found.__name__}; this package builds on the planned encoder and decoder of "
            "PlainConvUNet and ResidualEncoderUNet only"
        )
    planned: nn.Module = get_network_from_plans(
        name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        input_channels,
        request.heads,
        allow_init=True,
        deep_supervision=request.deep_supervision,
    )
    return planned


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
    _require_two(modalities)
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


def shared_specific(request: NetworkRequest) -> SharedSpecificUNet:
    """ShaSpec's network: the planned encoder for one channel once for all modalities and once for each.

    Args:
        request: what is asked for, of at least two modalities. Its option ``fill`` says what stands in for missing ones
            (:class:`~nnunetv2_mmkd.networks.fusion.shared_specific.SharedSpecificFusion`).

    Raises:
        InputError: fewer than two modalities, or another ``fill``.
        NotImplementedError: see :func:`planned_network`.
    """
    modalities = request.modalities
    _require_two(modalities)
    planned: Any = planned_network(request, 1)
    others: list[Any] = [planned_network(request, 1) for _ in modalities]
    patch = request.configuration.patch_size
    scales = scale_specs(planned.encoder, patch, len(modalities), request.heads, request.exclusive)
    fusion = SharedSpecificFusion(scales, request.options.get("fill", "mean"))
    return SharedSpecificUNet(planned.encoder, [each.encoder for each in others], fusion, planned.decoder, modalities)


def decoupled(request: NetworkRequest) -> DecoupledUNet:
    """DeMoSeg's network: the planned one with a stem for each modality.

    Args:
        request: what is asked for, of at least two modalities. Its options: ``lenders``, for each modality the names of
            the others, first the one that lends before the others (by default in channel order), and ``gated``
            (:class:`~nnunetv2_mmkd.networks.decoupled_stem.ChannelExchange`).

    Raises:
        InputError: fewer than two modalities, or other ``lenders``.
        NotImplementedError: see :func:`planned_network`.
    """
    modalities = request.modalities
    _require_two(modalities)
    lenders: Sequence[Sequence[int]] = lending_order(modalities, {})
    if "lenders" in request.options:
        lenders = [[indices([name], modalities)[0] for name in own] for own in request.options["lenders"]]
    planned: Any = planned_network(request, len(modalities))
    gated = bool(request.options.get("gated", True))
    return DecoupledUNet(planned.encoder, planned.decoder, modalities, lenders, gated=gated)


def _require_two(modalities: Sequence[str]) -> None:
    if len(modalities) < 2:
        raise InputError("a multi-stream network needs at least two modalities; train a stock nnU-Net on one")


def gated_experts(request: NetworkRequest) -> GatedExperts:
    """The planned network once for each modality, and a gate that weighs their logits."""
    experts = [planned_network(request, 1) for _ in request.modalities]
    return GatedExperts(
        experts, Gate(len(experts), request.heads, request.configuration.patch_size), request.modalities
    )


def transformer_unet(request: NetworkRequest) -> TransformerUNet:
    """The planned network for all modalities at once, with a multi-scale transformer at its bottleneck."""
    planned: Any = planned_network(request, len(request.modalities))
    strides = [math.prod(axis) for axis in zip(*planned.encoder.strides, strict=True)]
    patch = request.configuration.patch_size
    bottleneck = [max(1, size // stride) for size, stride in zip(patch, strides, strict=True)]
    return TransformerUNet(planned.encoder, planned.decoder, request.modalities, bottleneck)
