"""PMR as a method: its terms by hand, what they train, prototypes over steps and epochs, early part, state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from fusion_networks import NAMES, network
from test_auxiliary import MASKS, M, a_batch, deep_loss
from tiny_nnunet import differences
from torch import Tensor

from nnunetv2_mmkd.losses.rebalance import class_sums, imbalance_terms, modulation, prototype_scores, shares
from nnunetv2_mmkd.methods.auxiliary import Auxiliary, AuxiliaryConfig
from nnunetv2_mmkd.methods.base import Batch, ExtraNetwork, MembershipClasses, TrainingContext
from nnunetv2_mmkd.methods.pmr import PMR, PMRConfig
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet

ALL = torch.ones(2, M).bool()


def classes(target: list[Tensor]) -> tuple[Tensor, int]:
    return target[0], 2


def made(
    method: Any = None, fusion: Any = MMFormerFusion, iterations: int = 300, average: Any = None
) -> tuple[MultiStreamUNet, Any]:
    torch.manual_seed(0)
    net = network(fusion)
    method = PMR() if method is None else method
    more = {} if average is None else {"average": average}
    method.setup(
        TrainingContext(
            NAMES[:M], torch.device("cpu"), iterations=iterations,
            capabilities={ExtraNetwork: lambda: network(fusion), MembershipClasses: classes},
            **more,
        )
    )  # fmt: skip
    return net, method


def step(net: MultiStreamUNet, method: Any, batch: Batch, iteration: int = 0) -> Any:
    method.start_iteration(net, deep_loss, iteration)
    return method.step(net, batch, deep_loss)


@torch.no_grad()
def by_hand(net: MultiStreamUNet, batch: Batch, scale: int) -> tuple[dict[str, Tensor], list[Tensor], Tensor]:
    """The terms of a first step, the prototypes, and the similarities, sample by sample."""
    streams = net.encode(batch.images, batch.available)
    features = {pair: streams.scales[scale][row] for row, pair in enumerate(streams.pairs)}
    size = len(batch.available)
    share = shares(*classes(batch.target), next(iter(features.values())).shape[1:])
    centres = []
    for m in range(M):
        own = [pair for pair in features if pair[1] == m]
        found = [class_sums(features[pair][None], share[pair[0], None]) for pair in own]
        centres.append(sum(each[0] for each in found) / sum(each[1] for each in found)[:, None] if own else None)
    terms = torch.zeros(3, size, M)
    for n, m in features:
        stand = prototype_scores(features[n, m][None], share[n, None], centres[m], torch.ones(2).bool())
        terms[:, n, m] = torch.stack(stand)[:, 0]
    behind, ahead = modulation(*imbalance_terms(terms[0], batch.available))
    parts = {"prototypes": (behind * terms[1]).sum() / size, "entropy": -0.01 * (ahead * terms[2]).sum() / size}
    return parts, centres, terms[0]


@pytest.mark.parametrize("masks", [ALL, MASKS])
def test_the_terms_by_hand(one_thread: None, masks: Tensor) -> None:
    net, method = made()
    batch = a_batch(masks)
    expected, centres, similarity = by_hand(net, batch, 0)
    result = step(net, method, batch)
    parts = result["parts"]
    assert list(parts) == ["uni-modal", "task", "prototypes", "entropy"]
    for name, value in expected.items():
        assert torch.allclose(parts[name], value, rtol=1e-4) and abs(float(value)) > 1e-6, name
    assert torch.allclose(result["loss"], torch.stack(list(parts.values())).sum())
    method.end_epoch(net, 0)
    for m, centre in enumerate(centres):
        assert centre is None or torch.allclose(method.centres[m], centre, atol=1e-5)
    assert method.known.all() or not masks.all()
    curves = method.curves()
    own, others = imbalance_terms(similarity, masks)
    for m, name in enumerate(NAMES[:M]):
        mean = similarity[:, m].sum() / masks[:, m].sum()
        assert curves[f"similarity to own prototypes/{name}"] == pytest.approx(float(mean), rel=1e-4)
        ratio = curves[f"imbalance ratio/{name}"]
        assert ratio == pytest.approx(float(own[m] / others[m]), rel=1e-4, nan_ok=True)
    assert set(curves) == set(method.curve_names())


@pytest.mark.parametrize("fusion", [MMFormerFusion, RFNetFusion])
def test_without_weights_it_is_the_baseline(one_thread: None, fusion: Any) -> None:
    batch, found = a_batch(), []
    for method in (PMR(PMRConfig(alpha=0.0, mu=0.0)), Auxiliary(AuxiliaryConfig())):
        net, method = made(method, fusion)
        result = step(net, method, batch)
        result["loss"].backward()
        found.append((result["parts"], [weight.grad for weight in net.parameters() if weight.grad is not None]))
    assert differences(*found) == []


@pytest.mark.parametrize("term", ["prototypes", "entropy"])
def test_each_term_reaches_the_streams_and_nothing_else(one_thread: None, term: str) -> None:
    net, method = made(PMR(PMRConfig(scale=1)))
    batch = a_batch(ALL)
    streams = net.encode(batch.images, ALL)
    method.further_parts(streams, batch)[term].backward()
    behind, ahead = modulation(*method._score_sums[:2])
    weights = behind if term == "prototypes" else ahead
    assert 0 < (weights > 0).sum() < M
    for encoder, weight in zip(net.encoders, weights, strict=True):
        reached = [
            sum(float(w.grad.abs().sum()) for w in stage.parameters() if w.grad is not None) for stage in encoder.stages
        ]
        assert reached[2] == 0 and (reached[0] > 0) == (reached[1] > 0) == bool(weight > 0)
    rest = [*net.fusions.parameters(), *net.decoder.stages.parameters(), *method.decoder.parameters()]
    assert all(weight.grad is None for weight in rest)


def test_the_one_behind_is_drawn_on_and_the_one_ahead_is_not(one_thread: None) -> None:
    """Steps on PCE alone raise the similarity of the modality that has a weight."""
    net, method = made(PMR(PMRConfig(mu=0.0)))
    batch = a_batch(ALL)
    method.further_parts(net.encode(batch.images, ALL), batch)
    method.end_epoch(net, 0)
    first = method.similarity.clone()
    slow = int(first.argmin())
    optimizer = torch.optim.SGD(net.encoders[slow].parameters(), 0.05)
    for _ in range(20):
        optimizer.zero_grad()
        method.further_parts(net.encode(batch.images, ALL), batch)["prototypes"].backward()
        optimizer.step()
    method.further_parts(net.encode(batch.images, ALL), batch)
    method.end_epoch(net, 1)
    assert method.similarity[slow] > first[slow] and method.ratio[slow] > 0.9


def test_the_content_of_a_missing_channel_leaves_no_trace(one_thread: None) -> None:
    batch = a_batch()
    images = torch.where(MASKS[:, :, None, None], batch.images, torch.tensor(float("nan")))
    found = []
    for each in (batch, Batch(images, batch.available, batch.present, batch.target)):
        net, method = made()
        found.append((step(net, method, each)["parts"], method.state_dict()))
    assert differences(*found) == []


def test_samples_with_a_single_modality_train_nothing(one_thread: None) -> None:
    net, method = made()
    available = torch.tensor([[True, False, False], [False, True, False]])
    result = step(net, method, a_batch(available))
    assert result["parts"]["prototypes"] == 0 == result["parts"]["entropy"]
    result["loss"].backward()
    method.end_epoch(net, 0)
    assert method.ratio.isnan().all() and method.similarity.isnan().tolist() == [False, False, True]
    assert method.known.any(1).tolist() == [True, True, False]


def test_ignored_voxels_do_not_count(one_thread: None) -> None:
    batch, found = a_batch(), []
    for value in (0.0, 50.0):
        net, method = made()
        method.context = TrainingContext(
            NAMES[:M], torch.device("cpu"), iterations=300,
            capabilities={MembershipClasses: lambda target: (torch.where(torch.arange(16) < 4, -1, target[0]), 2)},
        )  # fmt: skip
        streams = net.encode(batch.images, batch.available)
        spoilt = [scale.clone() for scale in streams.scales[0]]
        for each in spoilt:
            each[..., :4] = value
        scales = (tuple(spoilt), *streams.scales[1:])
        parts = method.further_parts(type(streams)(streams.available, streams.pairs, scales), batch)
        found.append({name: part.detach() for name, part in parts.items()})
    assert differences(*found) == []


def test_prototypes_move_between_epochs(one_thread: None) -> None:
    """Eq. (12), with the epoch's means; in the first epoch what has been seen so far."""
    net, method = made(PMR(PMRConfig(epsilon=0.25)))
    batches = [a_batch(ALL), a_batch(MASKS)]
    step(net, method, batches[0])
    step(net, method, batches[1])
    sums = [each.clone() for each in method._features]
    so_far = method._prototypes()[0]
    assert torch.allclose(so_far, sums[0] / sums[1][..., None])
    method.end_epoch(net, 0)
    assert torch.equal(method.centres, so_far) and method._features is None
    old = method.centres.clone()
    only_second = a_batch(torch.tensor([[False, True, False]] * 2))
    target = [torch.zeros_like(each) for each in only_second.target]  # only background
    step(net, method, Batch(only_second.images, only_second.available, only_second.present, target))
    assert torch.equal(method._prototypes()[0], old)
    sums = [each.clone() for each in method._features]
    method.end_epoch(net, 1)
    expected = old.clone()
    expected[1, 0] = 0.25 * old[1, 0] + 0.75 * sums[0][1, 0] / sums[1][1, 0]
    assert torch.allclose(method.centres, expected, atol=1e-6) and method.known.all()
    assert method.similarity.isnan().tolist() == [True, False, True]  # of the second epoch alone


