"""The auxiliary losses on a small network: what they are, what they train, warm-up, batch size, state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from fusion_networks import NAMES, network
from tiny_nnunet import differences
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from nnunetv2_mmkd.methods.auxiliary import Auxiliary, AuxiliaryConfig, rows_of
from nnunetv2_mmkd.methods.base import Batch, ExtraNetwork, TrainingContext
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet

M = 3
MASKS = torch.tensor([[True, False, True], [False, True, False]])


def deep_loss(outputs: Any, target: Any) -> Tensor:
    """Cross entropy with deep supervision, a mean over samples."""
    if isinstance(outputs, Tensor):
        return cross_entropy(outputs, target)
    weights = (0.7, 0.3)
    terms = [w * cross_entropy(o, t) for w, o, t in zip(weights, outputs, target, strict=True)]
    return torch.stack(terms).sum()


def a_batch(available: Tensor = MASKS) -> Batch:
    torch.manual_seed(3)
    images, target = torch.randn(len(available), M, 16, 16), torch.randint(0, 2, (len(available), 16, 16))
    smaller = interpolate(target[:, None].float(), (8, 8))[:, 0].long()
    return Batch(images, available, available, [target, smaller])


def made(fusion: Any = MMFormerFusion, iterations: int = 300, **config: Any) -> tuple[MultiStreamUNet, Auxiliary]:
    torch.manual_seed(0)
    net = network(fusion)
    method = Auxiliary(AuxiliaryConfig(**config))
    context = TrainingContext(
        NAMES[:M], torch.device("cpu"), iterations=iterations, capabilities={ExtraNetwork: lambda: network(fusion)}
    )
    method.setup(context)
    return net, method


def total(net: MultiStreamUNet, method: Auxiliary, batch: Batch, iteration: int = 299) -> Any:
    method.start_iteration(net, deep_loss, iteration)
    return method.step(net, batch, deep_loss)


def by_hand(net: MultiStreamUNet, method: Auxiliary, batch: Batch) -> dict[str, Tensor]:
    """The parts from single samples and single modalities."""
    rows: dict[str, list[Tensor]] = {"task": [], "region maps": [], "uni-modal": []}
    for sample in range(len(batch.available)):
        streams = net.encode(batch.images[sample, None], batch.available[sample])
        target = rows_of(batch.target, [sample])
        skips, maps = net.fuse(streams)
        rows["task"].append(deep_loss(net.decode(skips), target))
        if maps:
            rows["region maps"].append(deep_loss(maps, target))
        own = [
            deep_loss(method.decoder([scale[row][None] for scale in streams.scales]), target)
            for row in range(len(streams.pairs))
        ]
        rows["uni-modal"].append(torch.stack(own).sum())  # over the available modalities
    return {name: torch.stack(values).mean() for name, values in rows.items() if values}  # over the batch


@pytest.mark.parametrize("fusion", [MMFormerFusion, RFNetFusion])
def test_the_loss_is_the_sum_over_modalities_and_the_mean_over_samples(one_thread: None, fusion: Any) -> None:
    net, method = made(fusion)
    batch = a_batch()
    found, expected = total(net, method, batch), by_hand(net, method, batch)
    assert found["parts"].keys() == expected.keys() and len(expected) == (3 if fusion is RFNetFusion else 2)
    for name, value in expected.items():
        torch.testing.assert_close(found["parts"][name], value.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["loss"], torch.stack(list(expected.values())).sum(), rtol=1e-4, atol=1e-5)


def test_weights_weigh(one_thread: None) -> None:
    batch = a_batch()
    net, method = made(RFNetFusion, uni_modal=0.5, maps=2.0)
    found, expected = total(net, method, batch)["parts"], by_hand(net, method, batch)
    torch.testing.assert_close(found["uni-modal"], 0.5 * expected["uni-modal"].detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["region maps"], 2 * expected["region maps"].detach(), rtol=1e-4, atol=1e-5)
    net, method = made(RFNetFusion, uni_modal=0.0, maps=0.0)
    assert total(net, method, batch)["parts"].keys() == {"task"}
    assert method.curve_names() == ("loss/task",)


def test_the_batch_size_does_not_matter(one_thread: None) -> None:
    net, method = made(RFNetFusion)
    batch = a_batch()
    twice = Batch(
        torch.cat([batch.images] * 2),
        torch.cat([batch.available] * 2),
        torch.cat([batch.available] * 2),
        [torch.cat([each] * 2) for each in batch.target],
    )
    torch.testing.assert_close(total(net, method, batch)["loss"], total(net, method, twice)["loss"])


def test_only_available_modalities_are_segmented_and_reached(one_thread: None) -> None:
    net, method = made()
    available = torch.tensor([[True, False, False], [True, False, True]])
    calls: list[int] = []
    method.decoder.register_forward_hook(lambda module, args, out: calls.append(len(args[0][0])))
    total(net, method, a_batch(available))["loss"].backward()
    assert calls == [2, 1]  # samples with the first, with the third modality
    reached = [any(weight.grad is not None for weight in encoder.stages.parameters()) for encoder in net.encoders]
    assert reached == [True, False, True]


def test_the_content_of_a_missing_channel_leaves_no_trace(one_thread: None) -> None:
    net, method = made(RFNetFusion)
    batch = a_batch()
    images = torch.where(MASKS[:, :, None, None], batch.images, torch.tensor(float("nan")))
    spoilt = Batch(images, batch.available, batch.present, batch.target)
    assert differences(total(net, method, batch)["parts"], total(net, method, spoilt)["parts"]) == []


def test_gradients_of_the_parts(one_thread: None) -> None:
    """The uni-modal part trains encoders and auxiliary decoder, not fusion and decoder."""
    net, method = made(RFNetFusion)
    streams = net.encode(a_batch().images, MASKS)
    method._uni_modal(streams, a_batch(), deep_loss).backward()
    assert all(weight.grad is not None for weight in method.decoder.parameters())
    assert all(weight.grad is None for weight in net.fusions.parameters())
    assert all(weight.grad is None for weight in net.decoder.seg_layers.parameters())
    assert all(any(w.grad is not None for w in encoder.stages.parameters()) for encoder in net.encoders)


def test_the_auxiliary_decoder_holds_no_encoder() -> None:
    net, method = made()
    own = {name for name, _ in method.decoder.named_parameters()}
    assert not any(name.startswith("encoder") for name in own)
    assert own == {name for name, _ in net.decoder.named_parameters() if not name.startswith("encoder")}
    assert list(method.trainable()) == [method.decoder]


@pytest.mark.parametrize("fusion", [MMFormerFusion, RFNetFusion])
def test_the_warm_up_leaves_the_decoder_alone(one_thread: None, fusion: Any) -> None:
    """RFNet's 20 of 300 epochs; a fusion without maps is left alone, too."""
    net, method = made(fusion, iterations=600, warmup_share=20 / 300)
    assert method.warmup_until == 40
    batch = a_batch()
    found = total(net, method, batch, iteration=39)
    assert "task" not in found["parts"] and "uni-modal" in found["parts"]
    assert ("region maps" in found["parts"]) == (fusion is RFNetFusion)
    found["loss"].backward()
    decoder = [weight for part in (net.decoder.stages, net.decoder.seg_layers) for weight in part.parameters()]
    assert all(weight.grad is None for weight in decoder)
    assert "task" in total(net, method, batch, iteration=40)["parts"]
    values = method.curves()
    assert all(torch.isfinite(torch.tensor(value)) for value in values.values())
    assert torch.isnan(torch.tensor(list(method.curves().values()))).all()


