"""Cases of the brain phantom: contrasts, labels, seeds, fixture modes, bad settings."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom.brain_tissues import BRAIN_MODALITIES, BrainLabel
from nnunetv2_mmkd.phantom.case import PhantomCase, PhantomConfig, make_brain_case

CLEAN = {"noise": 0.0, "bias": 0.0, "scale_spread": 0.0}


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a voxel of the first set is brighter than one of the second (ties half)."""
    below = np.searchsorted(np.sort(negative), positive, side="left")
    upto = np.searchsorted(np.sort(negative), positive, side="right")
    return float((below + upto).mean() / 2 / len(negative))


def separation(cases: list[PhantomCase], modality: str, first: int, second: int) -> float:
    """Mean AUC of one label against another in one modality."""
    return float(np.mean([auc(c.images[modality][c.seg == first], c.images[modality][c.seg == second]) for c in cases]))


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return [make_brain_case(PhantomConfig(size=40), index) for index in range(6)]


def test_arrays(cases: list[PhantomCase]) -> None:
    for case in cases:
        assert tuple(case.images) == ("t1", "t1ce", "t2", "flair")
        assert case.seg.dtype == np.uint8
        assert set(np.unique(case.seg)) == {0, 1, 2, 4}
        assert set(np.unique(case.tissue)) == {int(label) for label in BrainLabel} - {BrainLabel.CAVITY}
        brain = case.tissue > 0
        assert 0.15 < brain.mean() < 0.35
        assert not brain[[0, -1]].any()
        for image in case.images.values():
            assert image.dtype == np.int16
            assert image.shape == case.seg.shape == (40, 40, 40)
            assert np.array_equal(image > 0, brain)  # background exactly 0, and nothing else
        assert (case.seg[~brain] == 0).all()


@pytest.mark.parametrize("size", [16, 20, 32])
def test_every_part_of_the_tumour_is_there_at_small_sizes(size: int) -> None:
    for index in range(12):
        assert set(np.unique(make_brain_case(PhantomConfig(size=size), index).seg)) == {0, 1, 2, 4}


def test_only_t1ce_shows_enhancement(cases: list[PhantomCase]) -> None:
    assert separation(cases, "t1ce", 4, 1) > 0.97
    for modality in ("t1", "t2", "flair"):
        assert 0.2 < separation(cases, modality, 4, 1) < 0.8, modality


def test_edema_shows_in_flair_and_t2(cases: list[PhantomCase]) -> None:
    assert separation(cases, "flair", 2, 1) > 0.9
    for case in cases:
        white = case.tissue == BrainLabel.WHITE
        assert auc(case.images["flair"][case.seg == 2], case.images["flair"][white]) > 0.95
        assert auc(case.images["t2"][case.seg == 2], case.images["t2"][white]) > 0.9


def test_mean_contrasts_are_those_of_the_sequences() -> None:
    case = make_brain_case(PhantomConfig(size=48, texture=0.0, **CLEAN), 0)
    mean = {
        m: {label: image[case.tissue == label].mean() for label in BrainLabel if label in case.tissue}
        for m, image in case.images.items()
    }
    assert mean["t1"][BrainLabel.WHITE] > mean["t1"][BrainLabel.GREY] > mean["t1"][BrainLabel.CSF]
    assert mean["t2"][BrainLabel.CSF] > mean["t2"][BrainLabel.GREY] > mean["t2"][BrainLabel.WHITE]
    assert mean["flair"][BrainLabel.EDEMA] > mean["flair"][BrainLabel.GREY] > mean["flair"][BrainLabel.CSF]


