"""A training that has diverged ends before it overwrites its last good checkpoint.

nnU-Net goes on: without a gradient scaler one NaN in a gradient makes all weights NaN, with one it skips every further
step, and in the end it writes a ``checkpoint_final.pth`` that predicts background.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.finite import first_not_finite


def check_epoch(host: nnUNetTrainer, outputs: Sequence[Mapping[str, Any]], modules: Iterable[nn.Module]) -> None:
    """Refuse to go on after an epoch that left NaN or infinite weights, or had no finite loss at all.

    A loss that is not finite in some iterations is no reason: the gradient scaler skips such a step. One look at the
    device in an epoch.

    Args:
        host: the trainer, told if some losses were not finite.
        outputs: of the iterations, with ``loss``.
        modules: that are trained.

    Raises:
        InputError: the training has diverged.
    """
    bad = sum(not np.isfinite(output["loss"]).all() for output in outputs)
    states = [module.state_dict() for module in modules]
    key = first_not_finite({f"{index}.{key}": state[key] for index, state in enumerate(states) for key in state})
    if key is not None or bad == len(outputs) > 0:
        what = f"the weights {key.partition('.')[2]} are" if key is not None else "the loss of every iteration was"
        raise InputError(
            f"epoch {host.current_epoch}: {what} NaN or infinite, the training has diverged. Checkpoints of earlier "
            "epochs stay. Look at the images and labels first (values, spacing), then train with a lower learning rate"
        )
    if bad:
        host.print_to_log_file(f"WARNING: the loss of {bad} of {len(outputs)} iterations was NaN or infinite")
