"""Signal equations against closed forms and against magnetisation stepped pulse by pulse."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom.brain_tissues import BRAIN_CONCENTRATION, BRAIN_TISSUES, FLAIR, T1W, T2W, BrainLabel
from nnunetv2_mmkd.phantom.physics import (
    GADOBUTROL_R1,
    InversionRecovery,
    SpinEcho,
    Tissue,
    enhanced_t1,
    nulling_ti,
)


def signal(sequence: SpinEcho | InversionRecovery, label: BrainLabel) -> float:
    tissue = BRAIN_TISSUES[label]
    return float(sequence.signal(tissue.t1, tissue.t2, tissue.pd))


def stepped(tissue: Tissue, tr: float, te: float, ti: float | None) -> float:
    """The longitudinal magnetisation carried through 60 repetitions of ideal pulses; then the signal at the echo."""

    def relax(mz: float, time: float) -> float:
        return tissue.pd + (mz - tissue.pd) * np.exp(-time / tissue.t1)

    mz = tissue.pd
    for _ in range(60):
        if ti is not None:
            mz = relax(-mz, ti)
        excited = mz
        mz = relax(0.0, te / 2)
        mz = relax(-mz, tr - te / 2 - (ti or 0.0))
    return excited * np.exp(-te / tissue.t2)


@pytest.mark.parametrize("label", list(BRAIN_TISSUES))
def test_equations_equal_stepped_magnetisation(label: BrainLabel) -> None:
    tissue = BRAIN_TISSUES[label]
    assert signal(SpinEcho(600, 12), label) == pytest.approx(stepped(tissue, 600, 12, None), abs=1e-9)
    assert signal(SpinEcho(900, 200), label) == pytest.approx(stepped(tissue, 900, 200, None), abs=1e-9)
    ours = signal(InversionRecovery(3000, 120, 1100), label)
    assert ours == pytest.approx(stepped(tissue, 3000, 120, 1100), abs=1e-9)


def test_limits() -> None:
    assert SpinEcho(1e7, 0).signal(900, 80, 0.8) == pytest.approx(0.8)  # TR -> inf, TE -> 0: proton density
    assert SpinEcho(600, 0).signal(900, 80, 0.8) == pytest.approx(0.8 * (1 - np.exp(-600 / 900)))
    assert SpinEcho(1e7, 80).signal(900, 80, 0.8) == pytest.approx(0.8 / np.e)
    assert InversionRecovery(1e7, 0, 0).signal(900, 80, 0.8) == pytest.approx(-0.8)  # just inverted
    assert InversionRecovery(1e7, 0, 900 * np.log(2)).signal(900, 80, 0.8) == pytest.approx(0.0, abs=1e-12)


def test_inversion_time_nulls_fluid_and_only_fluid() -> None:
    assert abs(signal(FLAIR, BrainLabel.CSF)) < 1e-12
    assert all(abs(signal(FLAIR, label)) > 0.05 for label in BRAIN_TISSUES if label != BrainLabel.CSF)
    assert nulling_ti(900, tr=1e7, te=0) == pytest.approx(900 * np.log(2))
    for tr, te in ((9000, 120), (1500, 20), (100, 90)):  # the null is within the repetition, however short
        null = InversionRecovery(tr, te, nulling_ti(2569, tr, te))
        assert null.signal(2569, 329, 1.0) == pytest.approx(0, abs=1e-12)
    assert nulling_ti(2569, tr=6000, te=100) < nulling_ti(2569, tr=12000, te=100) < 2569 * np.log(2)


def test_contrasts_are_ordered_as_in_a_brain() -> None:
    t1, t2, flair = ({label: signal(sequence, label) for label in BRAIN_TISSUES} for sequence in (T1W, T2W, FLAIR))
    assert t1[BrainLabel.WHITE] > t1[BrainLabel.GREY] > t1[BrainLabel.EDEMA] > t1[BrainLabel.CSF]
    assert t2[BrainLabel.CSF] > t2[BrainLabel.EDEMA] > t2[BrainLabel.GREY] > t2[BrainLabel.WHITE]
    assert flair[BrainLabel.EDEMA] == max(flair.values())
    assert flair[BrainLabel.GREY] > flair[BrainLabel.WHITE] > flair[BrainLabel.CSF]
    for contrast in (t1, t2, flair):  # without contrast agent core and enhancing tumour differ by little
        assert contrast[BrainLabel.ENHANCING] == pytest.approx(contrast[BrainLabel.CORE], rel=0.1)


def test_contrast_agent_shortens_t1_by_its_relaxivity() -> None:
    assert enhanced_t1(1000.0, 1.0, r1=4.0) == pytest.approx(200.0)  # 1/s + 4/s = 5/s
    assert enhanced_t1(1300.0, 0.0) == pytest.approx(1300.0)
    assert 1 / enhanced_t1(1300.0, 0.5) - 1 / 1300.0 == pytest.approx(GADOBUTROL_R1 * 0.5e-3)
    tumour = BRAIN_TISSUES[BrainLabel.ENHANCING]
    after = T1W.signal(enhanced_t1(tumour.t1, BRAIN_CONCENTRATION), tumour.t2, tumour.pd)
    assert after > 1.8 * signal(T1W, BrainLabel.ENHANCING)
    assert after > 1.3 * signal(T1W, BrainLabel.WHITE)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Tissue(0, 80, 1), "positive T1"),
        (lambda: SpinEcho(100, 100), "TE < TR"),
        (lambda: InversionRecovery(1000, 100, 950), "TI \\+ TE <= TR"),
        (lambda: nulling_ti(2569, tr=100, te=100), "nulling needs"),
        (lambda: enhanced_t1(1000, -0.1), "cannot be negative"),
    ],
)
def test_impossible_parameters_are_refused(make, text: str) -> None:
    with pytest.raises(InputError, match=text):
        make()
