"""Tissues of the heart phantom and the three sequences of a MyoPS examination, at 1.5 T.

Sources:
    - Which sequence shows what (LGE the scar, T2 the edema, bSSFP the border of wall and blood): Zhuang, IEEE TPAMI 41
      (2019) 2933, on the data of the challenge.
    - Relaxation times: representative values, chosen, not the measurement of one study. After contrast agent, normal
      myocardium comes out at T1 = 0.51 s; five volunteers had 546 ± 32 ms, and T2 59 ± 9 ms (post-contrast inversion
      recovery, PMC3996239).
    - Contrast agent: gadobutrol, see :data:`nnunetv2_mmkd.phantom.physics.GADOBUTROL_R1`; concentrations chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from nnunetv2_mmkd.phantom.physics import (
    BalancedSteadyState,
    InversionRecovery,
    Sequence,
    SpinEcho,
    Tissue,
    enhanced_t1,
    nulling_ti,
)


class HeartLabel(IntEnum):
    """Values of the tissue map."""

    LUNG = 0
    MUSCLE = 1
    FAT = 2
    MYOCARDIUM = 3
    LEFT_BLOOD = 4
    RIGHT_BLOOD = 5
    EDEMA = 6
    SCAR = 7


_BLOOD = Tissue(t1=1550, t2=250, pd=0.95)

HEART_TISSUES: Mapping[HeartLabel, Tissue] = {
    HeartLabel.LUNG: Tissue(t1=1200, t2=40, pd=0.15),
    HeartLabel.MUSCLE: Tissue(t1=1000, t2=35, pd=0.80),
    HeartLabel.FAT: Tissue(t1=260, t2=80, pd=0.90),
    HeartLabel.MYOCARDIUM: Tissue(t1=1000, t2=50, pd=0.80),
    HeartLabel.LEFT_BLOOD: _BLOOD,
    HeartLabel.RIGHT_BLOOD: _BLOOD,
    HeartLabel.EDEMA: Tissue(t1=1150, t2=75, pd=0.85),
    HeartLabel.SCAR: Tissue(t1=1150, t2=60, pd=0.82),
}
"""Relaxation without contrast agent."""

HEART_CONCENTRATION: Mapping[HeartLabel, float] = {
    HeartLabel.MYOCARDIUM: 0.20,
    HeartLabel.EDEMA: 0.22,
    HeartLabel.SCAR: 0.55,
    HeartLabel.LEFT_BLOOD: 0.42,
    HeartLabel.RIGHT_BLOOD: 0.42,
    HeartLabel.MUSCLE: 0.15,
}
"""Gadobutrol ten minutes after its injection, mmol/L; none in other tissues."""

HEART_VALUES: Mapping[HeartLabel, int] = {
    HeartLabel.MYOCARDIUM: 1,
    HeartLabel.LEFT_BLOOD: 2,
    HeartLabel.RIGHT_BLOOD: 3,
    HeartLabel.EDEMA: 4,
    HeartLabel.SCAR: 5,
}
"""Tissue -> nnU-Net's label of MyoPS (:mod:`nnunetv2_mmkd.editions.myops`)."""

_NULLED = float(enhanced_t1(HEART_TISSUES[HeartLabel.MYOCARDIUM].t1, HEART_CONCENTRATION[HeartLabel.MYOCARDIUM]))

BSSFP = BalancedSteadyState(tr=3.2, te=1.6, flip=60)
LGE = InversionRecovery(tr=1600, te=3, ti=nulling_ti(_NULLED, tr=1600, te=3))
HEART_T2W = SpinEcho(tr=1600, te=70)

HEART_SEQUENCES: Mapping[str, Sequence] = {"bssfp": BSSFP, "lge": LGE, "t2": HEART_T2W}
"""The sequence of each modality, in the order of MyoPS; LGE (late gadolinium enhancement) is after contrast agent, and
nulls normal myocardium."""

LEFT_IN_T2: Mapping[HeartLabel, float] = {HeartLabel.LEFT_BLOOD: 0.1, HeartLabel.RIGHT_BLOOD: 0.1, HeartLabel.FAT: 0.2}
"""Share of the signal that a black-blood preparation with fat suppression leaves in T2; 1 for other tissues."""

HEART_MODALITIES: tuple[str, ...] = tuple(HEART_SEQUENCES)
