"""All rivals: no trace of what is missing; trained by name on tables, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from toy_subjects import FlexMoEForToy, SMILForToy, rival, shared_specific, toy

from nnunetv2_mmkd.classification.auto_encoder import AutoEncoderClassifier
from nnunetv2_mmkd.classification.catalogue import RIVALS_ABOUT
from nnunetv2_mmkd.classification.network import MultiModalClassifier
from nnunetv2_mmkd.classification.rivals import RIVALS
from nnunetv2_mmkd.classification.tabular.run import TabularProtocol, make_network


def smil() -> MultiModalClassifier:
    net = rival(SMILForToy)
    net.set_priors(torch.randn(9, 2, 6))
    return net


@pytest.mark.parametrize(
    "made",
    [shared_specific, lambda: rival(AutoEncoderClassifier), smil, lambda: rival(FlexMoEForToy)],
    ids=["shaspec", "auto-encoder", "smil", "flex-moe"],
)
@torch.no_grad()
def test_the_content_of_a_missing_input_changes_no_bit(made: Callable[[], MultiModalClassifier]) -> None:
    net, subjects = made().eval(), toy(20)
    expected = net(subjects.inputs, subjects.present)
    other = {
        name: torch.where(subjects.present[:, [column]], values, torch.inf)
        for column, (name, values) in enumerate(subjects.inputs.items())
    }
    assert torch.isfinite(expected).all() and torch.equal(net(other, subjects.present), expected)


def test_each_is_described() -> None:
    assert list(RIVALS_ABOUT) == list(RIVALS)


@pytest.mark.parametrize("name", RIVALS)
def test_tables_have_them_on_request(name: str) -> None:
    assert name not in TabularProtocol().methods
    made = TabularProtocol(methods=(name,)).method(name, 0)
    network = make_network(toy(), 8, 0, name)
    assert type(made) is type(RIVALS[name].method()) and type(network) is not MultiModalClassifier