def test_a_class_that_turns_up_late_gets_its_own_mean(one_thread: None) -> None:
    net, method = made()
    batch = a_batch(ALL)
    step(net, method, Batch(batch.images, ALL, ALL, [torch.zeros_like(each) for each in batch.target]))
    method.end_epoch(net, 0)
    assert method.known.tolist() == [[True, False]] * M
    assert all(torch.isfinite(part) for part in step(net, method, batch)["parts"].values())
    sums, numbers = method._features
    method.end_epoch(net, 1)
    assert method.known.all() and torch.allclose(method.centres[:, 1], sums[:, 1] / numbers[:, 1, None])


def test_the_entropy_term_is_early(one_thread: None) -> None:
    net, method = made(iterations=30)
    assert method.early_until == 2  # 5 %, rounded up
    batch = a_batch()
    assert "entropy" in step(net, method, batch, 1)["parts"]
    assert "entropy" not in step(net, method, batch, 2)["parts"]
    net, method = made(PMR(PMRConfig(early_share=0.0)), iterations=0)
    assert "entropy" not in step(net, method, batch)["parts"] and "loss/entropy" not in method.curve_names()


def test_the_ratio_is_that_of_all_ranks(one_thread: None) -> None:
    """What is averaged: the sums for the prototypes, and the scores; as often whatever is there."""
    sizes: list[list[tuple[int, ...]]] = []
    for masks in (ALL, MASKS, torch.tensor([[True, False, False]] * 2)):
        calls: list[tuple[int, ...]] = []
        net, method = made(average=lambda tensors, calls=calls: calls.extend(tuple(each.shape) for each in tensors))
        step(net, method, a_batch(masks))
        sizes.append(calls)
    assert sizes[0] == sizes[1] == sizes[2] == [(M, 2, 4), (M, 2), (4, M)]

    def other_rank(tensors: Any) -> None:
        if tensors[0].shape == (4, M):
            tensors[0][0] += torch.tensor([9.0, 0.0, 0.0])  # another rank's first modality is far ahead

    net, method = made(average=other_rank)
    step(net, method, a_batch(ALL))
    method.end_epoch(net, 0)
    assert method.ratio[0] > 2


