"""Another optimiser as a class attribute: AdamW under nnU-Net's schedule, for the method's own modules, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_nnunet import Home, start, steps

from nnunetv2_mmkd.trainer_variants.nnUNetTrainermmFormer import nnUNetTrainermmFormer
from nnunetv2_mmkd.training.optimizer import AdamWConfig


class WithAdamW(nnUNetTrainermmFormer):
    adamw = AdamWConfig()


def test_adamw_is_the_papers_and_the_schedule_nnunets(home: Home) -> None:
    trainer = start(home.trainer(WithAdamW))
    optimizer = trainer.optimizer
    assert type(optimizer) is torch.optim.AdamW and len(optimizer.param_groups) == 2  # the second: the method's
    for group in optimizer.param_groups:
        assert (group["weight_decay"], group["betas"], group["amsgrad"]) == (1e-4, (0.9, 0.999), True)
        assert group["lr"] == pytest.approx(2e-4)
    trainer.current_epoch = trainer.num_epochs // 2
    trainer.on_train_epoch_start()
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(2e-4 * 0.5**0.9)] * 2
    before = [weight.detach().clone() for weight in trainer.method.decoder.parameters()]
    steps(trainer, [next(trainer.dataloader_train)])
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.method.decoder.parameters(), strict=True))
    described = json.loads((Path(trainer.output_folder) / "mmkd_config.json").read_text())
    assert described["optimizer_law"]["rate"] == 2e-4


def test_without_it_the_optimiser_is_nnunets(home: Home) -> None:
    trainer = home.trainer(nnUNetTrainermmFormer)
    trainer.initialize()
    (network, own) = trainer.optimizer.param_groups
    assert type(trainer.optimizer) is torch.optim.SGD
    assert network["lr"] == own["lr"] == 1e-2 and own["momentum"] == 0.99 and own["nesterov"]


@pytest.mark.parametrize(("name", "value"), [("rate", 0.0), ("weight_decay", -1.0)])
def test_impossible_values_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name.replace("_", " ").replace("rate", "learning rate")):
        AdamWConfig(**{name: value})