def test_seed_and_index_decide() -> None:
    def arrays(seed: int, index: int) -> list[np.ndarray]:
        case = make_brain_case(PhantomConfig(size=24, seed=seed), index)
        return [*case.images.values(), case.seg]

    first = arrays(1, 0)
    assert all(np.array_equal(a, b) for a, b in zip(first, arrays(1, 0), strict=True))
    for other in (arrays(1, 1), arrays(2, 0)):
        assert all(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_exchangeable_modalities_have_one_contrast_and_independent_noise() -> None:
    clean = make_brain_case(PhantomConfig(size=24, exchangeable=True, **CLEAN), 0)
    for modality in BRAIN_MODALITIES[1:]:
        assert np.array_equal(clean.images["t1"], clean.images[modality])
    ordinary = make_brain_case(PhantomConfig(size=24, **CLEAN), 0)
    assert np.array_equal(clean.images["t1ce"], ordinary.images["t1ce"])
    assert not np.array_equal(clean.images["flair"], ordinary.images["flair"])
    noisy = make_brain_case(PhantomConfig(size=24, exchangeable=True, **{**CLEAN, "noise": 0.1}), 0)
    bright = clean.images["t1"] > 200  # where Rician noise is nearly Gaussian
    noise = np.array([noisy.images[m][bright].astype(float) - clean.images[m][bright] for m in BRAIN_MODALITIES])
    correlation = np.corrcoef(noise)
    assert np.abs(correlation - np.eye(4)).max() < 5 / np.sqrt(bright.sum())
    assert noise.std(axis=1) == pytest.approx(40, rel=0.1)  # 0.1 of the mean brain signal, 400
    biased = make_brain_case(PhantomConfig(size=24, exchangeable=True, **{**CLEAN, "bias": 0.2}), 0)
    assert not np.allclose(biased.images["t1"], biased.images["t2"], rtol=0.02)


@pytest.mark.parametrize("moved", ["flair", "t2", "t1"])
def test_moved_contrast(moved: str) -> None:
    there = [make_brain_case(PhantomConfig(size=32, enhancing=moved), index) for index in range(4)]
    assert separation(there, moved, 4, 1) > 0.95
    for modality in BRAIN_MODALITIES:
        if modality != moved:
            assert 0.15 < separation(there, modality, 4, 1) < 0.85, modality
    clean = make_brain_case(PhantomConfig(size=32, enhancing=moved, **CLEAN), 0)
    if moved != "t1":
        assert np.array_equal(clean.images["t1ce"], clean.images["t1"])
    assert np.array_equal(clean.seg, make_brain_case(PhantomConfig(size=32, **CLEAN), 0).seg)  # the same anatomy


def test_alias_names_the_same_modality() -> None:
    assert PhantomConfig(enhancing="T2F").enhancing == "flair"


def test_size_and_spacing() -> None:
    case = make_brain_case(PhantomConfig(size=(24, 32, 20), spacing=2.5), 0)
    assert case.seg.shape == (24, 32, 20)
    expected = [[-2.5, 0, 0, 0], [0, -2.5, 0, 77.5], [0, 0, 2.5, 0], [0, 0, 0, 1]]
    assert np.array_equal(case.affine, expected)
    assert PhantomConfig(size=(24, 32, 20)).voxel == 6.0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"size": 513}, "from 16 to 512, not 513"),
        ({"size": 8}, "from 16 to 512, not 8"),
        ({"size": (32, 32)}, "one or three whole numbers"),
        ({"size": 32.5}, "one or three whole numbers"),
        ({"enhancing": "adc"}, "unknown modality 'adc': the brain phantom has t1, t1ce, t2, flair"),
        ({"enhancing": "bssfp"}, "unknown modality"),
        ({"spacing": 0}, "positive number of millimetres"),
        ({"noise": -0.1}, "noise must lie in"),
        ({"bias": 1.0}, "bias must lie in"),
        ({"noise": float("nan")}, "noise must lie in"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bad_settings_are_refused(settings: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        PhantomConfig(**settings)


def test_negative_index_is_refused() -> None:
    with pytest.raises(InputError, match="numbered from 0"):
        make_brain_case(PhantomConfig(size=16), -1)