def test_recomputation_gives_the_same_gradients(one_thread: None) -> None:
    batch = a_batch()
    found = []
    for stages in (0, 2):
        net, method = made(RFNetFusion)
        net.recomputed_stages, method.recomputes = stages, stages > 0
        net.double(), method.decoder.double()
        doubled = Batch(batch.images.double(), batch.available, batch.present, batch.target)
        total(net, method, doubled)["loss"].backward()
        weights = [*net.parameters(), *method.decoder.parameters()]
        found.append([weight.grad for weight in weights if weight.grad is not None])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-9)


def test_without_deep_supervision(one_thread: None) -> None:
    net, method = made(RFNetFusion)
    net.decoder.deep_supervision = method.decoder.deep_supervision = False
    batch = a_batch()
    single = Batch(batch.images, batch.available, batch.present, batch.target[0])
    parts = total(net, method, single)["parts"]
    streams = net.encode(batch.images, MASKS)
    torch.testing.assert_close(parts["region maps"], deep_loss(net.fuse(streams)[1][0], batch.target[0]))


def test_the_state_is_the_decoder(one_thread: None) -> None:
    net, method = made()
    state = copy.deepcopy(method.state_dict())
    optimizer = torch.optim.SGD(method.decoder.parameters(), 0.1)
    total(net, method, a_batch())["loss"].backward()
    optimizer.step()
    assert differences(state, method.state_dict()) != []
    method.load_state_dict(state)
    assert differences(state, method.state_dict()) == []


@pytest.mark.parametrize(
    ("name", "value"), [("uni_modal", -1.0), ("maps", float("nan")), ("warmup_share", 1.0), ("warmup_share", -0.1)]
)
def test_impossible_values_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        AuxiliaryConfig(**{name: value})


def test_a_warm_up_needs_a_length_and_something_to_train_on(one_thread: None) -> None:
    with pytest.raises(ValueError, match="length of the training"):
        made(iterations=0, warmup_share=0.1)
    net, method = made(uni_modal=0.0, warmup_share=0.5)
    with pytest.raises(ValueError, match="nothing to train on"):
        total(net, method, a_batch(), iteration=0)
