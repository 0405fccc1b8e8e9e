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


def seed_generators(*key: int) -> None:
    """Set the global generators of torch (all devices), numpy and Python from numbers that are not negative."""
    torch_seed, numpy_seed, python_seed = np.random.SeedSequence(key).generate_state(3)
    torch.manual_seed(int(torch_seed))
    np.random.seed(int(numpy_seed))
    random.seed(int(python_seed))


def seed_start(seed: int | None) -> None:
    """Seed a training before its network is built; all ranks start from the same weights. None: touch nothing."""
    if seed is not None:
        seed_generators(seed)


def seed_epoch(seed: int | None, rank: int, epoch: int) -> None:
    """Seed an epoch, each rank differently. None: touch nothing."""
    if seed is not None:
        seed_generators(seed, 1 + rank, epoch)
