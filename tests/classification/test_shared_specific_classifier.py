"""ShaSpec's classifier: fusion and filling by hand, no trace of what is missing, who sees what."""

from __future__ import annotations

import torch
from toy_subjects import shared_specific

from nnunetv2_mmkd.methods.base import FeatureWidth, TrainingContext
from nnunetv2_mmkd.methods.shaspec import ShaSpec


@torch.no_grad()
def test_residual_fusion_and_filling_by_hand() -> None:
    net = shared_specific().eval()
    inputs = {"a": torch.randn(2, 3), "b": torch.randn(2, 5)}
    (fused,) = net.fuse(net.encode(inputs, torch.tensor([[True, True], [False, True]]))).skips
    r = {name: net.shared(net.encoders[name](x)) for name, x in inputs.items()}
    s = {name: net.specific[name](x) for name, x in inputs.items()}
    f = {name: r[name] + net.compose(torch.cat([r[name], s[name]], 1)) for name in inputs}
    torch.testing.assert_close(fused[0], torch.stack([f["a"][0], f["b"][0]]))
    torch.testing.assert_close(fused[1], torch.stack([r["b"][1], f["b"][1]]))  # the missing one is what b shares
    weights = torch.tensor([0.25, 0.75])
    streams = net.encode(inputs)
    torch.testing.assert_close(
        net.fuse(streams, weights=[weights]).skips[0], net.fuse(streams).skips[0] * weights[:, None]
    )


def test_the_terms_reach_what_they_should() -> None:
    net, method = shared_specific(), ShaSpec()
    method.setup(TrainingContext(("a", "b"), torch.device("cpu"), capabilities={FeatureWidth: lambda: net.width}))
    streams = net.encode({"a": torch.randn(4, 3), "b": torch.randn(4, 5)})
    for term, moved in (("alignment", {"encoders", "shared"}), ("classification", {"specific"})):
        net.zero_grad(set_to_none=True)
        getattr(method, term)(streams, None)[0].backward(retain_graph=True)
        assert {name.split(".")[0] for name, w in net.named_parameters() if w.grad is not None} == moved
