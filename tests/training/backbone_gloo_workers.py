"""What each of two processes runs in test_backbones_two_ranks.py; a module, because spawned processes import it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from fusion_networks import network
from gloo_workers import NAMES, SUBSETS, a_batch
from torch import Tensor, nn

from nnunetv2_mmkd.methods.auxiliary import Auxiliary, AuxiliaryConfig
from nnunetv2_mmkd.methods.base import Batch, ExtraNetwork, TrainingContext
from nnunetv2_mmkd.networks.fusion.m2ftrans import M2FTransFusion
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.training import gradients

FUSIONS = {"mmformer": MMFormerFusion, "rfnet": RFNetFusion, "m2ftrans": M2FTransFusion}

KINDS = (True, False)


def deep_loss(outputs: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Cross entropy at both scales of deep supervision."""
    return torch.stack([nn.functional.cross_entropy(*pair) for pair in zip(outputs, targets, strict=True)]).sum()


def deep_batch(generator: torch.Generator, masks: Any) -> Batch:
    """A batch with targets at both scales."""
    batch = a_batch(generator, masks)
    return replace(batch, target=[batch.target, batch.target[:, ::2, ::2]])


def train(rank: int, world: int, fusion: str, different: bool = True) -> dict[str, Any]:
    """Four steps as the trainer takes them, two of them warm-up; returns everything that was learned."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    make = partial(network, FUSIONS[fusion])
    net = make()
    torch.manual_seed(rank if different else 0)  # auxiliary decoders start differently
    method = Auxiliary(AuxiliaryConfig(warmup_share=0.5))
    method.setup(
        TrainingContext(
            NAMES, torch.device("cpu"), average=gradients.average, iterations=4, capabilities={ExtraNetwork: make}
        )
    )
    gradients.broadcast(method.trainable())
    joint = [parameter for module in method.trainable() for parameter in module.parameters()]
    optimizer = torch.optim.SGD([*net.parameters(), *joint], lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(rank if different else 0)
    for iteration in range(4):
        method.start_iteration(net, deep_loss, iteration)
        batch = deep_batch(generator, SUBSETS[rank if different else 0])
        optimizer.zero_grad(set_to_none=True)
        method.step(net, batch, deep_loss)["loss"].backward()
        gradients.fill_missing([*net.optional_parameters(), *joint])
        gradients.average_gradients([*net.parameters(), *joint])
        optimizer.step()
        method.end_iteration(net, iteration)
    return {"network": net.state_dict(), "method": method.state_dict(), "optimizer": optimizer.state_dict()}


def work(rank: int, world: int, store: str, out: str) -> None:
    """One process: all fusions, with different batches and with equal ones."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        runs = {(fusion, different): train(rank, world, fusion, different) for fusion in FUSIONS for different in KINDS}
        torch.save(runs, f"{out}/{rank}.pt")
    finally:
        dist.destroy_process_group()
