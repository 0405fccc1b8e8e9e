"""What each of two processes runs in test_two_ranks.py; a module, because spawned processes import it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from nnunetv2_mmkd.methods.base import Batch, NextMetaBatch, TrainingContext
from nnunetv2_mmkd.methods.metakd import MetaKD, MetaKDConfig
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.scale_spec import scale_specs
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.training import gradients

NAMES = ("t1", "t2", "flair")
SUBSETS = ([[True, True, False], [True, False, False]], [[False, True, False], [True, True, False]])
"""Of each rank. The third modality occurs on none, the second not in every sample."""


def tiny_network(shared: bool) -> MultiStreamUNet:
    def planned() -> PlainConvUNet:
        return PlainConvUNet(
            1, 3, [4, 6, 8], nn.Conv2d, 3, [1, 2, 2], 1, 2, 1, True, nn.InstanceNorm2d, {"affine": True},
            nonlin=nn.LeakyReLU,
        )  # fmt: skip

    first = planned()
    encoders = [first.encoder] if shared else [first.encoder, planned().encoder, planned().encoder]
    fusion = MeanFill(scale_specs(first.encoder, (16, 16), len(NAMES), 3))
    return MultiStreamUNet(encoders, fusion, first.decoder, NAMES)


def a_batch(generator: torch.Generator, masks: Any) -> Batch:
    available = torch.tensor(masks)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    target = torch.randint(0, 2, (2, 16, 16), generator=generator)
    return Batch(images, available, available, target)


def train(rank: int, world: int, shared: bool, different: bool = True) -> dict[str, Any]:
    """Four steps of MetaKD with a meta-update in each; returns everything that was learned."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = tiny_network(shared)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(rank if different else 0)
    method = MetaKD(MetaKDConfig(meta_interval=1, meta_steps=2))
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            capabilities={NextMetaBatch: lambda: a_batch(generator, [[True] * 3] * 2)},
            average=gradients.average,
        )
    )
    loss = nn.CrossEntropyLoss()
    for iteration in range(4):
        method.start_iteration(network, loss, iteration)
        batch = a_batch(generator, SUBSETS[rank if different else 0])
        optimizer.zero_grad(set_to_none=True)
        method.step(network, batch, loss)["loss"].backward()
        gradients.fill_missing(network.optional_parameters())
        gradients.average_gradients(network.parameters())
        optimizer.step()
    return {"network": network.state_dict(), "method": method.state_dict(), "optimizer": optimizer.state_dict()}


def work(rank: int, world: int, store: str, shared: bool, different: bool, out: str) -> None:
    """One process."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        torch.save(train(rank, world, shared, different), f"{out}/{rank}.pt")
    finally:
        dist.destroy_process_group()
