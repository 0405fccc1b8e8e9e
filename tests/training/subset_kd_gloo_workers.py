"""What each of two processes runs in test_subset_kd_two_ranks.py; a module, because spawned processes import it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from gloo_workers import NAMES, SUBSETS, a_batch
from torch import Tensor, nn

from nnunetv2_mmkd.methods.base import ExtraNetwork, MembershipClasses, MissingRates, TrainingContext
from nnunetv2_mmkd.methods.subset_kd import SubsetKD, SubsetKDConfig
from nnunetv2_mmkd.networks.availability import condition_norms
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.scale_spec import scale_specs
from nnunetv2_mmkd.networks.masking import mask_inputs
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.networks.tied import tied_encoders
from nnunetv2_mmkd.training import gradients

KINDS = ("told", "streams")


def tiny_network(kind: str) -> Any:
    planned = PlainConvUNet(
        3 if kind == "told" else 1, 3, [4, 6, 8], nn.Conv2d, 3, [1, 2, 2], 1, 2, 1, True, nn.InstanceNorm2d,
        {"affine": True}, nonlin=nn.LeakyReLU,
    )  # fmt: skip
    if kind == "told":
        return mask_inputs(condition_norms(planned, 3), NAMES, "norms")
    fusion = MeanFill(scale_specs(planned.encoder, (16, 16), len(NAMES), 3))
    return MultiStreamUNet(tied_encoders(planned.encoder, 3), fusion, planned.decoder, NAMES)


def classes(target: Tensor) -> tuple[Tensor, int]:
    return target, 2


def train(rank: int, kind: str, different: bool = True) -> dict[str, Any]:
    """Four steps as the trainer takes them; returns everything that was learned."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = tiny_network(kind)
    torch.manual_seed(rank if different else 0)  # the average's network starts differently, and is overwritten
    method = SubsetKD(SubsetKDConfig(ramp=(0.0, 0.5), window=0.4))
    method.setup(
        TrainingContext(
            NAMES, torch.device("cpu"), iterations=4,
            capabilities={
                MembershipClasses: classes, ExtraNetwork: lambda: tiny_network(kind),
                MissingRates: lambda: (0.0, 0.5, 0.2),
            },
        )
    )  # fmt: skip
    method.begin()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(rank if different else 0)
    loss = nn.CrossEntropyLoss()
    for iteration in range(4):
        method.start_iteration(network, loss, iteration)
        batch = a_batch(generator, SUBSETS[rank if different else 0])
        optimizer.zero_grad(set_to_none=True)
        method.step(network, batch, loss)["loss"].backward()
        gradients.fill_missing(network.parameters())  # without deep supervision a head is left unused
        gradients.average_gradients(network.parameters())
        optimizer.step()
        method.end_iteration(network, iteration)
    return {"network": network.state_dict(), "method": method.state_dict(), "optimizer": optimizer.state_dict()}


def work(rank: int, world: int, store: str, out: str) -> None:
    """One process: both kinds of networks, with different batches and with equal ones."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        runs = {(kind, different): train(rank, kind, different) for kind in KINDS for different in (True, False)}
        torch.save(runs, f"{out}/{rank}.pt")
    finally:
        dist.destroy_process_group()
