"""A training in one go, and the same one stopped, saved and resumed, on the same batches."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_nnunet import Home, start

EPOCHS, STOP_AFTER, TRAIN, VALIDATION = 3, 2, 3, 2


def same_batches(
    home: Home, trainer_class: type, dataset: str | None = None, configuration: str = "3d_fullres"
) -> type:
    """A trainer that feeds epoch e the e-th batches, whoever asks and whenever the run was started."""
    source = start(home.trainer(trainer_class, dataset, configuration))
    fed: dict[str, list[list[dict[str, Any]]]] = {
        "train": [[next(source.dataloader_train) for _ in range(TRAIN)] for _ in range(EPOCHS)],
        "val": [[next(source.dataloader_val) for _ in range(VALIDATION)] for _ in range(EPOCHS)],
    }

    class SameBatches(trainer_class):  # type: ignore[misc]
        stop_after: int | None = None

        def apply_suffixes(self) -> None:
            self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = (
                EPOCHS, TRAIN, VALIDATION,
            )  # fmt: skip
            self.save_every = 1

        def draw_curves(self) -> None:
            """Drawing takes longer than training here."""

        def on_epoch_start(self) -> None:
            if self.current_epoch == self.stop_after:
                raise KeyboardInterrupt
            super().on_epoch_start()
            for name, epochs in fed.items():
                setattr(self, f"dataloader_{name}", iter(copy.deepcopy(epochs[self.current_epoch])))

    return SameBatches


def whole_and_resumed(
    home: Home,
    trainer_class: type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: str | None = None,
    configuration: str = "3d_fullres",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The final checkpoints of both, without times.

    Args:
        home: of the data set.
        trainer_class: from :func:`same_batches`.
        tmp_path: for results.
        monkeypatch: for the environment.
        dataset: name.
        configuration: of the plans.
    """
    found = []
    for run in ("whole", "resumed"):
        monkeypatch.setenv("nnUNet_results", str(tmp_path / run))
        torch.manual_seed(1)
        trainer = home.trainer(trainer_class, dataset, configuration)
        if run == "resumed":
            trainer.stop_after = STOP_AFTER
            with pytest.raises(KeyboardInterrupt):
                trainer.run_training()
            torch.manual_seed(99)  # a new process starts with another state
            np.random.seed(99)
            trainer = home.trainer(trainer_class, dataset, configuration)
            trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
            assert trainer.current_epoch == STOP_AFTER and trainer.mmkd_iteration == TRAIN * STOP_AFTER
        trainer.run_training()
        final = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
        for key in ("epoch_start_timestamps", "epoch_end_timestamps"):
            final["logging"].pop(key)
        found.append(final)
    return found[0], found[1]
