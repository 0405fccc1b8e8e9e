"""SMOTE within groups of equal availability, and class weights."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_mmkd.classification.subjects import Subjects
from nnunetv2_mmkd.classification.tabular.balance import class_weights, oversample
from nnunetv2_mmkd.errors import InputError

BLOCKS = {"clinical": (slice(1, 4),), "genomic": ()}


def subjects(seed: int = 0) -> Subjects:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0] * 60 + [1] * 20 + [2] * 10)
    hot = torch.nn.functional.one_hot(torch.randint(0, 3, (90,), generator=generator), 3).float()
    clinical = torch.cat([torch.rand(90, 1, generator=generator) + labels[:, None], hot], dim=1)
    genomic = torch.rand(90, 2, generator=generator) - 5 * labels[:, None]
    present = torch.rand(90, 3, generator=generator) > 0.4
    present[~present.any(1), 2] = True
    clinical[~present[:, 0]], genomic[~present[:, 1]] = torch.nan, torch.nan
    volumes = torch.randn(90, 1, 8, 8, 8, generator=generator)
    ids = tuple(f"s{i}" for i in range(90))
    return Subjects(
        ids, {"clinical": clinical, "genomic": genomic, "imaging": volumes}, present, labels, ("a", "b", "c")
    )


def test_synthetic_subjects() -> None:
    pytest.importorskip("imblearn")
    real = subjects()
    made = oversample(real, BLOCKS)
    new = made.take(range(len(real), len(made)))
    assert made.labels.bincount().tolist() == [60, 60, 60]
    assert made.take(range(90)).ids == real.ids and not new.present[:, 2].any() and not new.inputs["imaging"].any()
    for column, name in enumerate(("clinical", "genomic")):
        having = new.present[:, column]
        assert having.any() and torch.isfinite(new.inputs[name][having]).all() and not new.inputs[name][~having].any()
    having = new.present[:, 0]
    assert torch.equal(new.inputs["clinical"][having][:, 1:].sum(1), torch.ones(int(having.sum())))
    for label in (1, 2):  # neighbours are of the class: values stay between those of its subjects
        own = new.inputs["genomic"][new.present[:, 1] & (new.labels == label)]
        known = real.inputs["genomic"][real.present[:, 1] & (real.labels == label)]
        assert (own >= known.amin(0) - 1e-5).all() and (own <= known.amax(0) + 1e-5).all()


def test_where_nothing_can_be_interpolated_nothing_is_made() -> None:
    pytest.importorskip("imblearn")
    real = subjects()
    lonely = real.take([*range(60), int(torch.nonzero(real.labels == 2)[0])])
    made = oversample(lonely, BLOCKS)
    assert made.ids == lonely.ids


def test_class_weights() -> None:
    weights = class_weights(subjects())
    assert torch.allclose(weights, torch.tensor([90 / 180, 90 / 60, 90 / 30]).double())
    with pytest.raises(InputError, match="no training subject is c"):
        class_weights(subjects().take(range(80)))
