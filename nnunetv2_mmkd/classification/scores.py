"""Scores of a classification.

Legend: N subjects, K classes.
"""

from __future__ import annotations

import torch
from sklearn.metrics import f1_score
from torch import Tensor


def dice_by_class(chosen: Tensor, labels: Tensor) -> Tensor:
    """Dice over the subjects of each class, of decisions (then it is the class's F1) or of probabilities.

    Args:
        chosen: ``[N, K]`` in [0, 1].
        labels: int ``[N]``.

    Returns:
        ``[K]``, NaN where no subject is of the class.
    """
    truth = torch.nn.functional.one_hot(labels, chosen.shape[1]).to(chosen)
    dice = 2 * (chosen * truth).sum(0) / (chosen.sum(0) + truth.sum(0))
    return torch.where(truth.sum(0) > 0, dice, torch.nan)


def macro_f1(predicted: Tensor, labels: Tensor) -> float:
    """Mean F1, 2 TP / (2 TP + FP + FN), over the classes that occur among the labels.

    Args:
        predicted, labels: int ``[N]``, N > 0.
    """
    return float(f1_score(labels, predicted, labels=labels.unique(), average="macro"))
