"""ShaSpec's fusion is what the equations say; each encoder sees what it should."""

from __future__ import annotations

import pytest
import torch
from fusion_networks import network, random_streams, specs
from tiny_nnunet import differences

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.fusion.shared_specific import SharedSpecificFusion

AVAILABLE = torch.tensor([[True, False, True], [False, True, False]])


@pytest.mark.parametrize("fill", ["mean", "first"])
@torch.no_grad()
def test_residual_fusion_and_filling_by_hand(one_thread: None, fill: str) -> None:
    scales = specs()
    block = SharedSpecificFusion(scales, fill).eval()
    streams = random_streams(scales, AVAILABLE)
    found = block(streams).skips
    rows = {pair: row for row, pair in enumerate(streams.pairs)}
    for scale, projection in enumerate(block.projections):
        kernel = projection.weight.permute(1, 0, 2).flatten(1)[:, :, None, None]  # of the concatenation
        for sample in range(2):
            shared = {m: streams.scales[scale][row] for (b, m), row in rows.items() if b == sample}
            own = dict(shared)
            if scale == 2:  # f = r + phi([r, s])
                for m in own:
                    both = torch.cat([shared[m], streams.specific[rows[sample, m]]])
                    own[m] = shared[m] + block.compose(both[None])[0]
            lent = next(iter(shared.values())) if fill == "first" else torch.stack(list(shared.values())).mean(0)
            whole = torch.cat([own.get(m, lent) for m in range(3)])[None]
            expected = torch.nn.functional.conv2d(whole, kernel, projection.bias)[0]
            torch.testing.assert_close(found[scale][sample], expected)


@torch.no_grad()
def test_mean_and_first_differ_only_where_two_can_lend(one_thread: None) -> None:
    scales = specs()
    blocks = [SharedSpecificFusion(scales, fill).eval() for fill in ("mean", "first")]
    blocks[1].load_state_dict(blocks[0].state_dict())
    streams = random_streams(scales, AVAILABLE)
    mean, first = (block(streams).skips for block in blocks)
    assert all(not torch.allclose(a[0], b[0]) and torch.allclose(a[1], b[1]) for a, b in zip(mean, first, strict=True))


@torch.no_grad()
def test_the_shared_encoder_sees_all_and_a_specific_one_its_modality(one_thread: None) -> None:
    net = network(SharedSpecificFusion).eval()
    x, everything = torch.randn(1, 3, 16, 16), torch.ones(1, 3, dtype=torch.bool)
    before = net.encode(x, everything)
    net.specific[1].load_state_dict(net.specific[2].state_dict())
    after = net.encode(x, everything)
    assert differences(before.scales, after.scales) == []
    assert [torch.equal(*pair) for pair in zip(before.specific, after.specific, strict=True)] == [True, False, True]
    for parameter in net.encoders[0].parameters():
        parameter += 0.1
    moved = net.encode(x, everything)
    assert differences(moved.specific, after.specific) == []
    assert not any(torch.equal(*pair) for pair in zip(moved.bottleneck, after.bottleneck, strict=True))


def test_what_a_batch_lacks_is_optional() -> None:
    net = network(SharedSpecificFusion).train()
    outputs = net(torch.randn(2, 3, 16, 16), torch.tensor([True, False, True]))
    torch.stack([each.square().sum() for each in outputs]).sum().backward()
    unused = {id(weight) for weight in net.parameters() if weight.grad is None}
    assert {id(weight) for weight in net.specific[1].parameters()} <= unused
    assert unused <= {id(weight) for weight in net.optional_parameters()}


def test_streams_without_specific_features_and_other_fills_are_refused() -> None:
    scales = specs()
    streams = random_streams(scales, AVAILABLE)
    with pytest.raises(ValueError, match="needs specific features"):
        SharedSpecificFusion(scales)(type(streams)(streams.available, streams.pairs, streams.scales))
    with pytest.raises(InputError, match="fill must be one of mean, first, not 'last'"):
        SharedSpecificFusion(scales, "last")
