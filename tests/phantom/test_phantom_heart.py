"""The heart phantom: rings, an infarct that each sequence shows as it should, geometry, settings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom.case import PhantomCase
from nnunetv2_mmkd.phantom.heart_case import HeartConfig, make_heart_case
from nnunetv2_mmkd.phantom.heart_tissues import (
    BSSFP,
    HEART_CONCENTRATION,
    HEART_T2W,
    HEART_TISSUES,
    HEART_VALUES,
    LGE,
    HeartLabel,
)
from nnunetv2_mmkd.phantom.physics import BalancedSteadyState, enhanced_t1

MYOPS = EDITIONS["myops2020"]


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return [make_heart_case(HeartConfig(size=64), index) for index in range(8)]


def mean(case: PhantomCase, modality: str, *labels: HeartLabel) -> float:
    return float(case.images[modality][np.isin(case.tissue, labels)].mean())


def test_labels_are_those_of_myops(cases: list[PhantomCase]) -> None:
    for case in cases:
        assert case.seg.dtype == np.int16 and set(np.unique(case.seg)) == set(MYOPS.allowed_labels)
        for tissue, value in HEART_VALUES.items():
            assert (case.seg[case.tissue == tissue] == MYOPS.to_edition()[value]).all()
        assert tuple(case.images) == ("bssfp", "lge", "t2")
        assert all(image.dtype == np.int16 and image.min() >= 1 for image in case.images.values())


def test_two_to_six_slices_far_apart(cases: list[PhantomCase]) -> None:
    numbers = {make_heart_case(HeartConfig(size=32), index).seg.shape[2] for index in range(30)}
    assert numbers == {2, 3, 4, 5, 6}
    for case in cases:
        spacing = np.linalg.norm(case.affine[:3, :3], axis=0)
        assert spacing[:2] == pytest.approx(160 / 64) and 12 <= spacing[2] <= 23
        assert abs(np.linalg.det(case.affine[:3, :3] / spacing)) == pytest.approx(1)


def test_rings(cases: list[PhantomCase]) -> None:
    """In each slice the wall with its infarct closes around the left blood pool; the right one lies outside."""
    wall = (HeartLabel.MYOCARDIUM, HeartLabel.EDEMA, HeartLabel.SCAR)
    for case in cases:
        for tissue in np.moveaxis(case.tissue, 2, 0):
            ring, left = np.isin(tissue, wall), tissue == HeartLabel.LEFT_BLOOD
            assert left.any() and (ndimage.binary_fill_holes(ring) == (ring | left)).all()
            assert (tissue == HeartLabel.RIGHT_BLOOD).any() and ring.any()


def test_what_each_sequence_shows(cases: list[PhantomCase]) -> None:
    blood = (HeartLabel.LEFT_BLOOD, HeartLabel.RIGHT_BLOOD)
    for case in cases:
        normal = {modality: mean(case, modality, HeartLabel.MYOCARDIUM) for modality in case.images}
        assert mean(case, "lge", HeartLabel.SCAR) > 5 * normal["lge"]
        assert mean(case, "lge", HeartLabel.EDEMA) < 3 * normal["lge"]
        assert mean(case, "lge", *blood) > 3 * normal["lge"]
        assert mean(case, "t2", HeartLabel.EDEMA) > 1.2 * normal["t2"]
        assert mean(case, "t2", *blood) < 0.6 * normal["t2"]
        assert mean(case, "bssfp", *blood) > 1.8 * normal["bssfp"]
        assert mean(case, "bssfp", HeartLabel.SCAR) < 1.5 * normal["bssfp"]


def test_equations_say_the_same() -> None:
    def signal(sequence: object, label: HeartLabel, agent: bool = False) -> float:
        tissue = HEART_TISSUES[label]
        t1 = enhanced_t1(tissue.t1, HEART_CONCENTRATION.get(label, 0.0)) if agent else tissue.t1
        return float(sequence.signal(t1, tissue.t2, tissue.pd))

    assert signal(LGE, HeartLabel.MYOCARDIUM, agent=True) == pytest.approx(0, abs=1e-12)
    assert signal(LGE, HeartLabel.SCAR, agent=True) > signal(LGE, HeartLabel.LEFT_BLOOD, agent=True) > 0.1
    assert signal(HEART_T2W, HeartLabel.EDEMA) > 1.3 * signal(HEART_T2W, HeartLabel.MYOCARDIUM)
    assert signal(BSSFP, HeartLabel.LEFT_BLOOD) > 2 * signal(BSSFP, HeartLabel.MYOCARDIUM)


def test_balanced_steady_state_equals_stepped_magnetisation() -> None:
    t1, t2, pd, tr, te, flip = 1000.0, 50.0, 0.8, 4.0, 2.0, np.deg2rad(50)
    magnetisation, decay = np.array([0.0, pd]), np.array([np.exp(-tr / t2), np.exp(-tr / t1)])
    for number in range(3000):
        angle = flip if number % 2 == 0 else -flip
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        magnetisation = turn @ magnetisation
        excited = abs(magnetisation[0])
        magnetisation = magnetisation * decay + np.array([0, pd * (1 - decay[1])])
    ours = BalancedSteadyState(tr, te, 50).signal(t1, t2, pd)
    assert float(ours) == pytest.approx(excited * np.exp(-te / t2), rel=1e-9)
    for bad in ((4, 5, 50), (4, 2, 0), (4, 2, 180)):
        with pytest.raises(InputError, match="flip angle between 0 and 180"):
            BalancedSteadyState(*bad)


def test_seed_and_index_decide() -> None:
    def arrays(seed: int, index: int) -> bytes:
        case = make_heart_case(HeartConfig(size=32, slices=3, seed=seed), index)
        return b"".join(image.tobytes() for image in case.images.values()) + case.seg.tobytes()

    assert arrays(1, 2) == arrays(1, 2)
    assert len({arrays(seed, index) for seed in (1, 2) for index in (0, 1)}) == 4


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"size": 31}, "from 32 to 512, not 31"),
        ({"size": 40.5}, "whole number"),
        ({"slices": 0}, "slices must be a positive"),
        ({"spacing": -1.0}, "positive number of millimetres"),
        ({"noise": 1.0}, r"noise must lie in \[0, 1\)"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_bad_settings(settings: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        HeartConfig(**settings)


def test_a_negative_index() -> None:
    with pytest.raises(InputError, match="numbered from 0"):
        make_heart_case(HeartConfig(size=32), -1)
