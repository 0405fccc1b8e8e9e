"""What each of two processes runs in test_two_ranks.py; a module, because spawned processes import it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from gloo_trainings import EXCHANGING, NAMES, TRAININGS, Process

from nnunetv2_mmkd.methods.base import TrainingContext
from nnunetv2_mmkd.training import gradients


def train(name: str, rank: int, world: int, different: bool = True) -> dict[str, Any]:
    """Train as the trainer does; returns everything that was learned.

    Args:
        name: a key of :data:`~gloo_trainings.TRAININGS`.
        rank: of this process.
        world: number of processes.
        different: whether each rank has batches of its own.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    process = Process(rank, world, rank if different else 0)
    training = TRAININGS[name](process)
    network, method, loss = training.network, training.method, training.loss
    torch.manual_seed(process.source)  # modules of the method start differently
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            regions=("foreground",),
            iterations=training.length,
            average=gradients.average,
            broadcast=gradients.broadcast,
            capabilities=training.capabilities,
        )
    )
    gradients.broadcast(method.trainable())
    method.begin()
    weights = [p for module in (network, *method.trainable()) for p in module.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    parts: dict[str, float] = {}
    curves = []
    for epoch in range(training.epochs):
        for iteration in range(epoch * training.iterations, (epoch + 1) * training.iterations):
            method.start_iteration(network, loss, iteration)
            batch = training.batch(iteration)
            optimizer.zero_grad(set_to_none=True)
            result = method.step(network, batch, loss)
            gradients.take_step(result["loss"], optimizer, None, network, method.trainable())
            method.end_iteration(network, iteration)
            for part, value in result["parts"].items():
                parts[part] = parts.get(part, 0) + float(value)
        method.end_epoch(network, epoch)
        curves.append({key: value for key, value in method.curves().items() if not key.startswith("loss")})
    return {
        "network": network.state_dict(),
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict()["state"],
        "curves": curves,
        "own": {"parts": parts, "election cases": process.election_cases},
    }


def work(rank: int, world: int, store: str, out: str) -> None:
    """One process: all trainings, with batches of its own and with equal ones."""
    patience = timedelta(minutes=3)  # ranks that wait for each other end the test
    dist.init_process_group("gloo", f"file://{store}", patience, world, rank)
    try:
        runs = {(name, True): train(name, rank, world) for name in TRAININGS}
        runs |= {(name, False): train(name, rank, world, False) for name in TRAININGS if name not in EXCHANGING}
        torch.save(runs, f"{out}/{rank}.pt")
    finally:
        dist.destroy_process_group()
