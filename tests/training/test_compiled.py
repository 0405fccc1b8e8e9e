"""Trainers as nnU-Net compiles them on a GPU, and their predictions: the same numbers, no part left out in silence."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, partialmethod
from typing import Any

import pytest
import torch
from every_trainer import after_warmup, batches, every_trainer, predict, ready, step, validate
from tiny_nnunet import Home
from torch import nn

from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD
from nnunetv2_mmkd.trainer_variants.nnUNetTrainermmFormer import nnUNetTrainermmFormer
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPASSION import nnUNetTrainerPASSION
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import nnUNetTrainerSubsetKD

COMPILING = torch.device("cpu", 0)
"""nnU-Net compiles on all devices but ``torch.device("cpu")``."""


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``nnUNet_compile``; where PyTorch would stop compiling in silence, it fails."""
    torch._dynamo.reset()
    monkeypatch.setenv("nnUNet_compile", "true")
    with torch._dynamo.config.patch(recompile_limit=8, fail_on_recompile_limit_hit=True):
        yield


@pytest.fixture
def graphs(compiling: None, monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """What is compiled, by a backend that runs the graphs as they are."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    return graphs


def convolutions(graph: torch.fx.GraphModule) -> int:
    return sum("conv" in str(node.target) for node in graph.graph.nodes if node.op == "call_function")


def same_numbers(home: Home, trainer_class: type, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compare with the trainer that is not compiled: steps, validation, prediction; the compiled trainer."""
    compiled = ready(home, trainer_class, COMPILING)
    monkeypatch.setenv("nnUNet_compile", "false")
    plain = ready(home, trainer_class)
    compiled.trained_module.load_state_dict(plain.network.state_dict())
    compiled.method.load_state_dict(plain.method.state_dict())
    (batch,) = batches(plain, 1)
    for trainer in (plain, compiled):
        trainer.dataloader_meta = iter([batch] * 9)
    results = [
        [step(trainer, batch), *[step(after_warmup(trainer), batch) for _ in range(3)], validate(trainer, batch)]
        for trainer in (plain, compiled)
    ]
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    torch.manual_seed(0)
    expected = predict(plain)
    torch.manual_seed(0)
    monkeypatch.setenv("nnUNet_compile", "true")
    assert torch.allclose(predict(compiled), expected, atol=0.02)  # nnU-Net adds windows up in float16
    return compiled


@pytest.mark.parametrize("trainer_class", every_trainer(), ids=lambda c: c.__name__)
def test_every_trainer(home: Home, trainer_class: type, graphs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = same_numbers(home, trainer_class, monkeypatch)
    network, most = trainer.trained_module, max(map(convolutions, graphs))
    if isinstance(network, MultiStreamUNet):
        parts = [network.decoder, *network.encoders[0].stages]
        assert all(part._compiled_call_impl for part in parts) and most > 0
    elif trainer.compiles_whole_network:  # in one graph
        assert most == sum(isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) for module in network.modules())


@pytest.mark.slow
@pytest.mark.parametrize(
    "trainer_class",
    [nnUNetTrainerMetaKD, nnUNetTrainerPASSION, nnUNetTrainermmFormer, nnUNetTrainerSubsetKD],
    ids=lambda c: c.__name__,
)
def test_with_the_inductor(home: Home, trainer_class: type, compiling: None, monkeypatch: pytest.MonkeyPatch) -> None:
    same_numbers(home, trainer_class, monkeypatch)
