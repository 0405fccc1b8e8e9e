"""Scores of a classification: accuracy, Dice (F1) by class, macro F1.

Legend: N subjects, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of the subjects whose class was predicted; NaN without subjects."""
    return float((predicted == labels).double().mean())


def f1_by_class(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """F1 of each class, 2 TP / (2 TP + FP + FN): the Dice of its indicator over the subjects.

    Args:
        predicted: int ``[N]``.
        labels: int ``[N]``.
        classes: K.

    Returns:
        float64 ``[K]``, NaN where no subject is of the class.
    """
    chosen = torch.nn.functional.one_hot(predicted, classes).double()
    return dice_by_class(chosen, labels)


def dice_by_class(chosen: Tensor, labels: Tensor) -> Tensor:
    """Dice over the subjects of each class, of decisions or of probabilities.

    Args:
        chosen: ``[N, K]`` in [0, 1].
        labels: int ``[N]``.

    Returns:
        ``[K]``, NaN where no subject is of the class.
    """
    truth = torch.nn.functional.one_hot(labels, chosen.shape[1]).to(chosen)
    dice = 2 * (chosen * truth).sum(0) / (chosen.sum(0) + truth.sum(0))
    return torch.where(truth.sum(0) > 0, dice, torch.nan)


def macro_f1(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Mean F1 over the classes that there are; NaN without subjects."""
    return float(f1_by_class(predicted, labels, classes).nanmean())
