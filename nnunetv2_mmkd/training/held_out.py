"""The held-out split, training cases of a fold that a method needs for itself, and the loader of a meta split."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import HeldOut


def split_held_out(
    cases: Sequence[str], present: Mapping[str, NDArray[np.bool_]], rule: HeldOut, seed: int = 12345
) -> tuple[list[str], list[str]]:
    """Split a fold's training cases into those trained on and those held out.

    Args:
        cases: the fold's training cases.
        present: what each case has, ``[M]``.
        rule: how many, and which first; among equals a seeded draw decides.
        seed: of the draw; 12345 is what nnU-Net splits with.

    Returns:
        training cases, held-out cases; disjoint unless ``rule.overlap``, each sorted.

    Raises:
        InputError: fewer than two cases.
    """
    if len(cases) < 2:
        raise InputError(
            f"this method holds out training cases (its {rule.kind} split), but the fold has only {len(cases)}"
        )
    count = int(rule.share * len(cases))
    count = max(1, count if rule.most is None else min(rule.most, count))
    order = [str(case) for case in np.random.RandomState(seed).permutation(sorted(cases))]
    if rule.complete_first:
        order.sort(key=lambda case: -int(present[case].sum()))  # stable: the draw decides among equals
    held_out = set(order[:count])
    training = [case for case in sorted(cases) if rule.overlap or case not in held_out]
    return training, sorted(held_out)


def held_out_loader(host: nnUNetTrainer, training_loader: Any, cases: Sequence[str]) -> Any:
    """A loader of held-out cases with the augmentation of training.

    Args:
        host: the trainer.
        training_loader: nnU-Net's loader of the training cases, wrapped in an augmenter.
        cases: identifiers of the held-out cases.
    """
    wrapped = training_loader
    loader = copy.copy(wrapped.generator if hasattr(wrapped, "generator") else wrapped.data_loader)
    loader._data = host.dataset_class(host.preprocessed_dataset_folder, list(cases))
    loader.indices = loader._data.identifiers
    if get_allowed_n_proc_DA() == 0:
        return SingleThreadedAugmenter(loader, None)
    return NonDetMultiThreadedAugmenter(
        loader,
        None,
        num_processes=max(1, get_allowed_n_proc_DA() // 4),
        num_cached=3,
        pin_memory=host.device.type == "cuda",
        wait_time=0.002,
    )


def stop_loader(loader: Any) -> None:
    """Stop the worker processes of a loader, if it has any."""
    if isinstance(loader, NonDetMultiThreadedAugmenter):
        stdout = sys.stdout
        with open(os.devnull, "w") as sink:  # the augmenter prints when it stops
            sys.stdout = sink
            loader._finish()
            sys.stdout = stdout
