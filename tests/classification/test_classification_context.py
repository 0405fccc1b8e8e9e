"""What methods get: complete subjects for meta-updates, F1 for elections."""

from __future__ import annotations

import torch
from sklearn.metrics import f1_score
from toy_subjects import classifier, toy

from nnunetv2_mmkd.classification.context import LEAST, MetaBatches, batches_of_rows, single_modality_f1
from nnunetv2_mmkd.classification.scores import dice_by_class, macro_f1
from nnunetv2_mmkd.methods.base import HeldOut


def test_f1_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 3])
    predicted = torch.tensor([0, 0, 1, 1, 3, 3])
    f1 = dice_by_class(torch.nn.functional.one_hot(predicted, 4).double(), labels)
    assert torch.allclose(f1[[0, 1, 3]], torch.tensor([4 / 5, 2 / 4, 2 / 3]).double())
    assert f1[2].isnan()
    assert abs(macro_f1(predicted, labels) - (4 / 5 + 1 / 2 + 2 / 3) / 3) < 1e-12
    absent = torch.tensor([0, 0, 1, 1, 2, 3])  # a class that is predicted though no subject is of it is not averaged
    assert abs(macro_f1(absent, labels) - (4 / 5 + 1 / 2 + 1) / 3) < 1e-12


def test_meta_batches_are_of_complete_subjects() -> None:
    subjects = toy(80)
    complete = {name for name, full in zip(subjects.ids, subjects.present.all(1), strict=True) if full}
    assert len(complete) > LEAST
    batches = MetaBatches(subjects, HeldOut("meta", 0.1, complete_first=True), batch_size=8, device=torch.device("cpu"))
    assert set(batches.subjects.ids) == complete
    seen = [batches() for _ in range(12)]
    assert all(batch.present.all() and len(batch.target) <= 8 for batch in seen)
    few = subjects.take([row for row, name in enumerate(subjects.ids) if name not in complete][:20])
    assert (
        len(MetaBatches(few, HeldOut("meta", 0.1, complete_first=True), batch_size=8, device="cpu").subjects) == LEAST
    )  # type: ignore[arg-type]


def test_no_batch_of_a_single_row() -> None:
    sizes = [len(rows) for rows in batches_of_rows(65, 64, torch.Generator().manual_seed(0))]
    assert sizes == [33, 32]


def test_an_election_is_f1_with_one_modality_alone() -> None:
    net, subjects = classifier().eval(), toy(50)
    table = single_modality_f1(net, subjects, torch.device("cpu"))(number=0, most_cases=1, soft=False, window_step=0.5)
    assert table.shape == (1, 2, 2)
    having = subjects.only(["b"])
    with torch.no_grad():
        inputs = {"a": torch.full((len(having), 3), torch.nan), "b": having.inputs["b"]}
        predicted = net(inputs, torch.tensor([False, True])).argmax(1)
    expected = f1_score(having.labels, predicted, average=None, labels=[0, 1])
    assert torch.allclose(table[0, 1], torch.from_numpy(expected))


def test_a_modality_that_no_subject_has_is_not_measured() -> None:
    subjects = toy(50)
    alone = subjects.take(torch.nonzero(subjects.present[:, 0]).flatten()).masked(torch.tensor([True, False]))
    table = single_modality_f1(classifier(), alone, torch.device("cpu"))(
        number=0, most_cases=1, soft=True, window_step=0.5
    )
    assert table[0, 1].isnan().all() and not table[0, 0].isnan().any()
