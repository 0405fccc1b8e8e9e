"""Trainers as nnU-Net compiles them on a GPU, and their predictions: the same numbers, no part left out in silence."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, partialmethod
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from every_trainer import after_warmup, batches, every_trainer, predict, ready, step, validate
from tiny_nnunet import Home
from torch import nn

from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.scale_spec import scale_specs
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerLCKD import nnUNetTrainerLCKDSingleTeacher
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import (
    nnUNetTrainerMCKD,
    nnUNetTrainerMetaKD,
    nnUNetTrainerSharedStreams,
    nnUNetTrainerUniformKD,
)
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModDrop import nnUNetTrainerModDrop
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPASSION import (
    nnUNetTrainerPASSION_M2FTrans,
    nnUNetTrainerPASSION_RFNet,
    nnUNetTrainerPASSION_SharedStreams,
)
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerRobustSeg import nnUNetTrainerRobustSeg_SFusion
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import nnUNetTrainerSubsetKD

COMPILING = torch.device("cpu", 0)
"""nnU-Net compiles on all devices but ``torch.device("cpu")``."""

SAME = {
    "MetaKD": (nnUNetTrainerMCKD, nnUNetTrainerUniformKD, nnUNetTrainerSharedStreams),
    "LCKD": (nnUNetTrainerLCKDSingleTeacher,),
    "mmFormer": (nnUNetTrainerModDrop,),
    "PASSION": (nnUNetTrainerPASSION_RFNet, nnUNetTrainerPASSION_M2FTrans),
    "RobustSeg": (nnUNetTrainerRobustSeg_SFusion,),
}
"""Trainers of which the same is compiled as of another one."""

DIFFERENT = [found for found in every_trainer() if not any(found in same for same in SAME.values())]
QUICK = (nnUNetTrainerModalityDropout, nnUNetTrainerPASSION_SharedStreams)


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


def same_numbers(home: Home, trainer_class: type, monkeypatch: pytest.MonkeyPatch, brief: bool = False) -> Any:
    """Compare with the trainer that is not compiled: steps, validation, prediction; the compiled trainer.

    Briefly: a step in which all terms count, and validation.
    """
    compiled = ready(home, trainer_class, COMPILING)
    compiled.device = torch.device("cpu")  # of all its tensors
    monkeypatch.setenv("nnUNet_compile", "false")
    plain = ready(home, trainer_class)
    compiled.trained_module.load_state_dict(plain.network.state_dict())
    compiled.method.load_state_dict(plain.method.state_dict())
    (batch,) = batches(plain, 1)
    for trainer in (plain, compiled):
        trainer.dataloader_meta = iter([batch] * 9)
    results = []
    for trainer in (plain, compiled):
        torch.manual_seed(0)  # of latent variables
        steps = [] if brief else [step(trainer, batch)]
        steps.append(step(after_warmup(trainer), batch))
        results.append([*steps, validate(trainer, batch)])
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    if brief:
        return compiled
    torch.manual_seed(0)
    expected = predict(plain)
    torch.manual_seed(0)
    monkeypatch.setenv("nnUNet_compile", "true")
    assert torch.allclose(predict(compiled), expected, atol=0.02)  # nnU-Net adds windows up in float16
    return compiled


@pytest.mark.parametrize(
    "trainer_class",
    [found if found in QUICK else pytest.param(found, marks=pytest.mark.slow) for found in DIFFERENT],
    ids=lambda c: c.__name__,
)
def test_every_trainer(home: Home, trainer_class: type, graphs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = same_numbers(home, trainer_class, monkeypatch)
    network, most = trainer.trained_module, max(map(convolutions, graphs))
    if isinstance(network, MultiStreamUNet):
        parts = [network.decoder, *network.encoders[0].stages]
        assert all(part._compiled_call_impl for part in parts) and most > 0
    elif trainer.compiles_whole_network:  # in one graph
        assert most == sum(isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) for module in network.modules())


def test_no_stage_of_a_deep_network_is_left_out(graphs: list[Any]) -> None:
    """PyTorch counts the graphs of all modules against one limit, and then goes on without compiling."""
    planned = PlainConvUNet(1, 6, [2, 3, 4, 5, 6, 7], nn.Conv2d, 3, [1, *[2] * 5], 1, 2, 1, norm_op=nn.InstanceNorm2d)
    specs = scale_specs(planned.encoder, (64, 64), 2, 2)
    network = MultiStreamUNet([planned.encoder], MeanFill(specs), planned.decoder, ("t1", "t2"))
    network.compile_parts()
    for training in (True, False):
        network.train(training).encode(torch.randn(2, 2, 64, 64), torch.tensor([True, True]))
    assert len(graphs) > 8


@pytest.mark.slow
@pytest.mark.parametrize("trainer_class", [nnUNetTrainerMetaKD, nnUNetTrainerSubsetKD], ids=lambda c: c.__name__)
def test_with_the_inductor(home: Home, trainer_class: type, compiling: None, monkeypatch: pytest.MonkeyPatch) -> None:
    same_numbers(home, trainer_class, monkeypatch, brief=True)
