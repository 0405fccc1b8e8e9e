"""ShaSpec as a method: the loss by hand, what each term reaches, voxels that do not count."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from fusion_networks import network
from torch import Tensor, nn

from nnunetv2_mmkd.methods.base import Batch, FeatureWidth, TrainingContext
from nnunetv2_mmkd.methods.shaspec import ShaSpec, ShaSpecConfig
from nnunetv2_mmkd.networks.fusion.shared_specific import SharedSpecificFusion
from nnunetv2_mmkd.networks.shared_specific import SharedSpecificUNet

NAMES = ("t1", "t1ce", "t2")
AVAILABLE = torch.tensor([[True, True, True], [False, True, False]])


def task_loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs[0], target)


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    return Batch(images, AVAILABLE, AVAILABLE, torch.randint(0, 2, (2, 16, 16), generator=generator))


def prepared(config: ShaSpecConfig | None = None) -> tuple[ShaSpec, Any]:
    torch.manual_seed(0)
    net = network(SharedSpecificFusion)
    method = ShaSpec(config)
    method.setup(TrainingContext(NAMES, torch.device("cpu"), capabilities={FeatureWidth: lambda: net.width}))
    return method, net


def reached(module: nn.Module) -> bool:
    return any(weight.grad is not None and bool(weight.grad.abs().sum() > 0) for weight in module.parameters())


def test_the_loss_is_the_weighted_sum() -> None:
    method, net = prepared(ShaSpecConfig(alpha=0.3, beta=0.5))
    batch = a_batch()
    result = method.step(net, batch, task_loss)
    streams = net.encode(batch.images, AVAILABLE)
    r = {m: f for (b, m), f in zip(streams.pairs, streams.bottleneck, strict=True) if b == 0}
    alignment = sum((r[i] - r[j]).abs().mean() for i, j in combinations(range(3), 2)) / 2  # the second has no pair
    logits = torch.stack([method.classifier(s.mean((1, 2))) for s in streams.specific])
    classification = nn.functional.cross_entropy(logits, torch.tensor([m for _, m in streams.pairs]))
    task = task_loss(net(batch.images, AVAILABLE), batch.target)
    torch.testing.assert_close(result["loss"], task + 0.3 * alignment + 0.5 * classification)
    assert set(result["parts"]) == {"task", "alignment", "classification"}
    assert all(float(part) > 1e-4 for part in result["parts"].values())
    curves = method.curves()
    assert set(curves) == set(method.curve_names())
    assert curves["alignment per pair/mean"] == pytest.approx(float(alignment.detach()) * 2 / 3, rel=1e-5)


@pytest.mark.parametrize("term", ["alignment", "classification"])
def test_each_term_reaches_its_encoders_and_nothing_else(term: str) -> None:
    method, net = prepared()
    streams = net.encode(a_batch().images, AVAILABLE)
    getattr(method, term)(streams, None)[0].backward()
    shared = term == "alignment"
    assert reached(net.encoders) == shared
    assert [reached(own) for own in net.specific] == [not shared] * 3
    assert reached(method.classifier) != shared
    assert not reached(net.fusions) and not any(w.grad is not None for w in net.decoder.stages.parameters())


def test_a_missing_modality_reaches_nothing() -> None:
    method, net = prepared()
    available = torch.tensor([[True, False, True], [True, False, False]])
    batch = replace(a_batch(), available=available)
    spoilt = torch.where(available[:, :, None, None], batch.images, torch.tensor(float("nan")))
    losses = [method.step(net, replace(batch, images=x), task_loss)["loss"] for x in (batch.images, spoilt)]
    assert torch.equal(*losses)
    losses[1].backward()
    assert [reached(own) for own in net.specific] == [True, False, True]


def test_ignored_voxels_are_left_out() -> None:
    method, net = prepared()
    net.eval()
    streams = net.encode(a_batch().images, AVAILABLE)
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    for term in (method.alignment, method.classification):
        torch.testing.assert_close(term(streams, valid)[0], term(streams, None)[0])
    valid[..., 8:] = False  # the right half of the 4 x 4 cells
    halved = replace(
        streams,
        scales=tuple(tuple(f[..., : f.shape[-1] // 2] for f in scale) for scale in streams.scales),
        specific=tuple(f[..., :2] for f in streams.specific),
    )
    for term in (method.alignment, method.classification):
        torch.testing.assert_close(term(streams, valid)[0], term(halved, None)[0])


def test_state() -> None:
    method, net = prepared()
    saved = copy.deepcopy(method.state_dict())
    (classifier,) = method.trainable()
    assert classifier.weight.shape == (3, 8)
    nn.init.zeros_(classifier.weight)
    method.load_state_dict(saved)
    assert torch.equal(classifier.weight, saved["classifier"]["weight"])
    assert not any("classifier" in key for key in net.state_dict()) and isinstance(net, SharedSpecificUNet)


def test_configurations() -> None:
    released = ShaSpecConfig.released_code()
    assert (released.fill, released.pairs, released.alpha, released.beta) == ("first", "cyclic", 0.1, 0.02)
    for wrong in ({"alpha": -1.0}, {"fill": "zero"}, {"pairs": "some"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ShaSpecConfig(**wrong)
