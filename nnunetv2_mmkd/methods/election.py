"""LCKD's teacher election: from the Dice of single modalities to the modalities that teach.

Everything here is exact and without chance: equal tables give equal teachers on every rank.

Legend: L election cases, M modalities, K tasks (regions or classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Winners = tuple["int | None", ...]
"""For each task the modality that won it, None where none has yet."""


@dataclass(frozen=True)
class Election:
    """One election.

    Attributes:
        iteration: before whose step it was held.
        cases: L.
        dice: ``[M, K]``, see :func:`mean_over_cases`.
        winners: by task.
        teachers: who teaches from now on, ascending.
    """

    iteration: int
    cases: int
    dice: Tensor
    winners: Winners
    teachers: tuple[int, ...]


def mean_over_cases(table: Tensor) -> Tensor:
    """The sum of Eq. (1), as a mean over the cases that count.

    Args:
        table: ``[L, M, K]``, Dice of each case with one modality alone, NaN where the case lacks the modality or the
            task's region. L may be 0.

    Returns:
        ``[M, K]``, float64, NaN where no case counts.

    References:
        Wang et al., LCKD, Eq. (1).

    Deviations from the paper:
        A mean for the printed sum: with incomplete cases a sum would elect whatever is present most often. Cases
        without the region are left out: a modality that predicts nothing would score best there.
    """
    return table.double().nanmean(0)  # Eq. (1)


def elect(dice: Tensor, incumbents: Winners) -> Winners:
    """The winner of each task.

    The winner so far stays if it is among several with the best Dice, if no election case has the region, or if no
    modality scores above 0. Otherwise several with the best Dice are told apart by their mean Dice over all tasks, and
    then by the order of the modalities.

    Args:
        dice: ``[M, K]``, NaN where nothing could be measured: such a modality cannot win that task.
        incumbents: the winners up to now.

    References:
        Wang et al., LCKD, Eq. (1). The paper says nothing about ties.
    """
    overall = _overall(dice)
    winners: list[int | None] = []
    for scores, incumbent in zip(dice.T.nan_to_num(-1.0).tolist(), incumbents, strict=True):
        best = [modality for modality, score in enumerate(scores) if score == max(scores)]
        if max(scores) <= 0 or incumbent in best:
            winners.append(incumbent)
        else:
            winners.append(max(best, key=lambda modality: overall[modality]))  # Eq. (1); the first of equals
    return tuple(winners)


def unique_teachers(winners: Winners) -> tuple[int, ...]:
    """The set of all winners (LCKD-m).

    References:
        Wang et al., LCKD, Eq. (2).
    """
    return tuple(sorted({winner for winner in winners if winner is not None}))  # Eq. (2)


def most_frequent_teacher(winners: Winners, dice: Tensor, incumbents: Sequence[int]) -> tuple[int, ...]:
    """The modality that won most tasks (LCKD-s).

    Among several with most wins the one that taught alone up to now stays; otherwise the better mean Dice over all
    tasks decides, and then the order of the modalities.

    Args:
        winners: by task.
        dice: ``[M, K]``.
        incumbents: the teachers up to now.

    Returns:
        one modality, or none if none has won a task yet.

    References:
        Wang et al., LCKD, §3.3: Eq. (2) with "the modality with max appearance time".
    """
    wins = {modality: winners.count(modality) for modality in unique_teachers(winners)}
    most = [modality for modality, count in wins.items() if count == max(wins.values())]
    if len(most) > 1 and len(incumbents) == 1 and incumbents[0] in most:
        return tuple(incumbents)
    overall = _overall(dice)
    return (max(most, key=lambda modality: overall[modality]),) if most else ()


def _overall(dice: Tensor) -> list[float]:
    """Mean Dice of each modality over the tasks that could be measured; -1 where none could."""
    return torch.nan_to_num(dice.double().nanmean(1), nan=-1.0).tolist()


def round_robin(cases: Sequence[str], number: int, most: int) -> list[str]:
    """The cases of an election with at most some of them: all are used before any is used again.

    Args:
        cases: all election cases.
        number: of the election, from 0.
        most: cases per election.
    """
    if len(cases) <= most:
        return list(cases)
    start = number * most
    return [cases[(start + offset) % len(cases)] for offset in range(most)]
