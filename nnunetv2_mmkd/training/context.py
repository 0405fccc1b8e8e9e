"""What a trainer supplies to its method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunetv2_mmkd.methods.base import (
    ExtraNetwork,
    FeatureWidth,
    FullModalityNetwork,
    LocalLoss,
    MembershipClasses,
    Method,
    MissingRates,
    NextMetaBatch,
    SingleModalityDice,
    TrainingContext,
)
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.networks.slabs import in_slabs
from nnunetv2_mmkd.precision import autocast
from nnunetv2_mmkd.training import gradients
from nnunetv2_mmkd.training.cases import TrainingCases
from nnunetv2_mmkd.training.election import SingleModalityEvaluation
from nnunetv2_mmkd.training.target_classes import membership_classes, task_labels


def training_context(
    host: nnUNetTrainer,
    method: Method[Any],
    modalities: tuple[str, ...],
    *,
    warmup_iterations: int,
    cases: Callable[[], TrainingCases],
    network: Callable[[], Any],
    next_meta_batch: NextMetaBatch,
) -> TrainingContext:
    """What a trainer supplies to its method; costly capabilities only if the method needs them.

    Args:
        host: the trainer, initialised.
        method: the training objective.
        modalities: names of the channels.
        warmup_iterations: length of the full-modality warm-up.
        cases: gives the cases of the fold, from the start of the training on.
        network: gives the bare network.
        next_meta_batch: gives batches of the meta split.
    """
    capabilities: dict[type, Any] = {
        ExtraNetwork: partial(another_network, host),
        FullModalityNetwork: partial(full_modality_network, host),
        MissingRates: lambda: tuple(cases().missing_rates[name] for name in modalities),
        MembershipClasses: partial(membership_classes, label_manager=host.label_manager),
        LocalLoss: local_loss(host),
    }
    if hasattr(network(), "width"):
        capabilities[FeatureWidth] = lambda: int(network().width)
    if NextMetaBatch in method.needs:
        capabilities[NextMetaBatch] = next_meta_batch
    if SingleModalityDice in method.needs:
        capabilities[SingleModalityDice] = SingleModalityEvaluation(host, modalities, network, cases)
    return TrainingContext(
        modalities=modalities,
        device=host.device,
        regions=tuple(task_labels(host.label_manager)),
        exclusive=not host.label_manager.has_regions,
        iterations=host.num_epochs * host.num_iterations_per_epoch,
        epochs=host.num_epochs,
        warmup_iterations=warmup_iterations,
        autocast=partial(autocast, host.device),
        average=gradients.average,
        broadcast=gradients.broadcast,
        log=host.print_to_log_file,
        capabilities=capabilities,
    )


def another_network(host: nnUNetTrainer) -> nn.Module:
    """Another network from the same plans, on the device, with weights of its own."""
    network: nn.Module = host.build_network_architecture(
        host.plans_manager,
        host.configuration_manager,
        host.num_input_channels,
        host.label_manager.num_segmentation_heads,
        host.enable_deep_supervision,
    )
    return network.to(host.device)


def full_modality_network(host: nnUNetTrainer) -> nn.Module:
    """A network as the trainer builds it, for all modalities of the data set in the place of its subset."""
    request = NetworkRequest.from_plans(
        host.plans_manager,
        host.configuration_manager,
        host.label_manager.num_segmentation_heads,
        host.enable_deep_supervision,
    )
    builder: Any = host
    network: nn.Module = builder.build_network(replace(request, subset=()))
    return in_slabs(network.to(host.device))


def local_loss(host: nnUNetTrainer) -> Any:
    """nnU-Net's task loss without exchange between ranks."""
    if not host.is_ddp:
        return host.loss
    host.is_ddp = False
    try:
        return host._build_loss()
    finally:
        host.is_ddp = True
