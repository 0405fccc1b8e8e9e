"""Seeded trainings: what the ending ``_seed<N>`` of a trainer's name fixes.

nnU-Net seeds nothing. With the ending, the generators of this process (torch's on all devices, numpy's, Python's) are
set from N before the network is built, and from N, the rank and the epoch before each epoch, so that a resumed run
draws what the uninterrupted one would have drawn. Fixed are:

- the initial weights of the network and of all modules of the method;
- the sequence of subsets (the trainer's ``seed`` is N);
- whatever the method draws in training;
- with ``nnUNet_n_proc_DA=0`` also patches and augmentation, which are then drawn in this process.

Not fixed are: patches and augmentation drawn in nnU-Net's worker processes (its default), which nnU-Net neither seeds
nor orders; the order of summation in CUDA kernels (nnU-Net asks cuDNN for its fastest ones). Held-out splits, the
subsets of the online validation, a missing-rate table and MetaKD's ``MetaKDConfig.seed`` are the same for every N: two
seeds of a method train on the same cases.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def seed_generators(*key: int) -> None:
    """Set the global generators of torch (all devices), numpy and Python from numbers that are not negative."""
    torch_seed, numpy_seed, python_seed = np.random.SeedSequence(key).generate_state(3)
    torch.manual_seed(int(torch_seed))
    np.random.seed(int(numpy_seed))
    random.seed(int(python_seed))


class SeedMixin(nnUNetTrainer):
    """Seeds a training whose class's name asks for it; touches no generator otherwise."""

    suffix_seed: int | None

    def initialize(self) -> None:
        """As nnU-Net. All ranks start from the same weights."""
        if self.suffix_seed is not None:
            seed_generators(self.suffix_seed)
        super().initialize()

    def on_train_start(self) -> None:
        """As nnU-Net. The loaders' first batches, which nobody sees, and their workers start from here."""
        self._seed_epoch()
        super().on_train_start()

    def on_epoch_start(self) -> None:
        """As nnU-Net."""
        self._seed_epoch()
        super().on_epoch_start()

    def _seed_epoch(self) -> None:
        if self.suffix_seed is not None:
            seed_generators(self.suffix_seed, 1 + self.local_rank, self.current_epoch)
