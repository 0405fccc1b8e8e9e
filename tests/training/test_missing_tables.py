"""What each case has: dataset.json, channels that are all zero, and missing-rate tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from tiny_nnunet import Home, log_of, start

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout

WriteTable = Callable[..., Path]


@pytest.fixture
def write_table(home: Home) -> Iterator[WriteTable]:
    """Writes tables into the preprocessed data set's folder and removes them afterwards."""
    written = []

    def write(tag: str, missing: Any = None, text: str | None = None) -> Path:
        path = home.preprocessed / home.dataset() / f"mmkd_missing_{tag}.json"
        table = {"rates": {"t1": 0.2}, "seed": 1, "source": "this test", "missing": missing}
        path.write_text(json.dumps(table) if text is None else text)
        written.append(path)
        return path

    yield write
    for path in written:
        path.unlink(missing_ok=True)


def with_table(home: Home, tag: str, name: str = "nnUNetTrainerMetaKD") -> Any:
    return home.trainer(recursive_find_trainer_class_by_name(f"{name}_{tag}"))


def masks(present: dict[str, Any]) -> dict[str, list[bool]]:
    return {case: [bool(has) for has in mask] for case, mask in present.items()}


def test_a_table_masks_training_and_meta_cases_and_no_validation_case(home: Home, write_table: WriteTable) -> None:
    plain = start(home.trainer(nnUNetTrainerModalityDropout))
    training, validation = sorted(plain.cases.training_present), sorted(plain.cases.validation_present)
    table = {case: ["T1gd", "t1"] for case in [*training, *validation] if case != "case_1"} | {"case_1": ["t1"]}
    path = write_table("abc1", table)
    trainer = start(with_table(home, "abc1"))
    assert set(trainer.cases.training) | set(trainer.cases.held_out) == set(training) and trainer.cases.held_out
    expected = {case: [False, case == "case_1", case != "case_1"] for case in training}
    assert masks(trainer.cases.training_present) == expected
    assert masks(trainer.cases.validation_present) == masks(plain.cases.validation_present)
    for batch in (next(trainer.dataloader_train), next(trainer.dataloader_train)):
        prepared = trainer.prepare(batch, trainer.cases.training_present)
        for key, available in zip(batch["keys"], prepared.available.tolist(), strict=True):
            assert not any(used and not had for used, had in zip(available, expected[key], strict=True))
    meta = trainer.next_meta_batch()
    assert not meta.available[:, 0].any()
    copied = json.loads((Path(trainer.output_folder) / path.name).read_text())
    assert copied == json.loads(path.read_text())
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    saved = torch.load(Path(trainer.output_folder) / "checkpoint_latest.pth", weights_only=False)
    assert saved["mmkd"]["missing_table"] == copied
    assert trainer.cases.missing_rates["t1"] == 1.0


def test_the_table_is_read_only_where_the_name_asks_for_it(home: Home, write_table: WriteTable) -> None:
    write_table("abc2", {"case_0": ["t1"], "case_2": ["t1"], "case_3": ["t1"]})
    trainer = start(home.trainer(nnUNetTrainerModalityDropout))
    assert trainer.cases.missing_table is None and all(mask[0] for mask in trainer.cases.training_present.values())


def test_a_changed_table_is_refused_when_resuming(home: Home, write_table: WriteTable) -> None:
    path = write_table("abc3", {"case_0": ["t1"]})
    trainer = start(with_table(home, "abc3"))
    latest = str(Path(trainer.output_folder) / "checkpoint_latest.pth")
    trainer.save_checkpoint(latest)
    same = with_table(home, "abc3")
    same.load_checkpoint(latest)
    same.on_train_start()
    write_table("abc3", {"case_0": ["t2"]})
    changed = with_table(home, "abc3")
    changed.load_checkpoint(latest)
    with pytest.raises(InputError, match="is not the missing-rate table that this training was started with") as error:
        changed.on_train_start()
    assert path.name in str(error.value)
    assert json.loads((Path(trainer.output_folder) / path.name).read_text())["missing"] == {"case_0": ["t1"]}
    other = home.trainer(nnUNetTrainerMetaKD)
    other.load_checkpoint(latest)
    with pytest.raises(InputError, match="this training was started with a missing-rate table, and its name"):
        other.on_train_start()


