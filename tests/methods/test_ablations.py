"""What each ablation that a trainer's name can ask for does to the loss, in closed form; and the ranking loss."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import test_auxiliary
import test_lckd
import test_metakd
import test_mst_kdnet
import test_passion
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from nnunetv2_mmkd.losses.logit import softened_kl
from nnunetv2_mmkd.methods.base import Batch, TrainingContext
from nnunetv2_mmkd.methods.modality_dropout import ModalityDropout
from nnunetv2_mmkd.methods.passion_config import PASSIONConfig
from nnunetv2_mmkd.methods.ranked import ranked
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.trainer_variants import (
    nnUNetTrainerLCKD,
    nnUNetTrainerMetaKD,
    nnUNetTrainermmFormer,
    nnUNetTrainerMSTKDNet,
    nnUNetTrainerPASSION,
)

AVAILABLE = torch.tensor([[True, True, False, True], [False, False, True, False]])


def config_of(module: Any, ending: str) -> Any:
    """The configuration of the trainer that a module is named after, with an ending."""
    return getattr(module, module.__name__.rpartition(".")[2] + ending).config


def softmax(w: Tensor) -> Tensor:
    return w.softmax(0)


# -- MetaKD and LCKD -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "alpha", "power", "normalise"),
    [
        ("_alpha0", 0.0, torch.abs, softmax),
        ("_alpha01", 0.1, torch.abs, softmax),
        ("_alpha05", 0.5, torch.abs, softmax),
        ("_alpha1", 1.0, torch.abs, softmax),
        ("_p2", 0.1, torch.square, softmax),
        ("_sigmoid", 0.1, torch.abs, torch.sigmoid),
        ("_relu", 0.1, torch.abs, torch.relu),
        ("_releasedcode", 0.1, torch.abs, softmax),
    ],
)
def test_ablations_of_metakd(ending: str, alpha: float, power: Callable[[Tensor], Tensor], normalise: Any) -> None:
    net, made = test_metakd.network(), test_metakd.method(config_of(nnUNetTrainerMetaKD, ending))
    data = test_metakd.batch(available=AVAILABLE)
    loss = made.step(net, data, mse_loss)["loss"]
    w = normalise(made.importance.w.detach())
    f = {m: net.encoders[0].stages(data.images[:1, m : m + 1])[0] for m in (0, 1, 3)}
    pairs = sum(w[i] / w[j] * power(f[i] - f[j]).mean() for i, j in permutations((0, 1, 3), 2))
    task = mse_loss(net(data.images, AVAILABLE), data.target)
    assert torch.allclose(loss, task + alpha * pairs / 2, rtol=1e-5)
    assert torch.equal(loss, task) == (alpha == 0)  # bit for bit no distillation


@pytest.mark.parametrize(
    ("ending", "alpha", "power"),
    [
        ("_alpha0", 0.0, torch.abs),
        ("_alpha05", 0.5, torch.abs),
        ("_alpha1", 1.0, torch.abs),
        ("_p2", 0.1, torch.square),
        ("_singleteacher", 0.1, torch.abs),
        ("_releasedcode", 0.1, torch.abs),
    ],
)
def test_ablations_of_lckd(ending: str, alpha: float, power: Callable[[Tensor], Tensor]) -> None:
    net, made = test_metakd.network(), test_lckd.elected(config_of(nnUNetTrainerLCKD, ending))
    teachers = (2,) if ending == "_singleteacher" else (0, 2)  # of two with one region each, the better in the mean
    assert made.teachers == teachers
    data = test_metakd.batch(b=1)
    loss = made.step(net, data, mse_loss)["loss"]
    f = test_lckd.features(net, data, 0)
    pairs = sum(power(f[i] - f[j]).mean() for i in teachers for j in range(4))
    task = mse_loss(net(data.images), data.target)
    assert torch.allclose(loss, task + alpha * pairs, rtol=1e-5)
    assert torch.equal(loss, task) == (alpha == 0)


# -- PASSION's Table 2 -----------------------------------------------------------------------------------------------


def passion_parts(config: PASSIONConfig, rates: tuple[float, ...] = test_passion.RATES) -> dict[str, Tensor]:
    batch = test_passion.a_batch(test_passion.MIXED)
    return test_passion.prepared(config, rates=rates).step(test_passion.tiny_network(), batch, test_passion.task_loss)[
        "parts"
    ]


@pytest.mark.parametrize(
    ("ending", "terms", "beta", "delta"),
    [
        ("_baseline", {"regularisation"}, None, None),
        ("_onlypixel", {"pixel"}, False, None),
        ("_onlyproto", {"proto"}, None, False),
        ("_withoutdelta", {"pixel", "proto"}, False, False),
        ("_withoutbeta", {"pixel", "proto"}, False, True),
        ("", {"pixel", "proto"}, True, True),
    ],
)
def test_passion_table_2(ending: str, terms: set[str], beta: bool | None, delta: bool | None) -> None:
    """Without beta the pixel-wise term is that of equal rates; without delta every student has the semantic one."""
    found = passion_parts(config_of(nnUNetTrainerPASSION, ending))
    assert set(found) == {"task", *terms}
    if beta is not None:
        of_rates = passion_parts(PASSIONConfig(), test_passion.RATES if beta else (0.0, 0.0, 0.0))
        assert torch.equal(found["pixel"], of_rates["pixel"])
    if delta is not None:
        assert torch.equal(found["proto"], passion_parts(PASSIONConfig(mask=delta))["proto"])
    masked, unmasked = (passion_parts(PASSIONConfig(mask=mask))["proto"] for mask in (True, False))
    assert 0 < masked < unmasked


def complete(batch: Batch, seed: int = 5) -> Batch:
    """The same batch of cases that have everything: what is not available is dropped, not missing."""
    images = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(seed))
    return Batch(images, batch.available, torch.ones_like(batch.available), batch.target, batch.valid)


def test_passion_teaches_what_a_step_drops() -> None:
    method = test_passion.prepared(config_of(nnUNetTrainerPASSION, "_allmodalities"), rates=(0.0, 0.0, 0.0))
    network, batch = test_passion.tiny_network(), complete(test_passion.a_batch([[1, 0, 1], [0, 1, 0]]))
    parts = method.step(network, batch, test_passion.task_loss)["parts"]
    pixel = 0.0
    for sample, mask in enumerate(batch.available):
        image = batch.images[sample, None]
        teacher = network(image, mask)
        for m in range(3):
            student = network(image, torch.arange(3) == m)
            pixel += float(softened_kl(teacher[0], student[0], exclusive=True, tau=4.0).detach())
    assert float(parts["pixel"]) == pytest.approx(0.5 * pixel / 2, rel=1e-4)
    fewer = test_passion.prepared(rates=(0.0, 0.0, 0.0)).step(network, batch, test_passion.task_loss)["parts"]
    assert float(fewer["pixel"]) < float(parts["pixel"]) and torch.equal(fewer["task"], parts["task"])


def test_backbones_segment_what_a_step_drops(one_thread: None) -> None:
    config = config_of(nnUNetTrainermmFormer, "_allmodalities")
    net, method = test_auxiliary.made(MMFormerFusion, all_modalities=config.all_modalities)
    batch = complete(test_auxiliary.a_batch())
    parts = test_auxiliary.total(net, method, batch)["parts"]
    everything = Batch(batch.images, batch.present, batch.present, batch.target)
    expected = test_auxiliary.by_hand(net, method, everything)["uni-modal"]  # over the case's modalities
    task = test_auxiliary.by_hand(net, method, batch)["task"]  # on the subset
    assert torch.allclose(parts["uni-modal"], expected, rtol=1e-4) and torch.allclose(parts["task"], task, rtol=1e-4)


# -- MST-KDNet's Table 4 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "gone"),
    [
        ("_withoutmstkd", {"attention", "tokens"}),
        ("_withoutgsme", {"style", "adversarial"}),
        ("_withoutslkd", {"kl"}),
    ],
)
def test_mst_kdnet_table_4(ending: str, gone: set[str]) -> None:
    """The terms of one part are gone, the others are as they were, bit for bit."""
    parts = []
    for name in ("", ending):
        method, network = test_mst_kdnet.prepared(config_of(nnUNetTrainerMSTKDNet, name))
        parts.append(method.step(network, test_mst_kdnet.a_batch(), test_mst_kdnet.task_loss)["parts"])
    assert set(parts[0]) - set(parts[1]) == gone
    assert all(torch.equal(value, parts[0][name]) for name, value in parts[1].items())


# -- the ranking loss ------------------------------------------------------------------------------------------------


class Sum(torch.nn.Module):
    """Says the mean of the available modalities: what is true is known to the first alone."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, available: Tensor) -> Tensor:
        weights = available.float() / available.sum(1, keepdim=True)
        return self.scale * (x * weights[..., None]).sum(1)


