"""What a checkpoint holds beside nnU-Net's own: one key, ``mmkd``, of plain tensors and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import replacing
from nnunetv2_mmkd.inference.checkpoint_file import read_nnunet_checkpoint
from nnunetv2_mmkd.methods.base import Method
from nnunetv2_mmkd.modalities import SubsetSampler
from nnunetv2_mmkd.training.deployment import DeploymentMixin

KEY = "mmkd"


class CheckpointMixin(DeploymentMixin):
    """Saves and restores the method, the sampler, the iteration counter, random state and the missing-rate table.

    Where other weights are deployed than trained, the trained ones are kept, too.
    """

    method: Method
    sampler: SubsetSampler
    mmkd_iteration: int
    missing_table: dict[str, Any] | None
    suffix_table: str | None
    _random_state: Tensor | None = None

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint with our key, written under a temporary name and renamed when complete."""
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        with replacing(Path(filename)) as temporary:
            super().save_checkpoint(str(temporary))
            checkpoint = read_nnunet_checkpoint(temporary)
            checkpoint[KEY] = {
                "method": self.method.state_dict(),
                "sampler": self.sampler.state_dict(),
                "iteration": self.mmkd_iteration,
                "random_state": torch.get_rng_state(),
                "missing_table": self.missing_table,
            }
            if self.method.deployed(self.trained_module) is not None:
                checkpoint[KEY]["network"] = self.trained_module.state_dict()
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Restore nnU-Net's state and ours.

        Raises:
            InputError: the checkpoint is not of a trainer of this package.
        """
        super().load_checkpoint(filename_or_checkpoint)
        checkpoint = read_nnunet_checkpoint(filename_or_checkpoint)
        if KEY not in checkpoint:
            raise InputError(
                f"{filename_or_checkpoint} was written by {checkpoint.get('trainer_name')}, not by a trainer of "
                "nnunetv2-mmkd: start a new training, with -pretrained_weights if its weights shall be used"
            )
        state = checkpoint[KEY]
        self.method.load_state_dict(state["method"])
        if "network" in state:
            self.trained_module.load_state_dict(state["network"])
        self.mmkd_iteration = int(state["iteration"])
        self.missing_table = state["missing_table"]
        if self.local_rank == 0:
            self.sampler.load_state_dict(state["sampler"])
        else:  # only rank 0's sampler is stored; the others go on with a sequence of their own
            self.sampler.generator.manual_seed(self.mmkd_iteration * 1000 + self.local_rank)
        self._random_state = state["random_state"]

    def on_train_start(self) -> None:
        """As nnU-Net; a resumed run then goes on with the stored random state (the loaders' first batches draw)."""
        super().on_train_start()
        if self._random_state is not None:
            torch.set_rng_state(self._random_state)
