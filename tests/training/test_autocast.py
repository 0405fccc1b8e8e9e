"""Half precision as on a GPU, on the CPU: every trainer, wherever nnU-Net and the package would autocast there."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import nnunetv2.inference.predict_from_raw_data as prediction
import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as stock
import pytest
import torch
from every_trainer import after_warmup, all_finite, batches, predict, ready, rows, step, validate, weights
from tiny_nnunet import Home, differences
from torch import Tensor

from nnunetv2_mmkd import precision
from nnunetv2_mmkd.paths import BFLOAT16_VARIABLE


def autocast_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast where there would be autocast on CUDA, to what it would be there."""
    for module, name in ((stock, "dummy_context"), (prediction, "dummy_context"), (precision, "nullcontext")):
        monkeypatch.setattr(module, name, partial(torch.autocast, "cpu", dtype=torch.float16))


def keep_parts(trainer: Any) -> dict[str, Tensor]:
    """Filled with loss and parts of each step."""
    parts: dict[str, Tensor] = {}
    original = trainer.method.step

    def noting(*args: Any) -> Any:
        result = original(*args)
        parts.update(result["parts"], loss=result["loss"].detach())
        return result

    trainer.method.step = noting
    return parts


@pytest.mark.parametrize("trainer_class", rows(), ids=lambda c: c.__name__)
def test_float16_overflow_and_recovery(home: Home, trainer_class: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that overflows is skipped, in backward or in the network, and leaves nothing behind."""
    autocast_on_cpu(monkeypatch)
    trainer = ready(home, trainer_class)
    trainer.grad_scaler = scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    parts = keep_parts(trainer)
    (batch,) = batches(trainer, 1)
    start = weights(trainer)
    assert math.isfinite(step(trainer, batch))  # with the periodic update, if there is one
    assert scaler.get_scale() == 2.0**39 and differences(start, weights(trainer)) == []
    after_warmup(trainer)
    scaler.update(2.0**8)
    spoilt = copy.deepcopy(batch)
    spoilt["data"][..., :8] = 1e5  # infinite in float16
    assert not math.isfinite(step(trainer, spoilt))
    assert scaler.get_scale() == 2.0**7 and differences(start, weights(trainer)) == []
    assert math.isfinite(step(trainer, batch)) and scaler.get_scale() == 2.0**7
    assert {value.dtype for value in parts.values()} == {torch.float32}
    moved = weights(trainer)
    assert all_finite(moved) and all(differences(start[key], moved[key]) != [] for key in start)
    trainer.method.end_epoch(trainer.bare_network, 0)
    assert all_finite(trainer.method.state_dict())
    assert math.isfinite(validate(trainer, batch)) and predict(trainer).isfinite().all()


@pytest.mark.parametrize("trainer_class", rows(("ModalityDropout", "MetaKD")), ids=lambda c: c.__name__)
def test_bfloat16_on_a_cpu(home: Home, trainer_class: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step, a validation and a prediction are those of float32, as far as eight bits go; losses are float32."""
    found, batch = [], None
    home.dataset(2)  # planning would draw random numbers
    for asked in ("", "1"):
        monkeypatch.setenv(BFLOAT16_VARIABLE, asked)
        torch.manual_seed(0)
        trainer = ready(home, trainer_class)
        batch = batch or batches(trainer, 1)[0]
        start, parts = weights(after_warmup(trainer)), keep_parts(trainer)
        torch.manual_seed(0)
        logits, validated, trained = predict(trainer), validate(trainer, batch), step(trainer, batch)
        found.append((logits, [validated, trained]))
        assert {value.dtype for value in parts.values()} == {torch.float32}
        assert differences(start, weights(trainer)) != []
    (logits, losses), (rounded, others) = found
    assert others == pytest.approx(losses, rel=0.02) and others != losses
    assert 0 < float((rounded - logits).norm() / logits.norm()) < 0.05
