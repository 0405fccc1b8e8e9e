"""What each of two processes runs in test_lckd_two_ranks.py; a module, because spawned processes import it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from gloo_workers import NAMES, SUBSETS, a_batch, tiny_network
from torch import Tensor, nn

from nnunetv2_mmkd.methods.base import SingleModalityDice, TrainingContext
from nnunetv2_mmkd.methods.lckd import LCKD, LCKDConfig
from nnunetv2_mmkd.training import gradients
from nnunetv2_mmkd.training.election import dice_by_task, from_all_ranks

CASES = 3
FULL = [[True] * 3] * 2


def train(rank: int, world: int, different: bool = True) -> dict[str, Any]:
    """Four steps of LCKD with an election before each; returns everything that was learned."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = tiny_network(True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(rank if different else 0)
    voting = a_batch(torch.Generator().manual_seed(7), FULL), a_batch(torch.Generator().manual_seed(8), FULL)
    images, truth = (torch.cat([getattr(batch, part) for batch in voting])[:CASES] for part in ("images", "target"))
    mine: list[int] = []

    @torch.no_grad()
    def single_modality_dice(**_: Any) -> Tensor:
        rows = {}
        for case in range(rank, CASES, world):
            mine.append(case)
            logits = [network(images[case][None], torch.eye(len(NAMES)).bool()[m])[0] for m in range(len(NAMES))]
            rows[str(case)] = torch.stack([dice_by_task(each, truth[case], [(1,)], regions=False) for each in logits])
        rows = from_all_ranks(rows)
        return torch.stack([rows[str(case)] for case in range(CASES)])

    method = LCKD(LCKDConfig(alpha=1.0, election_interval=1))
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            average=gradients.average,
            regions=("foreground",),
            capabilities={SingleModalityDice: single_modality_dice},
        )
    )
    loss = nn.CrossEntropyLoss()
    distilled = 0.0
    for iteration in range(4):
        method.start_iteration(network, loss, iteration)
        batch = a_batch(generator, SUBSETS[rank if different else 0] if iteration % 2 else FULL)
        optimizer.zero_grad(set_to_none=True)
        result = method.step(network, batch, loss)
        distilled += float(result["parts"]["distillation"])
        result["loss"].backward()
        gradients.average_gradients(network.parameters())
        optimizer.step()
    assert distilled > 0
    return {"network": network.state_dict(), "method": method.state_dict(), "mine": mine}


def work(rank: int, world: int, store: str, different: bool, out: str) -> None:
    """One process."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        torch.save(train(rank, world, different), f"{out}/{rank}.pt")
    finally:
        dist.destroy_process_group()
