"""What the importance weights learn on the phantom: the modality that shows the enhancing tumour.

The phantoms are clean and many, so that some hundred iterations are enough to learn from T1ce alone; before a network
can do that, no weight has a reason to rise. Two-dimensional, so that it takes seconds. Length and learning rate were
chosen on seeds 100 and 101.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from phantom_images import SIZE, Slices, plan, tumour_slices
from torch import Tensor

from nnunetv2_mmkd.methods.base import Batch, NextMetaBatch, TrainingContext
from nnunetv2_mmkd.methods.metakd import MetaKD
from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig, SubsetSampler
from nnunetv2_mmkd.networks.from_plans import multi_stream
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.phantom.case import PhantomConfig

NAMES = ("t1", "t1ce", "t2", "flair")
TRAINING_CASES, META_CASES, ITERATIONS, INTERVAL = 32, 16, 200, 50


@cache
def cases(enhancing: str) -> Slices:
    """Slices of all cases, where this modality shows the enhancing tumour."""
    config = PhantomConfig(size=SIZE, enhancing=enhancing, noise=0.02, bias=0.05, texture=0.02, scale_spread=0.1)
    return tumour_slices(config, TRAINING_CASES + META_CASES, NAMES)


def learned_logits(seed: int, enhancing: str) -> Tensor:
    """Importance logits, mean over the last 20 % of the iterations, from equal ones, as many steps as by default."""
    torch.manual_seed(seed)
    known = cases(enhancing).of(0, TRAINING_CASES)
    held_out = cases(enhancing).of(TRAINING_CASES, TRAINING_CASES + META_CASES)
    network = multi_stream(NetworkRequest(plan(), NAMES, heads=1, deep_supervision=False))
    sampler = SubsetSampler(ModalityDropoutConfig("count_uniform", per="batch"), seed)
    generator = torch.Generator().manual_seed(seed)

    def draw(slices: Slices, size: int, dropped: bool) -> Batch:
        chosen = torch.randint(0, len(slices.case), (size,), generator=generator)
        there = torch.ones(size, len(NAMES), dtype=torch.bool)
        target = slices.labels[chosen, None] == 4
        return Batch(slices.images[chosen], sampler(there) if dropped else there, there, target)

    def next_meta_batch() -> Batch:
        return draw(held_out, 8, dropped=False)

    method = MetaKD(MetaKDConfig(init="zeros", meta_interval=INTERVAL))
    method.setup(TrainingContext(NAMES, torch.device("cpu"), capabilities={NextMetaBatch: next_meta_batch}))
    loss = DC_and_BCE_loss(
        {}, {"batch_dice": True, "do_bg": True, "smooth": 1e-5, "ddp": False}, dice_class=MemoryEfficientSoftDiceLoss
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    history = []
    for iteration in range(ITERATIONS):
        method.start_iteration(network, loss, iteration)
        history.append(method.importance.w.detach().clone())
        optimizer.zero_grad()
        method.step(network, draw(known, 4, dropped=True), loss)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
    return torch.stack(history[-len(history) // 5 :]).mean(0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 102])
def test_t1ce_rises_most_when_the_task_is_enhancing_tumour(one_thread: None, seed: int) -> None:
    logits = learned_logits(seed, "t1ce")
    assert NAMES[int(logits.argmax())] == "t1ce", dict(zip(NAMES, logits.tolist(), strict=True))
    assert logits.max() > 0 and logits.topk(2).values.diff().abs() > 0.2


@pytest.mark.slow
def test_the_winner_moves_with_the_contrast(one_thread: None) -> None:
    logits = learned_logits(100, "flair")
    assert NAMES[int(logits.argmax())] == "flair", dict(zip(NAMES, logits.tolist(), strict=True))