def ranking(images: Tensor, available: Tensor, target: Tensor, weight: float = 0.1) -> tuple[dict[str, Tensor], Any]:
    method = ranked(ModalityDropout, weight)()
    method.setup(TrainingContext(("a", "b"), torch.device("cpu")))
    result = method.step(Sum(), Batch(images, available, available, target), mse_loss)
    return {"loss": result["loss"], **result["parts"]}, method


def test_a_worse_prediction_with_more_costs_its_difference() -> None:
    images = torch.tensor([[[1.0], [1.0]], [[1.0], [1.0]], [[3.0], [0.0]]])
    available = torch.tensor([[True, True], [True, False], [True, True]])
    target = torch.tensor([[1.0], [0.0], [1.5]])
    # the third: 1.5 with both, which is right, and 3 or 0 with one: no ranking loss anywhere
    parts, method = ranking(images, available, target)
    assert float(parts["ranking"]) == 0 and torch.equal(parts["loss"], parts["task"])
    # now one modality alone, whichever it is, is right and both are wrong: (2 - 0)^2, one sample of three
    images = torch.tensor([[[1.0], [1.0]], [[1.0], [1.0]], [[3.0], [3.0]]])

    class Doubles(Sum):
        def forward(self, x: Tensor, available: Tensor) -> Tensor:
            return super().forward(x, available) * available.sum(1, keepdim=True)

    net = Doubles()
    batch = Batch(images, available, available, torch.tensor([[2.0], [1.0], [3.0]]))
    result = method.step(net, batch, mse_loss)
    assert float(result["parts"]["ranking"]) == pytest.approx(0.1 * (6 - 3) ** 2 / 3)
    assert float(result["loss"].detach()) == pytest.approx(float(sum(result["parts"].values())))
    (gradient,) = torch.autograd.grad(result["loss"] - mse_loss(net(images, available), batch.target), net.scale)
    assert float(gradient) == pytest.approx(0.1 * 2 * 3 * 6 / 3)  # d (6 s - 3)^2 - (3 s - 3)^2 at s = 1
    assert method.curve_names()[-1] == "loss/ranking" and method.curves()["loss/ranking"] > 0


def test_a_negative_weight_of_the_ranking_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        ranked(ModalityDropout, -0.1)
