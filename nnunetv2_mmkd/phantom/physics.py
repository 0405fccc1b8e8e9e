"""Tissue relaxation and the signal equations of the pulse sequences; no anatomy.

Units: times in ms, concentration in mmol/L, relaxivity in L/(mmol s), proton density relative to water (1.0).

The equations follow from stepping the longitudinal magnetisation through ideal pulses until it repeats (for instance
Bernstein, King, Zhou: Handbook of MRI Pulse Sequences, 2004, chapters 14.2 and 14.3; Haacke et al.: Magnetic
Resonance Imaging, 2014, chapter 8). TR is the whole repetition, from one excitation (or inversion) to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnunetv2_mmkd.errors import InputError

GADOBUTROL_R1 = 4.78
"""Relaxivity r1 of gadobutrol in human plasma at 1.5 T and 37 °C, L/(mmol s): Szomolanyi et al., Investigative
Radiology 54 (2019) 559 (4.78 ± 0.12)."""


@dataclass(frozen=True)
class Tissue:
    """Relaxation of a tissue without contrast agent.

    Attributes:
        t1: longitudinal relaxation time, ms.
        t2: transverse relaxation time, ms.
        pd: proton density relative to water.
    """

    t1: float
    t2: float
    pd: float

    def __post_init__(self) -> None:
        if min(self.t1, self.t2, self.pd) <= 0:
            raise InputError(f"a tissue needs positive T1, T2 and PD, not {self.t1}, {self.t2}, {self.pd}")


class Sequence(Protocol):
    """A pulse sequence: turns tissue parameters into signal."""

    def signal(self, t1: ArrayLike, t2: ArrayLike, pd: ArrayLike) -> NDArray[np.float64]:
        """Signal for arrays (or numbers) of T1 (ms), T2 (ms) and PD."""


@dataclass(frozen=True)
class SpinEcho:
    """Spin echo, 90° - TE/2 - 180° - TE/2 - echo, repeated every TR.

    ``S = PD (1 - 2 exp(-(TR - TE/2)/T1) + exp(-TR/T1)) exp(-TE/T2)``; for TE << TR the bracket is the familiar
    ``1 - exp(-TR/T1)``, the rest being the effect of the refocusing pulse on the recovering magnetisation.

    Attributes:
        tr: repetition time, ms.
        te: echo time (effective echo time of a turbo spin echo), ms.
    """

    tr: float
    te: float

    def __post_init__(self) -> None:
        if not 0 <= self.te < self.tr:
            raise InputError(f"a spin echo needs 0 <= TE < TR, not TE {self.te} and TR {self.tr} ms")

    def signal(self, t1: ArrayLike, t2: ArrayLike, pd: ArrayLike) -> NDArray[np.float64]:
        """Signal at the echo, in units of PD; arguments broadcast."""
        t1, t2, pd = (np.asarray(value, dtype=np.float64) for value in (t1, t2, pd))
        recovered = 1.0 - 2.0 * np.exp(-(self.tr - self.te / 2) / t1) + np.exp(-self.tr / t1)
        signal: NDArray[np.float64] = pd * recovered * np.exp(-self.te / t2)
        return signal


@dataclass(frozen=True)
class InversionRecovery:
    """Inversion recovery with spin-echo read-out, 180° - TI - 90° - TE/2 - 180° - TE/2 - echo, repeated every TR.

    ``S = PD (1 - 2 exp(-TI/T1) + 2 exp(-(TR - TE/2)/T1) - exp(-TR/T1)) exp(-TE/T2)``; for TE << TR the bracket is
    the familiar ``1 - 2 exp(-TI/T1) + exp(-TR/T1)``. The signal keeps its sign (negative before the null), so that
    tissues mix in a voxel as they do in a scanner; the magnitude is taken after noise.

    Attributes:
        tr: repetition time, from inversion to inversion, ms.
        te: echo time, ms.
        ti: inversion time, ms.
    """

    tr: float
    te: float
    ti: float

    def __post_init__(self) -> None:
        if self.te < 0 or self.ti < 0 or self.ti + self.te > self.tr:
            raise InputError(f"inversion recovery needs TI + TE <= TR, not TI {self.ti}, TE {self.te}, TR {self.tr} ms")

    def signal(self, t1: ArrayLike, t2: ArrayLike, pd: ArrayLike) -> NDArray[np.float64]:
        """Signed signal at the echo, in units of PD; arguments broadcast."""
        t1, t2, pd = (np.asarray(value, dtype=np.float64) for value in (t1, t2, pd))
        late = 2.0 * np.exp(-(self.tr - self.te / 2) / t1) - np.exp(-self.tr / t1)
        signal: NDArray[np.float64] = pd * (1.0 - 2.0 * np.exp(-self.ti / t1) + late) * np.exp(-self.te / t2)
        return signal


@dataclass(frozen=True)
class BalancedSteadyState:
    """Balanced steady-state free precession on resonance, pulses of one flip angle and alternating sign every TR.

    ``S = PD sin a (1 - E1) / (1 - (E1 - E2) cos a - E1 E2) exp(-TE/T2)`` with ``E1 = exp(-TR/T1)``,
    ``E2 = exp(-TR/T2)``; for TR << T2 <= T1 it depends on T2/T1 only.

    Attributes:
        tr: repetition time, ms.
        te: echo time, ms.
        flip: flip angle, degrees.
    """

    tr: float
    te: float
    flip: float

    def __post_init__(self) -> None:
        if not 0 <= self.te < self.tr or not 0 < self.flip < 180:
            raise InputError(
                f"a balanced steady state needs 0 <= TE < TR and a flip angle between 0 and 180 degrees, not "
                f"TE {self.te}, TR {self.tr} ms and {self.flip} degrees"
            )

    def signal(self, t1: ArrayLike, t2: ArrayLike, pd: ArrayLike) -> NDArray[np.float64]:
        """Signal at the echo, in units of PD; arguments broadcast."""
        t1, t2, pd = (np.asarray(value, dtype=np.float64) for value in (t1, t2, pd))
        e1, e2, angle = np.exp(-self.tr / t1), np.exp(-self.tr / t2), np.deg2rad(self.flip)
        steady = np.sin(angle) * (1.0 - e1) / (1.0 - (e1 - e2) * np.cos(angle) - e1 * e2)
        result: NDArray[np.float64] = pd * steady * np.exp(-self.te / t2)
        return result


def nulling_ti(t1: float, tr: float, te: float) -> float:
    """Inversion time (ms) at which a tissue gives no signal.

    The root in TI of the bracket of :class:`InversionRecovery`:
    ``TI = T1 (ln 2 - ln(1 + 2 exp(-(TR - TE/2)/T1) - exp(-TR/T1)))``; T1 ln 2 for TR much longer than T1.

    Raises:
        InputError: T1 is not positive, or not 0 <= TE < TR (there is always a null then).
    """
    if t1 <= 0 or not 0 <= te < tr:
        raise InputError(f"nulling needs T1 > 0 and 0 <= TE < TR, not T1 {t1}, TE {te}, TR {tr} ms")
    return float(t1 * (np.log(2.0) - np.log1p(2.0 * np.exp(-(tr - te / 2) / t1) - np.exp(-tr / t1))))


def enhanced_t1(t1: ArrayLike, concentration: ArrayLike, r1: float = GADOBUTROL_R1) -> NDArray[np.float64]:
    """T1 (ms) with contrast agent: ``1/T1' = 1/T1 + r1 c`` in the limit of fast water exchange.

    Args:
        t1: T1 without contrast agent, ms.
        concentration: of the agent in the tissue, mmol/L (not negative).
        r1: longitudinal relaxivity, L/(mmol s). The effect on T2 is left out, as in T1-weighted imaging TE is short.
    """
    t1, concentration = np.asarray(t1, dtype=np.float64), np.asarray(concentration, dtype=np.float64)
    if (concentration < 0).any():
        raise InputError("the concentration of a contrast agent cannot be negative")
    return 1.0 / (1.0 / t1 + r1 * concentration * 1e-3)  # 1e-3: per s -> per ms
