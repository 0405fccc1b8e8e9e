"""DeMoSeg as a method: the loss by hand, what the distillation reaches, voxels that do not count."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch
from fusion_networks import planned
from torch import Tensor, nn

from nnunetv2_mmkd.losses.decoupled import subspace_divergence
from nnunetv2_mmkd.methods.base import Batch, TrainingContext
from nnunetv2_mmkd.methods.demoseg import DeMoSeg, DeMoSegConfig
from nnunetv2_mmkd.networks.decoupled import DecoupledUNet
from nnunetv2_mmkd.networks.lending import lending_order

NAMES = ("t1", "t1ce", "t2")
AVAILABLE = torch.tensor([[True, True, True], [False, True, False]])


def task_loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs[0], target)


def a_batch() -> Batch:
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(images, AVAILABLE, AVAILABLE, torch.randint(0, 2, (2, 16, 16)))


def prepared(config: DeMoSegConfig | None = None) -> tuple[DeMoSeg, Any]:
    torch.manual_seed(0)
    network = planned()
    method = DeMoSeg(config)
    method.setup(TrainingContext(NAMES, torch.device("cpu")))
    return method, DecoupledUNet(network.encoder, network.decoder, NAMES, lending_order(NAMES, {}))


def test_the_loss_is_the_weighted_sum() -> None:
    method, net = prepared(DeMoSegConfig(weight=0.7))
    batch = a_batch()
    result = method.step(net, batch, task_loss)
    f = {m: stem.convolutions(batch.images[:1, m, None])[0].unflatten(0, (3, -1)) for m, stem in enumerate(net.stems)}
    pairs = torch.stack([subspace_divergence(f[j][j], f[i][j]) for i, j in permutations(range(3), 2)])
    task = task_loss(net(batch.images, AVAILABLE), batch.target)
    torch.testing.assert_close(result["loss"], task + 0.7 * pairs.sum() / 2)  # the second sample has no pair
    assert all(float(part) > 1e-4 for part in result["parts"].values()) and set(result["parts"]) == {
        "task", "distillation",
    }  # fmt: skip
    assert set(method.curves()) == set(method.curve_names()) == {"loss/task", "loss/distillation"}


def test_the_distillation_reaches_the_stems_and_nothing_else() -> None:
    method, net = prepared()
    batch = replace(a_batch(), available=torch.tensor([[True, False, True], [True, False, False]]))
    method.distillation(net.trace(batch.images, batch.available, convolved=True)[1], batch).backward()
    trained = {".".join(name.split(".")[::2][:2]) for name, weight in net.named_parameters() if weight.grad is not None}
    assert trained == {"stems.convolutions"}  # not the exchange, which comes after
    moved = [any(w.grad is not None and w.grad.abs().sum() > 0 for w in stem.parameters()) for stem in net.stems]
    assert moved == [True, False, True]


def test_ignored_voxels_are_left_out() -> None:
    method, net = prepared()
    batch = a_batch()
    found = net.trace(batch.images, AVAILABLE, convolved=True)[1]
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    torch.testing.assert_close(
        method.distillation(found, replace(batch, valid=valid)), method.distillation(found, batch)
    )
    valid[..., 8:] = False
    halved = replace(found, convolved={m: features[..., :8] for m, features in found.convolved.items()})
    torch.testing.assert_close(
        method.distillation(found, replace(batch, valid=valid)), method.distillation(halved, batch)
    )


def test_recomputation_gives_the_same_gradients(one_thread: None) -> None:
    found = []
    for stages in (0, 1):
        method, net = prepared()
        net.recomputed_stages = stages
        result = method.step(net, a_batch(), task_loss)
        result["loss"].backward()
        found.append({name: weight.grad for name, weight in net.named_parameters() if weight.grad is not None})
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_configurations() -> None:
    method, net = prepared(DeMoSegConfig.released_code())
    assert set(method.step(net, a_batch(), task_loss)["parts"]) == {"task"} and not method.config.gated
    with pytest.raises(ValueError, match="weight must not be negative"):
        DeMoSegConfig(weight=-1)
