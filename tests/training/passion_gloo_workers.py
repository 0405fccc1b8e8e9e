"""What each of two processes runs in test_passion_two_ranks.py; a module, because spawned processes import it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from fusion_networks import network as fusion_network
from gloo_workers import NAMES, SUBSETS, a_batch, tiny_network
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from nnunetv2_mmkd.methods.base import ExtraNetwork, LocalLoss, MembershipClasses, MissingRates, TrainingContext
from nnunetv2_mmkd.methods.passion import PASSION, PASSIONConfig
from nnunetv2_mmkd.methods.pmr import PMR
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.training import gradients

CONFIGS = {"paper": PASSIONConfig(regularisation=True), "code": PASSIONConfig.released_code()}
REGULARISED = [("paper", False), ("paper", True), ("code", False), ("code", True)]
"""The configuration, and whether the students are recomputed."""


def train(rank: int, world: int, different: bool = True) -> dict[str, Any]:
    """Two epochs of two steps; returns everything that was learned."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = tiny_network(True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(rank if different else 0)
    method = PASSION(PASSIONConfig(gamma=1.0))
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            average=gradients.average,
            capabilities={MissingRates: lambda: (0.5, 0.0, 0.75), MembershipClasses: lambda target: (target, 2)},
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


COMPANY = ([[True, False, False], [False, True, False]], [[True, True, True], [False, True, True]])
"""Of each rank: on the first no modality has company, so it has no student; the second has five."""


def batch_dice_loss(exchanges: bool) -> nn.Module:
    """nnU-Net's, with a Dice of the batch, of all ranks if asked for."""
    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": exchanges}
    return DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)


def train_regularised(rank: int, world: int, config: str, recomputes: bool) -> dict[str, Any]:
    """Two steps in which the modalities alone get nnU-Net's loss, where the fused one is over all ranks."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = tiny_network(True)
    loss = batch_dice_loss(world > 1)
    method = PASSION(CONFIGS[config])
    method.recomputes = recomputes
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            average=gradients.average,
            capabilities={
                MissingRates: lambda: (0.5, 0.0, 0.75),
                MembershipClasses: lambda target: (target[:, 0], 2),
                LocalLoss: batch_dice_loss(False),
            },
        )
    )
    method.begin()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(rank)
    for step in range(2):
        batch = a_batch(generator, COMPANY[(rank + step) % 2])
        optimizer.zero_grad(set_to_none=True)
        method.step(network, replace(batch, target=batch.target[:, None]), loss)["loss"].backward()
        gradients.average_gradients(network.parameters())
        optimizer.step()
    method.end_epoch(network, 0)
    return {"network": network.state_dict(), "method": method.state_dict()}


def train_pmr(rank: int, world: int, different: bool = True) -> dict[str, Any]:
    """Two epochs of two steps of PMR; returns everything that was learned."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = fusion_network(MMFormerFusion)
    method, loss = PMR(), DeepSupervisionWrapper(batch_dice_loss(world > 1), (0.7, 0.3))
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            average=gradients.average,
            iterations=4,
            capabilities={
                ExtraNetwork: lambda: fusion_network(MMFormerFusion),
                MembershipClasses: lambda target: (target[0][:, 0], 2),
                LocalLoss: DeepSupervisionWrapper(batch_dice_loss(False), (0.7, 0.3)),
            },
        )
    )
    weights = [*network.parameters(), *method.decoder.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(rank if different else 0)
    curves = []
    for epoch in range(2):
        for step in range(2):
            method.start_iteration(network, loss, 2 * epoch + step)
            batch = a_batch(generator, COMPANY[rank if different else 0])
            target = batch.target[:, None]
            batch = replace(batch, target=[target, target[..., ::2, ::2]])
            optimizer.zero_grad(set_to_none=True)
            method.step(network, batch, loss)["loss"].backward()
            gradients.fill_missing(weights)
            gradients.average_gradients(weights)
            optimizer.step()
        method.end_epoch(network, epoch)
        curves.append({key: value for key, value in method.curves().items() if not key.startswith("loss")})
    return {"network": network.state_dict(), "method": method.state_dict(), "curves": curves}


def work(rank: int, world: int, store: str, different: bool, out: str) -> None:
    """One process."""
    patience = timedelta(minutes=3)  # ranks that wait for each other end the test
    dist.init_process_group("gloo", f"file://{store}", patience, world, rank)
    try:
        torch.save(train(rank, world, different), f"{out}/{rank}.pt")
        for config, recomputes in REGULARISED:
            found = train_regularised(rank, world, config, recomputes)
            torch.save(found, f"{out}/{config}_{recomputes}_{rank}.pt")
        torch.save(train_pmr(rank, world, different), f"{out}/pmr_{rank}.pt")
    finally:
        dist.destroy_process_group()
