"""Two nested subsets of half a batch: one pass, both terms by hand, which half, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nnunetv2_mmkd.methods.base import Batch, LocalLoss, TrainingContext
from nnunetv2_mmkd.methods.nested_subsets import NestedSubsets, NestedSubsetsConfig

M = 3


class Recording(nn.Module):
    """A linear segmentation of the available channels that notes its calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(M, 2, 1)
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, available: Tensor) -> Tensor:
        self.calls.append((x, available))
        logits: Tensor = self.head(x * available[:, :, None, None])
        return logits


def a_batch(samples: int = 6) -> Batch:
    torch.manual_seed(1)
    available = torch.tensor([[True, True, False], [False, True, False], [True, True, True]]).repeat(2, 1)[:samples]
    target = torch.randint(0, 2, (samples, 4, 4))
    return Batch(torch.randn(samples, M, 4, 4), available, torch.ones_like(available), target)


def made(**config: float) -> NestedSubsets:
    method = NestedSubsets(NestedSubsetsConfig(**config))
    method.setup(TrainingContext(("a", "b", "c"), torch.device("cpu"), capabilities={LocalLoss: cross_entropy}))
    return method


@pytest.mark.parametrize("iteration", [0, 1])
def test_both_terms_by_hand(iteration: int) -> None:
    network, method, batch = Recording(), made(ranking=0.3), a_batch()
    method.start_iteration(network, cross_entropy, iteration)
    result = method.step(network, batch, cross_entropy)
    ((images, available),) = network.calls  # one pass of as many samples as the batch has
    half = [iteration, iteration + 2, iteration + 4]
    assert torch.equal(images, batch.images[half * 2])
    more, fewer = available[:3], available[3:]
    assert torch.equal(more, batch.available[half])
    for large, small in zip(more, fewer, strict=True):
        assert small.any() and not (small & ~large).any() and (small.sum() < large.sum() or large.sum() == 1)

    losses = [
        cross_entropy(network(batch.images[[row]], mask[[at]]), batch.target[[row]])
        for mask in (more, fewer)
        for at, row in enumerate(half)
    ]
    ranking = sum(max(0.0, losses[at].item() - losses[3 + at].item()) for at in range(3)) / 3
    assert ranking > 0
    assert float(result["parts"]["task"]) == pytest.approx(float(torch.stack(losses).mean().detach()))
    assert float(result["parts"]["ranking"]) == pytest.approx(0.3 * ranking)
    assert float(result["loss"]) == pytest.approx(float(torch.stack(losses).mean()) + 0.3 * ranking)
    assert method.curves().keys() == set(method.curve_names())


def test_where_more_is_worse_it_is_trained_more_and_fewer_less() -> None:
    """Coefficients 1 + weight and 1 - weight; a sample with one modality ranks nothing."""
    network, method, batch = Recording(), made(ranking=0.3), a_batch(1)
    result = method.step(network, batch, cross_entropy)
    ((_, available),) = network.calls
    more, fewer = (cross_entropy(network(batch.images, mask[None]), batch.target) for mask in available)
    sign = float(more > fewer)
    expected = torch.autograd.grad((0.5 + 0.3 * sign) * more + (0.5 - 0.3 * sign) * fewer, network.head.weight)
    torch.testing.assert_close(torch.autograd.grad(result["loss"], network.head.weight), expected)
    single = Batch(batch.images, torch.tensor([[False, True, False]]), batch.present, batch.target)
    assert float(method.step(network, single, cross_entropy)["parts"]["ranking"]) == 0


def test_a_weight_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="ranking must lie in"):
        NestedSubsetsConfig(ranking=1.0)
