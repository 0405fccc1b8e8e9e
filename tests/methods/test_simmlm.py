"""SimMLM: the gated sum, the two stages, nested subsets and the ranking loss, on a small network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import nnunetv2_mmkd.methods.simmlm as simmlm
from nnunetv2_mmkd.methods.base import Batch, TrainingContext
from nnunetv2_mmkd.methods.simmlm import SimMLM, SimMLMConfig
from nnunetv2_mmkd.modalities import all_subsets
from nnunetv2_mmkd.networks.experts import Gate, GatedExperts, by_region

NAMES = ("t1", "t1ce", "flair")
MASKS = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])


def expert() -> PlainConvUNet:
    return PlainConvUNet(
        1, 3, [4, 6, 8], nn.Conv2d, 3, [1, 2, 2], 1, 3, 1, True, nn.InstanceNorm2d, {"affine": True},
        nonlin=nn.LeakyReLU, deep_supervision=True,
    )  # fmt: skip


def network() -> GatedExperts:
    torch.manual_seed(0)
    return GatedExperts([expert() for _ in NAMES], Gate(3, 3, (16, 16)), NAMES)


def task_loss(outputs: list[Tensor], target: list[Tensor]) -> Tensor:
    return cross_entropy(outputs[0], target[0])


def a_batch(available: Tensor = MASKS) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(len(available), 3, 16, 16, generator=generator)
    images = torch.where(available[..., None, None], images, float("nan"))
    target = torch.randint(0, 3, (len(available), 16, 16), generator=generator)
    return Batch(images, available, available, [target, target[:, ::2, ::2]])


def made(iteration: int = 50, **config: Any) -> SimMLM:
    method = SimMLM(SimMLMConfig(**config))
    method.setup(TrainingContext(NAMES, torch.device("cpu"), regions=("whole", "core"), iterations=100))
    method.start_iteration(network(), task_loss, iteration)
    return method


def test_the_prediction_is_the_gated_sum_of_what_is_there() -> None:
    net, batch = network(), a_batch()
    found = net(batch.images, batch.available)
    for sample, mask in enumerate(MASKS):
        image = batch.images[sample, None].nan_to_num(0.0)
        values = net.gate.values(net.gate.layers(image)).reshape(3, 3)  # [M, K]
        there = torch.nonzero(mask).flatten().tolist()
        weights = values[there].softmax(0)
        for scale in range(2):
            logits = torch.stack([net.experts[m](image[:, m : m + 1])[scale][0] for m in there])
            expected = (weights[:, :, None, None] * logits).sum(0)
            assert torch.allclose(found[scale][sample], expected, atol=1e-5)
    single = net.experts[1](batch.images[2:, 1:2])[0][0]
    assert torch.allclose(found[0][2], single, atol=1e-6)  # one modality has all the weight


def test_recomputed_experts_give_the_same_gradients_and_store_less() -> None:
    net, batch, found = network().double().train(), a_batch(), []
    for stages in (0, 2):
        net.recomputed_stages = stages
        net.zero_grad(set_to_none=True)
        stored: list[int] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda x, to=stored: to.append(x.numel()) or x, lambda x: x)
        with hooks:
            outputs = net(batch.images.double(), batch.available)
        torch.stack([each.square().mean() for each in outputs]).sum().backward()
        found.append((sum(stored), [weight.grad for weight in net.parameters()]))
    (plain, expected), (recomputed, gradients) = found
    assert recomputed < plain / 3
    for first, second in zip(expected, gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-10)


def test_weights_sum_to_one_and_are_kept_for_the_report() -> None:
    net, batch = network().eval(), a_batch(MASKS[:2])
    with torch.inference_mode():
        net(batch.images, batch.available)
        net(batch.images[1:], batch.available[1:])
    weights = net.take_weights()
    assert torch.allclose(weights.sum(0), torch.ones(3)) and net.take_weights() is None
    each = net.weigh(batch.images, batch.available).detach()
    assert torch.allclose(weights, (each[0] + 2 * each[1]) / 3, atol=1e-6)  # a mean over tiles
    assert torch.equal(each[1, 1], torch.zeros(3))
    table = by_region(weights, ("whole", "core"), NAMES)  # after the background
    assert table["core"]["flair"] == round(float(weights[2, 2]), 4) and list(table) == ["whole", "core"]


def test_several_subsets_at_once_are_those_of_each_by_itself(one_thread: None) -> None:
    net, batch = network().eval(), a_batch(MASKS[:1])
    subsets = all_subsets(3)
    together = net.with_subsets(batch.images, subsets)
    for subset, found in zip(subsets, together, strict=True):
        assert torch.equal(found, net(batch.images, subset)[0])


def test_at_first_each_expert_learns_by_itself() -> None:
    net, batch, method = network(), a_batch(), made(iteration=49)
    result = method.step(net, batch, task_loss)
    expected = 0.0
    for m in range(3):
        samples = torch.nonzero(MASKS[:, m]).flatten().tolist()
        loss = task_loss(net.experts[m](batch.images[samples, m : m + 1]), [each[samples] for each in batch.target])
        expected += float(loss.detach()) * len(samples) / 3
    assert set(result["parts"]) == {"experts"} and float(result["parts"]["experts"]) == pytest.approx(
        expected, rel=1e-5
    )
    result["loss"].backward()
    assert all(p.grad is None for p in net.gate.parameters())
    assert all(p.grad is not None for each in net.experts for p in each.decoder.seg_layers[-1].parameters())


def test_then_two_nested_subsets_and_their_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = torch.tensor([[True, True, False], [True, False, False], [False, True, False]])
    monkeypatch.setattr(simmlm, "strictly_fewer", lambda available: fewer)
    net, batch, method = network(), a_batch(), made(ranking=0.3)
    result = method.step(net, batch, task_loss)
    outputs = [net(batch.images, mask) for mask in (MASKS, fewer)]
    losses = [[cross_entropy(o[0][b, None], batch.target[0][b, None]) for b in range(3)] for o in outputs]
    gaps = [max(0.0, float((more - less).detach())) for more, less in zip(*losses, strict=True)]
    assert gaps[0] > 0 and gaps[1:] == [0, 0]  # worse with more, better with more, one modality
    for name, output in zip(("more", "fewer"), outputs, strict=True):
        assert torch.allclose(result["parts"][name], task_loss(output, batch.target), atol=1e-6)
    assert float(result["parts"]["ranking"]) == pytest.approx(0.3 * sum(gaps) / 3, rel=1e-4)
    result["loss"].backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in net.gate.values.parameters())
    assert set(made(ranking=0.0).step(net, batch, task_loss)["parts"]) == {"more", "fewer"}


@pytest.mark.parametrize(("rows", "moves"), [([0], True), ([1, 2], False)])
def test_the_ranking_alone_moves_what_is_worse_with_more(
    rows: list[int], moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples of the test above: the first is worse with more, the second better, the third has one modality."""
    fewer = torch.tensor([[True, True, False], [True, False, False], [False, True, False]])
    monkeypatch.setattr(simmlm, "strictly_fewer", lambda available: fewer[rows])
    net, whole, found = network(), a_batch(), []
    batch = Batch(whole.images[rows], MASKS[rows], MASKS[rows], [each[rows] for each in whole.target])
    for ranking in (0.3, 0.0):
        net.zero_grad(set_to_none=False)
        made(ranking=ranking).step(net, batch, task_loss)["loss"].backward()
        found.append(
            [[p.grad.clone() for p in part.parameters() if p.grad is not None] for part in (net.gate, *net.experts)]
        )
    for own, without in zip(*found, strict=True):
        assert any(not torch.equal(*pair) for pair in zip(own, without, strict=True)) is moves


def test_curves_are_the_weights_where_a_modality_has_a_rival() -> None:
    net, batch, method = network(), a_batch(MASKS[1:]), made()  # the second sample has one modality
    method.step(net, batch, task_loss)
    curves = method.curves()
    assert set(curves) == set(method.curve_names())
    weights = net.weigh(batch.images, batch.available)[0].detach()
    assert curves["gate's weights for core/t1"] == pytest.approx(float(weights[0, 2]), rel=1e-5)
    assert torch.tensor(curves["gate's weights for whole/t1ce"]).isnan()


def test_impossible_values_are_refused() -> None:
    for config in ({"ranking": -1.0}, {"independent_share": 1.0}):
        with pytest.raises(ValueError, match=next(iter(config))):
            SimMLMConfig(**config)
    with pytest.raises(ValueError, match="length"):
        SimMLM().setup(TrainingContext(NAMES, torch.device("cpu")))
    SimMLM(SimMLMConfig(independent_share=0.0)).setup(TrainingContext(NAMES, torch.device("cpu")))
