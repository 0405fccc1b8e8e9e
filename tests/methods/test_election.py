"""LCKD's election, from a table of Dice to teachers: all by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nnunetv2_mmkd.methods.election import (
    elect,
    mean_over_cases,
    most_frequent_teacher,
    round_robin,
    unique_teachers,
)

NAN = float("nan")
T1, T1CE, T2, FLAIR = range(4)


def dice(*rows: list[float]) -> Tensor:
    """``[M, K]``, a row per modality."""
    return torch.tensor(rows, dtype=torch.float64)


BRATS = dice([0.4, 0.6, 0.7], [0.8, 0.8, 0.7], [0.4, 0.7, 0.8], [0.4, 0.7, 0.9])  # ET, TC, WT


def test_the_best_of_each_region_wins_it_and_the_teachers_are_unique() -> None:
    winners = elect(BRATS, (None, None, None))
    assert winners == (T1CE, T1CE, FLAIR)  # Eq. (1), the paper's example
    assert unique_teachers(winners) == (T1CE, FLAIR)  # Eq. (2)
    assert most_frequent_teacher(winners, BRATS, ()) == (T1CE,)


def test_the_mean_is_over_cases_that_have_modality_and_region() -> None:
    table = torch.tensor(
        [
            [[0.5, NAN], [0.9, NAN]],  # the case lacks the second region
            [[0.7, 0.2], [NAN, NAN]],  # the case lacks the second modality
        ]
    )
    expected = torch.tensor([[0.6, 0.2], [0.9, NAN]], dtype=torch.float64)
    torch.testing.assert_close(mean_over_cases(table), expected, equal_nan=True, atol=1e-7, rtol=0)
    # a sum would have elected the modality that is there more often: 1.2 > 0.9
    assert elect(mean_over_cases(table), (None, None)) == (1, 0)


def test_without_cases_nobody_wins() -> None:
    empty = mean_over_cases(torch.empty(0, 4, 3))
    assert empty.shape == (4, 3) and empty.isnan().all()
    assert elect(empty, (None, FLAIR, T1)) == (None, FLAIR, T1)


def test_a_region_that_no_election_case_has_keeps_its_teacher() -> None:
    scores = BRATS.clone()
    scores[:, 0] = NAN
    assert elect(scores, (T2, T2, T2)) == (T2, T1CE, FLAIR)
    assert elect(scores, (None, None, None)) == (None, T1CE, FLAIR)


def test_a_modality_that_could_not_be_measured_cannot_win() -> None:
    scores = BRATS.clone()
    scores[T1CE] = NAN
    assert elect(scores, (T1CE, T1CE, T1CE)) == (FLAIR, FLAIR, FLAIR)  # several are best: FLAIR is better overall
    scores[T2, 0] = 0.6
    assert elect(scores, (T1CE, T1CE, T1CE)) == (T2, T2, FLAIR)


@pytest.mark.parametrize(
    ("incumbent", "winner"),
    [(FLAIR, FLAIR), (T1CE, T1CE), (T1, T1CE), (None, T1CE)],
)
def test_a_tie_goes_to_the_incumbent_then_to_the_better_overall(incumbent: int | None, winner: int) -> None:
    scores = dice([0.9, 0.1], [0.9, 0.7], [0.2, 0.8], [0.9, 0.5])
    scores[T1, 0] = 0.3
    assert elect(scores, (incumbent, None)) == (winner, T2)


def test_a_complete_tie_goes_to_the_first() -> None:
    assert elect(torch.full((4, 2), 0.5), (None, None)) == (0, 0)


def test_nobody_is_elected_who_segments_nothing() -> None:
    zero = torch.zeros(4, 3)
    assert elect(zero, (None, FLAIR, T1)) == (None, FLAIR, T1)
    zero[T2, 0] = 1e-3
    assert elect(zero, (None, FLAIR, T1)) == (T2, FLAIR, T1)


def test_the_only_teacher_among_several_with_most_wins() -> None:
    winners = (T1CE, T2, FLAIR)
    assert most_frequent_teacher(winners, BRATS, ()) == (T1CE,)  # best overall
    assert most_frequent_teacher(winners, BRATS, (FLAIR,)) == (FLAIR,)  # the incumbent stays
    assert most_frequent_teacher(winners, BRATS, (T1,)) == (T1CE,)
    assert most_frequent_teacher((FLAIR, T2, FLAIR), BRATS, (T2,)) == (FLAIR,)
    assert most_frequent_teacher((T2, T1CE), torch.full((4, 2), 0.5), ()) == (T1CE,)
    assert most_frequent_teacher((None, None, T2), BRATS, ()) == (T2,)
    assert most_frequent_teacher((None, None, None), BRATS, ()) == ()


def test_teachers_are_ascending_and_without_repetition() -> None:
    assert unique_teachers((FLAIR, T1, FLAIR, None)) == (T1, FLAIR)
    assert unique_teachers(()) == ()


def test_cases_take_turns() -> None:
    cases = list("abcde")
    assert round_robin(cases, 3, 5) == cases and round_robin(cases, 0, 50) == cases
    turns = [round_robin(cases, number, 2) for number in range(5)]
    assert turns == [["a", "b"], ["c", "d"], ["e", "a"], ["b", "c"], ["d", "e"]]
    assert round_robin([], 2, 3) == []