def test_the_scale(one_thread: None) -> None:
    batch = a_batch()
    for scale, channels in ((None, 4), (1, 6), (2, 8)):
        net, method = made(PMR(PMRConfig(scale=scale)))
        step(net, method, batch)
        method.end_epoch(net, 0)
        assert method.centres.shape == (M, 2, channels)
    net, method = made(PMR(PMRConfig(scale=3)))
    with pytest.raises(ValueError, match="scales 0 to 2"):
        step(net, method, batch)


def test_state(one_thread: None) -> None:
    net, method = made()
    step(net, method, a_batch())
    method.end_epoch(net, 0)
    step(net, method, a_batch(ALL))
    _, other = made()
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    assert differences(method.state_dict(), other.state_dict()) == []
    after = []
    for each in (method, other):
        each.curves()  # what was logged of single steps is not kept
        torch.manual_seed(0)
        step(network(MMFormerFusion), each, a_batch(MASKS))
        each.end_epoch(None, 1)
        after.append((each.state_dict(), each.curves()))
    assert differences(*after) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", -1.0), ("mu", float("nan")), ("epsilon", 1.0), ("early_share", 1.5), ("scale", -1), ("uni_modal", -1.0)],
)
def test_impossible_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        PMRConfig(**{name: value})


def test_an_early_part_needs_a_length() -> None:
    with pytest.raises(ValueError, match="length must be known"):
        made(iterations=0)
