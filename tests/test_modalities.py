"""Names, subsets and the laws that draw them."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import (
    LAWS,
    SubsetLaw,
    SubsetSampler,
    all_subsets,
    canonical,
    indices,
    mask_of,
    modality_names,
    names_of,
    parse_names,
)

BRATS = ("t1", "t1ce", "t2", "flair")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("T1n", "t1"), ("t1c", "t1ce"), ("T1Gd", "t1ce"), ("t2w", "t2"), ("T2F", "flair"), ("C0", "bssfp"), ("DE", "lge")],
)
def test_aliases(name: str, expected: str) -> None:
    assert canonical(name) == expected


def test_names_follow_channel_numbers_not_the_order_of_the_file() -> None:
    channels = {"10": "ADC", "1": "T1ce", "0": "T1n", "2": "T2W"}
    assert modality_names({"channel_names": channels}) == ("t1", "t1ce", "t2", "adc")


def test_two_channels_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="t1ce"):
        modality_names({"channel_names": {"0": "T1c", "1": "T1Gd"}})


def test_masks_from_names() -> None:
    assert mask_of(BRATS).all()
    assert mask_of(BRATS, missing=["T1Gd"]).tolist() == [True, False, True, True]
    assert mask_of(BRATS, available=["flair", "t1"], missing=["t1"]).tolist() == [False, False, False, True]
    assert names_of(mask_of(BRATS, missing=["t2"]), BRATS) == ("t1", "t1ce", "flair")


def test_unknown_name_and_empty_subset_are_named() -> None:
    with pytest.raises(InputError, match=r"'t9'.*t1, t1ce, t2, flair"):
        indices(["t9"], BRATS)
    with pytest.raises(InputError, match="at least one"):
        mask_of(BRATS, missing=BRATS)
    with pytest.raises(InputError, match="at least one"):
        mask_of(BRATS, available=["t1"], missing=["t1"])


def test_parse_names() -> None:
    assert parse_names("t1ce, flair t2") == ("t1ce", "flair", "t2")
    assert parse_names(["t1ce,flair", "t2"]) == ("t1ce", "flair", "t2")


@pytest.mark.parametrize("m", [1, 2, 4, 5])
def test_all_subsets_are_all_and_not_empty(m: int) -> None:
    subsets = all_subsets(m)
    assert len({tuple(row) for row in subsets.tolist()}) == 2**m - 1
    assert subsets.any(dim=1).all()
    assert subsets[-1].all()


def _shares(law: SubsetLaw, n: int = 30_000) -> dict[tuple[bool, ...], float]:
    sampler = SubsetSampler(law, seed=1)
    counts: dict[tuple[bool, ...], float] = {}
    if law.per == "sample":
        drawn = sampler(torch.ones(n, 4, dtype=torch.bool))
    else:
        drawn = torch.cat([sampler(torch.ones(1, 4, dtype=torch.bool)) for _ in range(n)])
    for row in drawn.tolist():
        counts[tuple(row)] = counts.get(tuple(row), 0) + 1 / n
    return counts


def test_uniform_law() -> None:
    shares = _shares(SubsetLaw("uniform"))
    assert len(shares) == 15
    assert all(abs(share - 1 / 15) < 0.006 for share in shares.values())


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_count_uniform_law(per: str) -> None:
    expected = {1: 1 / 16, 2: 1 / 24, 3: 1 / 16, 4: 1 / 4}
    shares = _shares(SubsetLaw("count_uniform", per=per), 20_000)
    assert all(abs(share - expected[sum(row)]) < 0.012 for row, share in shares.items())


def test_count_uniform_incomplete_never_draws_all() -> None:
    shares = _shares(SubsetLaw("count_uniform_incomplete"))
    assert (True,) * 4 not in shares
    assert abs(sum(share for row, share in shares.items() if sum(row) == 3) - 1 / 3) < 0.012


def test_bernoulli_law_is_conditional_on_not_empty() -> None:
    shares = _shares(SubsetLaw("bernoulli", p=0.8))
    single = 0.2 * 0.8**3 / (1 - 0.8**4)
    assert abs(shares[(True, False, False, False)] - single) < 0.01


@pytest.mark.parametrize("law", list(LAWS))
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_every_law_stays_within_what_a_case_has_and_never_empties_it(law: str, per: str) -> None:
    generator = torch.Generator().manual_seed(0)
    sampler = SubsetSampler(SubsetLaw(law, per=per))
    for _ in range(300):
        present = torch.rand(3, 4, generator=generator) < 0.4
        present[torch.arange(3), torch.randint(0, 4, (3,), generator=generator)] = True
        drawn = sampler(present)
        assert drawn.any(dim=1).all()
        assert not (drawn & ~present).any()


def test_one_subset_for_the_whole_batch() -> None:
    sampler = SubsetSampler(SubsetLaw("uniform", per="batch"))
    for _ in range(50):
        drawn = sampler(torch.ones(4, 3, dtype=torch.bool))
        assert (drawn == drawn[0]).all()


def test_sampler_state_restores_the_sequence() -> None:
    present = torch.ones(2, 4, dtype=torch.bool)
    first = SubsetSampler(SubsetLaw("uniform"), seed=3)
    first(present)
    second = SubsetSampler(SubsetLaw("uniform"), seed=99)
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(first(present), second(present)) for _ in range(20))


def test_bad_laws_are_refused() -> None:
    with pytest.raises(InputError, match="uniform"):
        SubsetLaw("unifrom")
    with pytest.raises(InputError, match="per"):
        SubsetLaw("uniform", per="epoch")
    with pytest.raises(InputError, match="without any"):
        SubsetSampler(SubsetLaw("uniform"))(torch.zeros(1, 4, dtype=torch.bool))
