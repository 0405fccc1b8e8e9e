"""What the importance weights learn on the phantom: the modality that shows the enhancing tumour.

The phantoms are clean and many, so that some hundred iterations are enough to learn from T1ce alone; before a network
can do that, no weight has a reason to rise.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from phantom_images import SIZE, plan, standardised
from torch import Tensor

from nnunetv2_mmkd.methods.base import Batch, NextMetaBatch, TrainingContext
from nnunetv2_mmkd.methods.metakd import MetaKD, MetaKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig, SubsetSampler
from nnunetv2_mmkd.networks.from_plans import multi_stream
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.phantom.case import PhantomConfig, make_brain_case

NAMES = ("t1", "t1ce", "t2", "flair")
TRAINING_CASES, META_CASES, ITERATIONS, INTERVAL = 32, 16, 400, 5


@cache
def cases(enhancing: str) -> tuple[Tensor, Tensor]:
    """Images ``[n, M, *spatial]``, standardised within the brain, and enhancing tumour ``[n, 1, *spatial]``."""
    config = PhantomConfig(size=SIZE, enhancing=enhancing, noise=0.02, bias=0.05, texture=0.02, scale_spread=0.1)
    images, targets = [], []
    for index in range(TRAINING_CASES + META_CASES):
        case = make_brain_case(config, index)
        images.append(torch.from_numpy(standardised(case, NAMES)).float())
        targets.append(torch.from_numpy(case.seg == 4)[None])
    return torch.stack(images), torch.stack(targets)


def learned_logits(seed: int, enhancing: str) -> Tensor:
    """Mean over the last 20 % of the meta-updates of the importance logits, from equal ones."""
    torch.manual_seed(seed)
    images, targets = cases(enhancing)
    network = multi_stream(NetworkRequest(plan(), NAMES, heads=1, deep_supervision=False))
    sampler = SubsetSampler(ModalityDropoutConfig("count_uniform", per="batch"), seed)
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, size: int, dropped: bool) -> Batch:
        chosen = torch.randint(low, high, (size,), generator=generator)
        there = torch.ones(size, len(NAMES), dtype=torch.bool)
        return Batch(images[chosen], sampler(there) if dropped else there, there, targets[chosen])

    def next_meta_batch() -> Batch:
        return draw(TRAINING_CASES, TRAINING_CASES + META_CASES, 4, dropped=False)

    method = MetaKD(MetaKDConfig(init="zeros", meta_interval=INTERVAL, meta_steps=2))
    method.setup(TrainingContext(NAMES, torch.device("cpu"), capabilities={NextMetaBatch: next_meta_batch}))
    loss = DC_and_BCE_loss(
        {}, {"batch_dice": True, "do_bg": True, "smooth": 1e-5, "ddp": False}, dice_class=MemoryEfficientSoftDiceLoss
    )
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    history = []
    for iteration in range(ITERATIONS):
        method.start_iteration(network, loss, iteration)
        if iteration % INTERVAL == 0:
            history.append(method.importance.w.detach().clone())
        optimizer.zero_grad()
        method.step(network, draw(0, TRAINING_CASES, 2, dropped=True), loss)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
    return torch.stack(history[-len(history) // 5 :]).mean(0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101, 102])
def test_t1ce_rises_most_when_the_task_is_enhancing_tumour(one_thread: None, seed: int) -> None:
    logits = learned_logits(seed, "t1ce")
    assert NAMES[int(logits.argmax())] == "t1ce", dict(zip(NAMES, logits.tolist(), strict=True))
    assert logits.max() > 0 and logits.topk(2).values.diff().abs() > 0.2


@pytest.mark.slow
def test_the_winner_moves_with_the_contrast(one_thread: None) -> None:
    logits = learned_logits(100, "flair")
    assert NAMES[int(logits.argmax())] == "flair", dict(zip(NAMES, logits.tolist(), strict=True))
