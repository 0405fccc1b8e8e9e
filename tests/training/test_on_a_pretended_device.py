"""Every trainer on a pretended device: nothing stays behind on the CPU, no step waits for more than its loss."""

from __future__ import annotations

import pytest
from every_trainer import after_warmup, batches, predict, ready, rows, step, validate
from pretended_device import PRETENDED, pretended_device, waits_of
from tiny_nnunet import Home

LOSS = {"copy to the host": 1}
"""What nnU-Net's own step waits for."""


@pytest.mark.parametrize("trainer_class", rows(), ids=lambda c: c.__name__)
def test_nothing_is_mixed_and_no_step_waits(home: Home, trainer_class: type) -> None:
    with pretended_device() as device:
        trainer = ready(home, trainer_class, PRETENDED)
        (batch,) = batches(trainer, 1)
        first = waits_of(device, lambda: step(trainer, batch))
        if trainer.method.needs_meta_split:
            assert first == {**LOSS, "_local_scalar_dense": trainer.method.config.meta_steps}
        elif trainer.method.held_out:
            assert first["copy to the host"] > 1  # an election
        trainer.method.end_epoch(trainer.bare_network, 0)
        trainer.method.curves()
        after_warmup(trainer)
        assert waits_of(device, lambda: step(trainer, batch)) == LOSS
        passes = waits_of(device, lambda: validate(trainer, batch))
        assert passes in ({"copy to the host": 4}, {"copy to the host": 8})  # nnU-Net's, once or twice
        assert predict(trainer).isfinite().all()
