"""What each of two processes runs in test_passion_two_ranks.py; a module, because spawned processes import it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from backbone_gloo_workers import deep_batch, deep_loss
from fusion_networks import network as fusion_network
from gloo_workers import NAMES, SUBSETS, a_batch, tiny_network
from torch import nn

from nnunetv2_mmkd.methods.base import Supply
from nnunetv2_mmkd.methods.passion import PASSION, PASSIONConfig
from nnunetv2_mmkd.methods.pmr import PMR
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.training import gradients


def train(rank: int, world: int, different: bool = True) -> dict[str, Any]:
    """Two epochs of two steps; returns everything that was learned."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = tiny_network(True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(rank if different else 0)
    method = PASSION(PASSIONConfig(gamma=1.0))
    method.setup(
        Supply(
            NAMES,
            torch.device("cpu"),
            average=gradients.average,
            missing_rates=lambda: (0.5, 0.0, 0.75),
            atoms=lambda target: (target, 2),
        )
    )
    method.begin()
    loss = nn.CrossEntropyLoss()
    for epoch in range(2):
        for _ in range(2):
            batch = a_batch(generator, SUBSETS[rank if different else 0])
            optimizer.zero_grad(set_to_none=True)
            method.step(network, batch, loss)["loss"].backward()
            gradients.average_gradients(network.parameters())
            optimizer.step()
        method.end_epoch(network, epoch)
    return {"network": network.state_dict(), "method": method.state_dict()}


def train_pmr(rank: int, world: int, different: bool = True) -> dict[str, Any]:
    """Two epochs of two steps of PMR; returns everything that was learned."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = fusion_network(MMFormerFusion)
    method = PMR()
    method.setup(
        Supply(
            NAMES,
            torch.device("cpu"),
            average=gradients.average,
            iterations=4,
            make_network=lambda: fusion_network(MMFormerFusion),
            atoms=lambda target: (target[0], 2),
        )
    )
    weights = [*network.parameters(), *method.decoder.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(rank if different else 0)
    curves = []
    for epoch in range(2):
        for step in range(2):
            method.start_iteration(network, deep_loss, 2 * epoch + step)
            batch = deep_batch(generator, SUBSETS[rank if different else 0])
            optimizer.zero_grad(set_to_none=True)
            method.step(network, batch, deep_loss)["loss"].backward()
            gradients.fill_missing(weights)
            gradients.average_gradients(weights)
            optimizer.step()
        method.end_epoch(network, epoch)
        curves.append({key: value for key, value in method.curves().items() if not key.startswith("loss")})
    return {"network": network.state_dict(), "method": method.state_dict(), "curves": curves}


def work(rank: int, world: int, store: str, different: bool, out: str) -> None:
    """One process."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        torch.save(train(rank, world, different), f"{out}/{rank}.pt")
        torch.save(train_pmr(rank, world, different), f"{out}/pmr_{rank}.pt")
    finally:
        dist.destroy_process_group()