@pytest.mark.parametrize(
    ("missing", "text", "message"),
    [
        ({"case_99": ["t1"]}, None, "names the case 'case_99'"),
        ({"case_0": ["dwi"]}, None, "case case_0: unknown modality 'dwi'"),
        ({"case_0": ["t1", "t1ce", "t2"]}, None, "leaves the case case_0 with no modality"),
        ({"case_1": ["t1", "t1ce"]}, None, "case case_1 has no modality at all"),  # T2 is missing on disk
        (None, "not json", "is no missing-rate table"),
        (None, '{"rates": {}}', "is no missing-rate table"),
        (["case_0"], None, "is no missing-rate table"),
    ],
)
def test_bad_tables_are_refused_before_training(
    home: Home, write_table: WriteTable, missing: Any, text: str | None, message: str
) -> None:
    path = write_table("bad", missing, text)
    trainer = with_table(home, "bad", "nnUNetTrainerModalityDropout_1epochs")
    with pytest.raises(InputError, match=message) as error:
        trainer.run_training()
    assert path.name in str(error.value) or "case_1" in str(error.value)
    assert not list(Path(trainer.output_folder).glob("*.pth"))


def test_an_absent_table_is_named(home: Home) -> None:
    trainer = with_table(home, "nosuch")
    with pytest.raises(InputError, match=r"there is no missing-rate table .*mmkd_missing_nosuch\.json"):
        trainer.on_train_start()


def test_missing_modalities_of_dataset_json_are_honoured(home: Home) -> None:
    trainer = start(home.trainer(nnUNetTrainerModalityDropout, fold="all"))
    assert masks(trainer.cases.training_present)["case_1"] == [True, True, False]
    assert all(mask.all() for case, mask in trainer.cases.training_present.items() if case != "case_1")
    assert trainer.cases.undeclared == {} and "WARNING: case" not in log_of(trainer)


def test_an_undeclared_blank_channel_is_warned_about_and_missing(home: Home) -> None:
    trainer = start(home.trainer(nnUNetTrainerModalityDropout, missing_modalities={}, fold="all"))
    assert masks(trainer.cases.training_present)["case_1"] == [True, True, False]
    assert "WARNING: case case_1: t2 is all zero though dataset.json does not declare it" in log_of(trainer)
    config = json.loads((Path(trainer.output_folder) / "mmkd_config.json").read_text())
    assert config["undeclared_missing"] == {"case_1": ["t2"]}


def test_unknown_modality_in_dataset_json_is_named(home: Home) -> None:
    with pytest.raises(InputError, match=r"dataset\.json, missing_modalities of case case_0: unknown modality 'dwi'"):
        home.trainer(nnUNetTrainerModalityDropout, missing_modalities={"case_0": ["dwi"]})


def test_a_case_declared_without_any_modality_is_named(home: Home) -> None:
    declared = {"case_0": ["T1", "T1ce", "T2"]}
    trainer = home.trainer(nnUNetTrainerModalityDropout, missing_modalities=declared, fold="all")
    with pytest.raises(InputError, match="case case_0 has no modality at all"):
        trainer.on_train_start()


def test_a_case_that_is_blank_in_every_channel_is_named() -> None:
    from nnunetv2_mmkd.training.present_modalities import present_masks, undeclared_missing

    class Blank:
        def load_case(self, case: str) -> tuple[np.ndarray]:
            return (np.zeros((2, 4, 4, 4), np.float32),)

    found = undeclared_missing(Blank(), ["a"], ("t1", "t2"), {})
    with pytest.raises(InputError, match="case a has no modality at all"):
        present_masks(["a"], ("t1", "t2"), found)
