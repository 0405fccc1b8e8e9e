"""Equalities of steps, bit for bit: with the stock trainer, and between methods with their terms switched off."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tiny_nnunet import RESIDUAL, Home, differences, same_start, start, steps

from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerM2FTrans import nnUNetTrainerM2FTrans
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD, nnUNetTrainerSharedStreams
from nnunetv2_mmkd.trainer_variants.nnUNetTrainermmFormer import nnUNetTrainermmFormer
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMSTKDNet import nnUNetTrainerMSTKDNet
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPASSION import nnUNetTrainerPASSION_SharedStreams
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerRFNet import nnUNetTrainerRFNet
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream

NO_DROPOUT = ModalityDropoutConfig("full")


class NothingDropped(nnUNetTrainerModalityDropout):
    modality_dropout = NO_DROPOUT


class MetaKDWithoutAlpha(nnUNetTrainerMetaKD):
    modality_dropout = NO_DROPOUT
    config = MetaKDConfig(alpha=0.0, meta_interval=2, meta_steps=2)


class StreamsNothingDropped(nnUNetTrainerSharedStreams):
    modality_dropout = NO_DROPOUT


class SeparateStreams(nnUNetTrainerMultiStream):
    shared_streams = False


def complete(trainer: Any) -> Any:
    """All cases complete: the synthetic case_1 counts as having all."""
    trainer.cases.training_present.update({case: mask | True for case, mask in present(trainer)})
    return trainer


@pytest.mark.parametrize("identifier", ["nnUNetPlans", RESIDUAL])
def test_control_takes_the_stock_step(home: Home, identifier: str) -> None:
    stock = start(home.trainer(nnUNetTrainer, identifier=identifier))
    control = complete(start(home.trainer(NothingDropped, identifier=identifier)))
    assert stock.network.state_dict().keys() == control.network.state_dict().keys()
    assert type(stock.network) is type(control.network)
    same_start(stock, control)
    before = copy.deepcopy(stock.network.state_dict())
    batches = [next(stock.dataloader_train) for _ in range(4)]
    assert steps(stock, batches) == steps(control, batches)
    assert differences(stock.network.state_dict(), control.network.state_dict()) == []
    assert differences(stock.optimizer.state_dict(), control.optimizer.state_dict()) == []
    assert differences(before, stock.network.state_dict()) != []


def test_control_that_drops_takes_another_step(home: Home) -> None:
    """The test above can fail."""
    stock = start(home.trainer(nnUNetTrainer))
    control = start(home.trainer(nnUNetTrainerModalityDropout))
    same_start(stock, control)
    batches = [next(stock.dataloader_train) for _ in range(2)]
    assert steps(stock, batches) != steps(control, batches)


def test_metakd_without_alpha_is_shared_streams(home: Home) -> None:
    metakd = complete(start(home.trainer(MetaKDWithoutAlpha)))
    streams = complete(start(home.trainer(StreamsNothingDropped)))
    same_start(metakd, streams)
    batches = [next(metakd.dataloader_train) for _ in range(4)]
    importance = metakd.method.importance.w.detach().clone()
    assert steps(metakd, batches) == steps(streams, batches)
    assert differences(metakd.network.state_dict(), streams.network.state_dict()) == []
    assert metakd.method.meta_updates == 4  # at iterations 0 and 2
    assert not torch.equal(importance, metakd.method.importance.w)


def test_alpha_changes_the_step(home: Home) -> None:
    class WithAlpha(nnUNetTrainerMetaKD):
        modality_dropout = NO_DROPOUT

    metakd, streams = start(home.trainer(WithAlpha)), start(home.trainer(StreamsNothingDropped))
    same_start(metakd, streams)
    batches = [next(metakd.dataloader_train)]
    assert steps(metakd, batches) != steps(streams, batches)


@pytest.mark.parametrize(
    "trainer_class",
    [
        nnUNetTrainerModalityDropout,
        nnUNetTrainerMetaKD,
        nnUNetTrainerMSTKDNet,
        nnUNetTrainerPASSION_SharedStreams,
        SeparateStreams,
        nnUNetTrainermmFormer,
        nnUNetTrainerRFNet,
        nnUNetTrainerM2FTrans,
    ],
    ids=lambda c: c.__name__,
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_content_of_a_missing_channel_changes_nothing(home: Home, trainer_class: type, value: float) -> None:
    clean, dirty = start(home.trainer(trainer_class)), start(home.trainer(trainer_class))
    same_start(clean, dirty)
    dirty.method.load_state_dict(copy.deepcopy(clean.method.state_dict()))
    batches = [next(clean.dataloader_train) for _ in range(3)]
    spoilt = copy.deepcopy(batches)
    for trainer in (clean, dirty):  # T2 is missing in all cases
        trainer.cases.training_present.update(
            {case: np.array([True, True, False]) & (mask | True) for case, mask in present(trainer)}
        )
        trainer.dataloader_meta = iter(copy.deepcopy([batches[0]] * 100))
    for batch in spoilt:
        batch["data"][:, 2] = value
    dirty.dataloader_meta = iter(copy.deepcopy([spoilt[0]] * 100))
    losses = steps(clean, batches)
    assert torch.isfinite(torch.tensor(losses)).all()
    assert losses == steps(dirty, spoilt)
    assert differences(clean.network.state_dict(), dirty.network.state_dict()) == []
    assert differences(clean.method.state_dict(), dirty.method.state_dict()) == []
    mask = torch.tensor([True, True, False])
    for training in (True, False):
        clean.network.train(training)
        with torch.no_grad():
            outputs = [clean.bare_network(batch[0]["data"], available=mask) for batch in (batches, spoilt)]
        assert differences(*outputs) == []


def present(trainer: Any) -> list[tuple[str, Any]]:
    return list(trainer.cases.training_present.items())
