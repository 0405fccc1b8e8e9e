"""A training that has diverged ends before it overwrites its checkpoints; a foreign checkpoint runs no code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_nnunet import Home, log_of, start

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import nnUNetTrainerSubsetKD

GOOD, BAD = {"loss": np.float32(0.5)}, {"loss": np.float32(np.nan)}


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_it_ends(home: Home) -> None:
    trainer = start(home.trainer(nnUNetTrainerSubsetKD))
    trainer.on_train_epoch_end([GOOD, BAD])  # the gradient scaler skips such a step
    assert "the loss of 1 of 2 iterations was NaN" in log_of(trainer)
    with pytest.raises(InputError, match="epoch 0: the loss of every iteration was NaN"):
        trainer.on_train_epoch_end([BAD, BAD])
    name, weight = next(iter(trainer.network.named_parameters()))
    with torch.no_grad():
        weight[0] = torch.inf
    with pytest.raises(InputError, match=f"epoch 0: the weights {name} are NaN or infinite"):
        trainer.on_train_epoch_end([GOOD, GOOD])


def test_going_on(home: Home, tmp_path: Path) -> None:
    """nnU-Net reads the file in a way that runs what is in it: not before we have looked."""
    trainer, file = start(home.trainer(nnUNetTrainerSubsetKD)), tmp_path / "checkpoint_latest.pth"
    trainer.on_train_epoch_end([GOOD])
    trainer.save_checkpoint(str(file))
    trainer.load_checkpoint(str(file))
    whole = torch.load(file, weights_only=False)
    for spoil, message in (
        ({"own": Payload(tmp_path / "ran")}, "--trust"),
        ({"mmkd": {}}, "mmkd has no 'method'"),
        ({"mmkd": [1]}, "'mmkd' is a list"),
        ({"network_weights": {**whole["network_weights"], "x": torch.tensor(torch.nan)}}, "x in 'network_weights' is"),
    ):
        torch.save({**whole, **spoil}, file)
        with pytest.raises(InputError, match=message):
            trainer.load_checkpoint(str(file))
    del whole["logging"]
    torch.save(whole, file)
    with pytest.raises(InputError, match="has no 'logging'"):
        trainer.load_checkpoint(str(file))
    assert not (tmp_path / "ran").exists()
