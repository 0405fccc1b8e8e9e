"""What each of two processes runs in test_mst_two_ranks.py; a module, because spawned processes import it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from gloo_workers import NAMES, SUBSETS, a_batch
from torch import nn

from nnunetv2_mmkd.methods.base import ExtraNetwork, TrainingContext
from nnunetv2_mmkd.methods.mst_kdnet import MSTKDNet
from nnunetv2_mmkd.methods.mst_kdnet_config import MSTKDNetConfig
from nnunetv2_mmkd.networks.transformer_unet import TransformerUNet
from nnunetv2_mmkd.training import gradients


def tiny_network() -> TransformerUNet:
    planned = PlainConvUNet(
        3, 3, [4, 6, 8], nn.Conv2d, 3, [1, 2, 2], 1, 2, 1, True, nn.InstanceNorm2d, {"affine": True},
        nonlin=nn.LeakyReLU,
    )  # fmt: skip
    return TransformerUNet(planned.encoder, planned.decoder, NAMES, (4, 4))


def train(rank: int, world: int, different: bool = True) -> dict[str, Any]:
    """Four steps as the trainer takes them; returns everything that was learned."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = tiny_network()
    torch.manual_seed(rank if different else 0)  # teacher and discriminator start differently
    method = MSTKDNet(MSTKDNetConfig())
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            average=gradients.average,
            capabilities={ExtraNetwork: tiny_network},
            broadcast=gradients.broadcast,
        )
    )
    gradients.broadcast(method.trainable())
    joint = [*network.parameters(), *(p for module in method.trainable() for p in module.parameters())]
    optimizer = torch.optim.SGD(joint, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(rank if different else 0)
    loss = nn.CrossEntropyLoss()
    for iteration in range(4):
        method.start_iteration(network, loss, iteration)
        batch = a_batch(generator, SUBSETS[rank if different else 0])
        optimizer.zero_grad(set_to_none=True)
        method.step(network, batch, loss)["loss"].backward()
        gradients.fill_missing(joint)
        gradients.average_gradients(joint)
        optimizer.step()
        method.end_iteration(network, iteration)
    return {"network": network.state_dict(), "method": method.state_dict(), "optimizer": optimizer.state_dict()}


def work(rank: int, world: int, store: str, different: bool, out: str) -> None:
    """One process."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        torch.save(train(rank, world, different), f"{out}/{rank}.pt")
    finally:
        dist.destroy_process_group()
