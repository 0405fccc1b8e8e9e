"""Names, subsets and the distributions that draw them."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import (
    DISTRIBUTIONS,
    ModalityDropoutConfig,
    SubsetSampler,
    all_subsets,
    mask_of,
    names_of,
    subset_probabilities,
)
from nnunetv2_mmkd.names import canonical, indices, modality_names, parse_names

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


def _shares(dropout: ModalityDropoutConfig, n: int = 30_000) -> dict[tuple[bool, ...], float]:
    sampler = SubsetSampler(dropout, seed=1)
    counts: dict[tuple[bool, ...], float] = {}
    if dropout.per == "sample":
        drawn = sampler(torch.ones(n, 4, dtype=torch.bool))
    else:
        drawn = torch.cat([sampler(torch.ones(1, 4, dtype=torch.bool)) for _ in range(n)])
    for row in drawn.tolist():
        counts[tuple(row)] = counts.get(tuple(row), 0) + 1 / n
    return counts


def test_uniform_distribution() -> None:
    shares = _shares(ModalityDropoutConfig("uniform"))
    assert len(shares) == 15
    assert all(abs(share - 1 / 15) < 0.006 for share in shares.values())


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_count_uniform_distribution(per: str) -> None:
    expected = {1: 1 / 16, 2: 1 / 24, 3: 1 / 16, 4: 1 / 4}
    shares = _shares(ModalityDropoutConfig("count_uniform", per=per), 20_000)
    assert all(abs(share - expected[sum(row)]) < 0.012 for row, share in shares.items())


def test_count_uniform_incomplete_never_draws_all() -> None:
    shares = _shares(ModalityDropoutConfig("count_uniform_incomplete"))
    assert (True,) * 4 not in shares
    assert abs(sum(share for row, share in shares.items() if sum(row) == 3) - 1 / 3) < 0.012


def test_bernoulli_distribution_is_conditional_on_not_empty() -> None:
    shares = _shares(ModalityDropoutConfig("bernoulli", p=0.8))
    single = 0.2 * 0.8**3 / (1 - 0.8**4)
    assert abs(shares[(True, False, False, False)] - single) < 0.01


@pytest.mark.parametrize("dropout", list(DISTRIBUTIONS))
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_every_distribution_stays_within_what_a_case_has_and_never_empties_it(dropout: str, per: str) -> None:
    generator = torch.Generator().manual_seed(0)
    given = {"missing": {"t1": 0.9, "flair": 1.0}} if dropout == "deployment" else {}
    sampler = SubsetSampler(ModalityDropoutConfig(dropout, per=per, **given), modalities=BRATS)
    for _ in range(300):
        present = torch.rand(3, 4, generator=generator) < 0.4
        present[torch.arange(3), torch.randint(0, 4, (3,), generator=generator)] = True
        drawn = sampler(present)
        assert drawn.any(dim=1).all()
        assert not (drawn & ~present).any()


def test_one_subset_for_the_whole_batch() -> None:
    sampler = SubsetSampler(ModalityDropoutConfig("uniform", per="batch"))
    for _ in range(50):
        drawn = sampler(torch.ones(4, 3, dtype=torch.bool))
        assert (drawn == drawn[0]).all()


def test_sampler_state_restores_the_sequence() -> None:
    present = torch.ones(2, 4, dtype=torch.bool)
    first = SubsetSampler(ModalityDropoutConfig("uniform"), seed=3)
    first(present)
    second = SubsetSampler(ModalityDropoutConfig("uniform"), seed=99)
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(first(present), second(present)) for _ in range(20))


# -- deployment ------------------------------------------------------------------------------------------------------


def table(dropout: ModalityDropoutConfig, modalities: tuple[str, ...] = BRATS) -> dict[tuple[str, ...], float]:
    masks, chances = subset_probabilities(dropout, modalities)
    return {names_of(mask, modalities): float(chance) for mask, chance in zip(masks, chances, strict=True)}


def test_probabilities_of_every_distribution_by_hand() -> None:
    assert table(ModalityDropoutConfig("full")) == {BRATS: 1.0}
    assert list(table(ModalityDropoutConfig("uniform")).values()) == pytest.approx([1 / 15] * 15)
    counted = table(ModalityDropoutConfig("count_uniform"))
    assert counted[("t2",)] == pytest.approx(1 / 16) and counted[("t1", "t2")] == pytest.approx(1 / 24)
    incomplete = table(ModalityDropoutConfig("count_uniform_incomplete"))
    assert BRATS not in incomplete and incomplete[("t1", "t1ce", "t2")] == pytest.approx(1 / 12)
    assert table(ModalityDropoutConfig("bernoulli", p=0.8))[("t1",)] == pytest.approx(0.2 * 0.8**3 / (1 - 0.8**4))


def test_a_heavier_full_set_by_hand() -> None:
    heavier = table(ModalityDropoutConfig("uniform", full=0.3))
    assert heavier[BRATS] == pytest.approx(0.3 + 0.7 / 15) and heavier[("t1",)] == pytest.approx(0.7 / 15)


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 1.0), (0.125, 0.8), (0.25, 0.6), (0.5, 0.2), (0.75, 0.2), (1.0, 0.2)]
)
def test_an_annealed_full_set_by_hand(progress: float, share: float) -> None:
    dropout = ModalityDropoutConfig("deployment", missing={"t1": 1.0}, full=0.2, annealed=0.5)
    assert dropout.full_share(progress) == pytest.approx(share)
    sampler = SubsetSampler(dropout, 1, BRATS)
    sampler.progress = progress
    drawn = sampler(torch.tensor([[True, True, False, True]]).repeat(4000, 1))  # all that a case has, not more
    assert drawn[:, 1:].tolist() == [[True, False, True]] * 4000
    assert drawn[:, 0].float().mean() == pytest.approx(share, abs=0.03)
    shared = SubsetSampler(ModalityDropoutConfig("uniform", per="batch", full=1.0))
    assert shared(torch.ones(3, 4, dtype=torch.bool)).all()


@pytest.mark.parametrize("given", [{"full": 1.2}, {"annealed": -0.1}])
def test_shares_outside_0_to_1_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(given))} must lie in"):
        ModalityDropoutConfig("uniform", **given)


def test_independent_missing_probabilities() -> None:
    found = table(ModalityDropoutConfig("deployment", missing={"T1Gd": 0.3, "flair": 0.5}))
    assert found == {
        BRATS: pytest.approx(0.35),
        ("t1", "t1ce", "t2"): pytest.approx(0.35),
        ("t1", "t2", "flair"): pytest.approx(0.15),
        ("t1", "t2"): pytest.approx(0.15),
    }
    two = table(
        ModalityDropoutConfig("deployment", missing={"a": 0.5, "b": 0.2}), ("a", "b")
    )  # given that not both are missing
    assert two == {
        ("a",): pytest.approx(0.1 / 0.9), ("b",): pytest.approx(0.4 / 0.9), ("a", "b"): pytest.approx(0.4 / 0.9),
    }  # fmt: skip


def test_listed_subsets() -> None:
    dropout = ModalityDropoutConfig("deployment", subsets={"flair t1": 0.5, "t1,t1gd": 0.25, "t1 t2f": 0.25})
    assert table(dropout) == {("t1", "flair"): 0.75, ("t1", "t1ce"): 0.25}


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_deployment_frequencies(per: str) -> None:
    dropout = ModalityDropoutConfig("deployment", per=per, missing={"t1ce": 0.3, "t2": 0.1})
    sampler, counts, n = SubsetSampler(dropout, 1, BRATS), dict.fromkeys(table(dropout), 0), 4000
    present = torch.ones(n, 4, dtype=torch.bool)
    drawn = sampler(present) if per == "sample" else torch.cat([sampler(present[:1]) for _ in range(n)])
    for row in drawn:
        counts[names_of(row, BRATS)] += 1
    for names, chance in table(dropout).items():
        assert counts[names] / n == pytest.approx(chance, abs=4 * (chance * (1 - chance) / n) ** 0.5)


def test_deployment_given_the_case() -> None:
    """Intersected with the case, given that something is left; with nothing in common the case stays as it is."""
    dropout = ModalityDropoutConfig("deployment", subsets={"t1": 0.5, "t1 t1ce": 0.1, "t1ce t2": 0.4})
    sampler = SubsetSampler(dropout, 2, BRATS)
    present = torch.tensor([False, True, True, False])
    drawn = sampler(present.expand(3000, -1))
    share = float((drawn == torch.tensor([False, True, False, False])).all(1).float().mean())
    assert share == pytest.approx(0.2, abs=0.03)  # 0.1 of 0.5, the rest is t1ce and t2
    only_flair = torch.tensor([[False, False, False, True]])
    assert torch.equal(sampler(only_flair), only_flair)


def test_bad_deployment_distributions_are_refused() -> None:
    for given, message in (
        ({}, "needs either"),
        ({"missing": {"t1": 0.1}, "subsets": {"t1": 1.0}}, "needs either"),
        ({"missing": {"t1": 1.5}}, "'t1' has probability 1.5"),
        ({"subsets": {"t1": 0.5, "t2": 0.4}}, "sum to 0.9"),
    ):
        with pytest.raises(InputError, match=message):
            ModalityDropoutConfig("deployment", **given)
    with pytest.raises(InputError, match="takes no probabilities"):
        ModalityDropoutConfig("uniform", missing={"t1": 0.5})
    for given, message in (
        ({"missing": {"t1k": 0.5}}, "unknown modality 't1k'"),
        ({"missing": {"t1ce": 0.5, "T1Gd": 0.5}}, "names t1ce twice"),
        ({"missing": dict.fromkeys(BRATS, 1.0)}, "leaves no modality"),
        ({"subsets": {"": 1.0}}, "at least one"),
        ({"subsets": {"t1 t1n": 1.0}}, "names t1 twice"),
    ):
        with pytest.raises(InputError, match=message):
            SubsetSampler(ModalityDropoutConfig("deployment", **given), modalities=BRATS)
    with pytest.raises(InputError, match="needs their names"):
        SubsetSampler(ModalityDropoutConfig("deployment", missing={"t1": 0.5}))


def test_bad_distributions_are_refused() -> None:
    with pytest.raises(InputError, match="uniform"):
        ModalityDropoutConfig("unifrom")  # codespell:ignore unifrom
    with pytest.raises(InputError, match="per"):
        ModalityDropoutConfig("uniform", per="epoch")
    with pytest.raises(InputError, match="without any"):
        SubsetSampler(ModalityDropoutConfig("uniform"))(torch.zeros(1, 4, dtype=torch.bool))
