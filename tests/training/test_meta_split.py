"""The meta split is made of training cases only, and stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_nnunet import CASES, Home, start

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.metakd import META_SPLIT
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD, nnUNetTrainerUniformKD
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout
from nnunetv2_mmkd.training.held_out import split_held_out

FULL = np.ones(4, dtype=bool)


def names(count: int) -> list[str]:
    return [f"case_{number:03d}" for number in range(count)]


@pytest.mark.parametrize(("cases", "held_out"), [(2, 1), (9, 1), (19, 1), (20, 2), (49, 4), (50, 5), (285, 5)])
def test_at_most_five_cases_and_a_tenth(cases: int, held_out: int) -> None:
    training, meta = split_held_out(names(cases), dict.fromkeys(names(cases), FULL), META_SPLIT)
    assert len(meta) == held_out and sorted(training + meta) == names(cases)


def test_complete_cases_first_then_those_that_miss_least() -> None:
    present = {case: np.array([True, False, False, False]) for case in names(30)}
    present["case_007"] = FULL
    present["case_011"] = np.array([True, True, True, False])
    assert split_held_out(names(20), present, META_SPLIT)[1] == ["case_007", "case_011"]
    present["case_003"] = present["case_019"] = FULL
    assert set(split_held_out(names(30), present, META_SPLIT)[1]) == {"case_003", "case_007", "case_019"}


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    present = dict.fromkeys(names(50), FULL)
    first = split_held_out(names(50), present, META_SPLIT)
    assert first == split_held_out(names(50)[::-1], present, META_SPLIT)
    assert first[1] != split_held_out(names(50), present, META_SPLIT, seed=1)[1]


def test_one_case_cannot_be_split() -> None:
    with pytest.raises(InputError, match="only 1"):
        split_held_out(["a"], {"a": FULL}, META_SPLIT)


def seen(loader: Any, batches: int = 12) -> set[str]:
    return {str(key) for _ in range(batches) for key in next(loader)["keys"]}


def test_the_loaders_keep_the_split(home: Home) -> None:
    trainer = start(home.trainer(nnUNetTrainerMetaKD))
    fold = json.loads((home.preprocessed / home.dataset() / "splits_final.json").read_text())[0]
    assert sorted(trainer.cases.training + trainer.cases.held_out) == sorted(fold["train"])
    assert len(trainer.cases.held_out) == 1 and trainer.cases.held_out != ["case_1"]  # case_1 is not complete
    assert seen(trainer.dataloader_meta) == set(trainer.cases.held_out)
    assert seen(trainer.dataloader_train) == set(trainer.cases.training)
    assert seen(trainer.dataloader_val) == set(fold["val"])
    stored = json.loads((Path(trainer.output_folder) / "mmkd_meta_split.json").read_text())
    assert stored == {"training": trainer.cases.training, "meta": trainer.cases.held_out}
    batch = trainer.next_meta_batch()
    assert batch.available.equal(batch.present) and batch.images.shape[0] == trainer.batch_size


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerUniformKD, nnUNetTrainerModalityDropout])
def test_nothing_is_held_out_that_is_not_needed(home: Home, trainer_class: type) -> None:
    trainer = start(home.trainer(trainer_class))
    assert trainer.cases.held_out == [] and trainer.dataloader_meta is None and len(trainer.cases.training) == 4


def test_fold_all_is_disjoint_from_what_is_trained_on(home: Home) -> None:
    trainer = start(home.trainer(nnUNetTrainerMetaKD, fold="all"))
    assert sorted(trainer.cases.training + trainer.cases.held_out) == sorted(CASES) and len(trainer.cases.held_out) == 1
    assert seen(trainer.dataloader_train, 20) == set(trainer.cases.training)


def test_a_resumed_training_keeps_its_split(home: Home) -> None:
    trainer = start(home.trainer(nnUNetTrainerMetaKD))
    latest = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(latest))
    file = Path(trainer.output_folder) / "mmkd_meta_split.json"
    other = [case for case in trainer.cases.training if case != trainer.cases.held_out[0]][0]  # noqa: RUF015
    training = sorted({*trainer.cases.training, *trainer.cases.held_out} - {other})
    file.write_text(json.dumps({"training": training, "meta": [other]}))
    resumed = home.trainer(nnUNetTrainerMetaKD)
    resumed.load_checkpoint(str(latest))
    resumed.on_train_start()
    assert resumed.cases.held_out == [other] and resumed.cases.training == training
    file.write_text(json.dumps({"training": [*training, "case_99"], "meta": [other]}))
    resumed = home.trainer(nnUNetTrainerMetaKD)
    resumed.load_checkpoint(str(latest))
    with pytest.raises(InputError, match="the split of the data set has changed"):
        resumed.on_train_start()


def test_a_new_training_makes_its_split_anew(home: Home) -> None:
    first = start(home.trainer(nnUNetTrainerMetaKD))
    file = Path(first.output_folder) / "mmkd_meta_split.json"
    file.write_text(json.dumps({"training": [], "meta": []}))
    assert start(home.trainer(nnUNetTrainerMetaKD)).cases.held_out == first.cases.held_out
