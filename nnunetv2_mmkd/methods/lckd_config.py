"""Hyper-parameters of LCKD."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LCKDConfig:
    """Hyper-parameters of LCKD, the paper's values as defaults.

    Attributes:
        alpha: weight of the distillation (Eq. 7; 0.1 is best in Fig. 3).
        p: 1 for L1 (§3.1), 2 for the mean squared error (Fig. 3, stars).
        teachers: ``"unique"``, all winners teach (Eq. 2, LCKD-m), or ``"most_frequent"``, one does (§3.3, LCKD-s).
        initial_teacher: teaches until one is elected (paper silent): the name of a modality, ``"none"``, or ``"auto"``:
            FLAIR where there is one, as in the released code, else none.
        first_election: iteration of the first election (paper silent; 0 in the released code).
        election_interval: iterations between two elections (paper silent; 5000 in the released code).
        least_elections: in shorter runs the interval shrinks so that at least so many are held.
        election_share: share of the fold's training cases that vote (§3.1: 20 %).
        election_overlap: whether those are trained on as well (released code).
        soft_dice: whether elections are decided by the Dice of probabilities (released code), not of segmentations.
        most_cases: cases per election at most, which bounds its cost; larger splits take turns.
        window_step: step of the sliding window as a share of the patch (paper silent; the released code's tiles
            overlap by a third).
    """

    alpha: float = 0.1
    p: int = 1
    teachers: str = "unique"
    initial_teacher: str = "auto"
    first_election: int = 0
    election_interval: int = 5000
    least_elections: int = 10
    election_share: float = 0.2
    election_overlap: bool = False
    soft_dice: bool = False
    most_cases: int = 50
    window_step: float = 2 / 3

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("teachers", self.teachers, ("unique", "most_frequent")),
            ("p", self.p, (1, 2)),
        ):
            if value not in allowed:
                raise ValueError(f"LCKD: {name} must be one of {', '.join(map(str, allowed))}, not {value!r}")
        for name, count in (("election_interval", self.election_interval), ("most_cases", self.most_cases)):
            if count < 1:
                raise ValueError(f"LCKD: {name} must be at least 1, not {count}")
        if self.first_election < 0:
            raise ValueError(f"LCKD: first_election is an iteration, counted from 0, not {self.first_election}")
        for name, share in (("election_share", self.election_share), ("window_step", self.window_step)):
            if not 0 < share <= 1:
                raise ValueError(f"LCKD: {name} must lie in (0, 1], not {share}")

    @classmethod
    def released_code(cls) -> LCKDConfig:
        """The released code's choices where they contradict the paper."""
        return cls(election_overlap=True, soft_dice=True)
