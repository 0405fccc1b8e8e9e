"""LCKD under a real trainer: its election split, what elections measure and leave alone, its steps."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from PIL import Image
from tiny_nnunet import CASES, Home, differences, log_of, same_start, start, steps
from torch import Tensor

from nnunetv2_mmkd.methods.base import HeldOut, SingleModalityDice
from nnunetv2_mmkd.methods.lckd_config import LCKDConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerLCKD import nnUNetTrainerLCKD, nnUNetTrainerLCKDSingleTeacher
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerSharedStreams
from nnunetv2_mmkd.training.election import dice_by_task
from nnunetv2_mmkd.training.held_out import split_held_out
from nnunetv2_mmkd.training.target_classes import task_labels

NAN = float("nan")
ASK: dict[str, Any] = {"number": 0, "most_cases": 50, "soft": False, "window_step": 0.5}


class Half(nnUNetTrainerLCKD):
    """Two of the four training cases vote; nobody teaches before an election."""

    config = LCKDConfig(election_share=0.5, initial_teacher="none")


class Overlap(nnUNetTrainerLCKD):
    config = LCKDConfig(election_overlap=True)


def dice_table(trainer: Any, **ask: Any) -> Tensor:
    return trainer.method.context.need(SingleModalityDice)(**ask)


# -- the split -------------------------------------------------------------------------------------------------------


def seen(loader: Any, batches: int = 15) -> set[str]:
    return {str(key) for _ in range(batches) for key in next(loader)["keys"]}


def test_election_cases_are_not_trained_on_nor_validated_with(home: Home) -> None:
    trainer = start(home.trainer(Half))
    fold = json.loads((home.preprocessed / home.dataset() / "splits_final.json").read_text())[0]
    assert sorted([*trainer.cases.training, *trainer.cases.held_out]) == sorted(fold["train"])
    assert len(trainer.cases.held_out) == 2 and not set(trainer.cases.held_out) & set(fold["val"])
    assert seen(trainer.dataloader_train) == set(trainer.cases.training)
    assert seen(trainer.dataloader_val) == set(fold["val"])
    stored = json.loads((Path(trainer.output_folder) / "mmkd_election_split.json").read_text())
    assert stored == {"training": trainer.cases.training, "election": trainer.cases.held_out}
    assert trainer.dataloader_meta is None
    assert "2 training cases, 2 of the fold's 4 in the election split (not trained on)" in log_of(trainer)
    config = json.loads((Path(trainer.output_folder) / "mmkd_config.json").read_text())
    assert config["held_out"] == {"election": trainer.cases.held_out} and config["training_cases"] == 2


def test_the_released_codes_overlap(home: Home) -> None:
    trainer = start(home.trainer(Overlap))
    assert len(trainer.cases.training) == 4 and len(trainer.cases.held_out) == 1
    assert set(trainer.cases.held_out) < set(trainer.cases.training)
    assert "4 training cases, 1 of the fold's 4 in the election split (trained on all the same)" in log_of(trainer)
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    resumed = home.trainer(Overlap)
    resumed.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    resumed.on_train_start()
    assert (resumed.cases.training, resumed.cases.held_out) == (trainer.cases.training, trainer.cases.held_out)


def test_fold_all_is_disjoint_from_what_is_trained_on(home: Home) -> None:
    trainer = start(home.trainer(nnUNetTrainerLCKD, fold="all"))
    assert sorted([*trainer.cases.training, *trainer.cases.held_out]) == sorted(CASES)
    assert seen(trainer.dataloader_train, 20) == set(trainer.cases.training)


@pytest.mark.parametrize(("cases", "held_out"), [(2, 1), (9, 1), (10, 2), (228, 45)])
def test_a_fifth_whatever_the_cases_have(cases: int, held_out: int) -> None:
    names = [f"case_{number:03d}" for number in range(cases)]
    present = {case: np.array([True, number % 2 == 0]) for number, case in enumerate(names)}
    training, election = split_held_out(names, present, HeldOut("election", 0.2))
    assert len(election) == held_out and sorted(training + election) == names
    complete = dict.fromkeys(names, np.array([True, True]))
    assert split_held_out(names, complete, HeldOut("election", 0.2))[1] == election


# -- Dice ------------------------------------------------------------------------------------------------------------


def test_dice_of_regions_by_hand() -> None:
    truth = torch.tensor([[1, 1, 2, 2], [0, 0, -1, 3]])  # -1: outside the image, 3: ignored
    whole = torch.tensor([[5.0, -5, 5, 5], [5, -5, -5, 5]])
    core = torch.tensor([[-5.0, -5, 5, -5], [-5, -5, -5, -5]])
    logits, tasks = torch.stack([whole, core]), [(1, 2), (2,)]
    hard = dice_by_task(logits, truth, tasks, regions=True, ignore=3)
    assert hard.tolist() == pytest.approx([2 * 3 / (4 + 4), 2 * 1 / (1 + 2)])
    p = whole.sigmoid()
    size = p.sum() - p[1, 3]
    soft = dice_by_task(logits, truth, tasks, regions=True, ignore=3, soft=True)
    assert float(soft[0]) == pytest.approx(float((2 * p[0].sum() + 1) / (size + 4 + 1)), rel=1e-6)
    absent = dice_by_task(logits, truth.clamp_max(1), tasks, regions=True)
    assert absent[0] == absent[0] and absent[1] != absent[1]  # NaN


def test_dice_of_classes_by_hand() -> None:
    truth = torch.tensor([0, 1, 1, 2])
    logits = torch.tensor([[3.0, 0, 0, 0], [0, 3, 0, 3], [0, 0, 3, 0]])  # predicts 0, 1, 2, 1
    hard = dice_by_task(logits, truth, [(1,), (2,)], regions=False)
    assert hard.tolist() == [2 * 1 / (2 + 2), 0]
    p = logits.softmax(0)[1:]
    soft = dice_by_task(logits, truth, [(1,), (2,)], regions=False, soft=True)
    expected = [(2 * p[0, 1:3].sum() + 1) / (p[0].sum() + 3), (2 * p[1, 3] + 1) / (p[1].sum() + 2)]
    assert soft.tolist() == pytest.approx([float(value) for value in expected])


@pytest.mark.parametrize("labels", ["classes", "regions_ignore"])
def test_tasks_are_the_foreground(home: Home, labels: str) -> None:
    trainer = home.trainer(nnUNetTrainerLCKD, home.dataset(3, labels))
    expected = {"whole": (1, 2), "core": (2,)} if labels == "regions_ignore" else {"whole": (1,), "core": (2,)}
    assert task_labels(trainer.label_manager) == expected


def by_the_stock_predictor(trainer: Any, case: str, modality: str, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Logits of a preprocessed case with one modality alone, by nnU-Net's own predictor and our variable."""
    others = [name for name in trainer.modalities if name != modality]
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    network = copy.deepcopy(trainer.network).eval()
    network.decoder.deep_supervision = False
    predictor.manual_initialization(
        network, trainer.plans_manager, trainer.configuration_manager, None, trainer.dataset_json, "", None
    )
    data = trainer.dataset_class(trainer.preprocessed_dataset_folder, [case]).load_case(case)[0][:]
    with monkeypatch.context() as patch:
        patch.setenv("nnUNet_missing_modalities", " ".join(others))
        return predictor.predict_sliding_window_return_logits(torch.from_numpy(np.array(data)))


@pytest.mark.parametrize(
    ("modalities", "labels", "configuration"),
    [(3, "classes", "3d_fullres"), (2, "regions", "2d"), (4, "regions", "3d_fullres")],
)
def test_the_table_is_what_nnunet_predicts_with_each_modality_alone(
    home: Home, modalities: int, labels: str, configuration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = start(home.trainer(Half, home.dataset(modalities, labels), configuration))
    if modalities == 3:
        trainer.cases.held_out[:] = ["case_1", *trainer.cases.held_out][:2]  # case_1 has no T2
    steps(trainer, [next(trainer.dataloader_train) for _ in range(2)])
    table = dice_table(trainer, **ASK)
    assert table.shape == (2, modalities, 2)
    for case, rows in zip(trainer.cases.held_out, table, strict=True):
        truth = torch.from_numpy(
            trainer.dataset_class(trainer.preprocessed_dataset_folder, [case]).load_case(case)[1][0]
        )
        for modality, row in zip(trainer.modalities, rows, strict=True):
            if case == "case_1" and modality == "t2":
                assert row.isnan().all()
                continue
            logits = by_the_stock_predictor(trainer, case, modality, monkeypatch).float()
            for region, value in enumerate(row.tolist()):
                if labels == "regions":
                    predicted, target = logits[region] > 0, truth >= region + 1
                else:
                    predicted, target = logits.argmax(0) == region + 1, truth == region + 1
                counts = predicted.sum() + target.sum()
                assert value == pytest.approx(float(2 * (predicted & target).sum() / counts))
    assert not torch.equal(table[:, 0], table[:, 1])


def test_at_most_so_many_cases_in_turns(home: Home) -> None:
    trainer = start(home.trainer(Half))
    both = dice_table(trainer, **ASK)
    turns = [dice_table(trainer, **{**ASK, "most_cases": 1, "number": number}) for number in range(2)]
    assert differences(torch.cat(turns), both) == []
    assert "1 of 2 election cases segmented with each modality alone in" in log_of(trainer)
    trainer.cases.held_out.clear()
    assert dice_table(trainer, **ASK).shape == (0, 3, 2)


# -- elections in training -------------------------------------------------------------------------------------------


def test_an_election_changes_nothing_but_the_teachers(home: Home) -> None:
    class Quiet(nnUNetTrainerLCKD):
        config = LCKDConfig(alpha=0, first_election=99, election_interval=99, least_elections=0)

    class Busy(nnUNetTrainerLCKD):
        config = LCKDConfig(alpha=0, election_interval=1)

    quiet, busy = start(home.trainer(Quiet)), start(home.trainer(Busy))
    same_start(quiet, busy)
    batches = [next(quiet.dataloader_train) for _ in range(3)]
    torch.manual_seed(5)
    assert steps(quiet, batches) == steps(busy, batches)
    assert differences(quiet.network.state_dict(), busy.network.state_dict()) == []
    assert not quiet.method.elections and len(busy.method.elections) == 3

    for training in (True, False):
        busy.network.train(training)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        weights = copy.deepcopy(busy.network.state_dict())
        dice_table(busy, **ASK)
        after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
        assert differences(before, after) == [] and differences(weights, busy.network.state_dict()) == []
        assert busy.network.training is training and busy.network.decoder.deep_supervision is True
        assert all(module.training is training for module in busy.network.modules())
        assert all(parameter.requires_grad for parameter in busy.network.parameters())


def test_the_network_is_as_before_when_an_election_fails(home: Home) -> None:
    trainer = start(home.trainer(Half))
    trainer.network.train()
    trainer.cases.held_out[:] = ["case_99"]
    trainer.cases.training_present["case_99"] = np.ones(3, dtype=bool)
    with pytest.raises(Exception, match="case_99"):
        dice_table(trainer, **ASK)
    assert trainer.network.training and trainer.network.decoder.deep_supervision


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerLCKD, nnUNetTrainerLCKDSingleTeacher], ids=lambda c: c.__name__)
def test_a_real_step_distils_from_who_was_elected(home: Home, trainer_class: type) -> None:
    trainer = start(home.trainer(trainer_class))
    table = torch.tensor([[[0.1, 0.2], [0.8, 0.1], [0.3, 0.9]]])
    trainer.method.context = replace(trainer.method.context, capabilities={SingleModalityDice: lambda **_: table})
    trainer.run.iteration = trainer.method.interval  # an election is due
    trainer.full_modality_warmup, trainer.warmup_from_iterations = 1.0, 1  # all modalities are available
    batch = next(trainer.dataloader_train)
    parts: list[dict[str, Tensor]] = []
    step = trainer.method.step
    trainer.method.step = lambda *args: parts.append((result := step(*args))["parts"]) or result
    loss = float(trainer.train_step(batch)["loss"])
    assert trainer.method.teachers == ((1, 2) if trainer_class is nnUNetTrainerLCKD else (2,))
    assert parts[0]["distillation"] > 0
    assert loss == pytest.approx(float(parts[0]["task"] + parts[0]["distillation"]), rel=1e-6)
    assert "-> t1ce" in log_of(trainer) and "teachers:" in log_of(trainer)


def test_without_distillation_it_is_the_network_alone(home: Home) -> None:
    """Nothing of the method is in the deployed network, and with alpha = 0 it trains as nnUNetTrainerSharedStreams."""

    class Alone(nnUNetTrainerLCKD):
        config = LCKDConfig(alpha=0, election_interval=2)

    ours, plain = start(home.trainer(Alone)), start(home.trainer(nnUNetTrainerSharedStreams))
    assert ours.network.state_dict().keys() == plain.network.state_dict().keys()
    assert len(ours.optimizer.param_groups) == 1
    same_start(ours, plain)
    batches = [next(plain.dataloader_train) for _ in range(3)]
    assert steps(ours, batches) == steps(plain, batches)
    assert differences(ours.network.state_dict(), plain.network.state_dict()) == []


def test_a_short_training_elects_logs_and_draws(home: Home) -> None:
    trainer = home.trainer(recursive_find_trainer_class_by_name("nnUNetTrainerLCKD_2epochs_2iters"))
    trainer.run_training()
    folder = Path(trainer.output_folder)
    assert [election.iteration for election in trainer.method.elections] == [0, 1, 2, 3]
    curves = {
        key.removeprefix("mmkd/"): values for key, values in trainer.curves.values.items() if key.startswith("mmkd/")
    }
    assert curves["elections/so far"] == [2, 4] and all(len(values) == 2 for values in curves.values())
    for region in ("whole", "core"):
        last = trainer.method.elections[-1].dice[:, ["whole", "core"].index(region)]
        drawn = [curves[f"single-modality Dice of {region}/{name}"][-1] for name in trainer.modalities]
        assert drawn == pytest.approx(last.tolist(), nan_ok=True)
    log = log_of(trainer)
    assert log.count("election cases segmented with each modality alone in") == 4
    assert "elections so far are" in log and "election 4 before iteration 3, 1 cases:" in log
    assert Image.open(folder / "mmkd_progress.png").size[0] > 100
    config = json.loads((folder / "mmkd_config.json").read_text())
    assert config["method"] == "LCKD" and config["config"]["teachers"] == "unique"
    saved = torch.load(folder / "checkpoint_final.pth", weights_only=False)["mmkd"]["method"]
    assert len(saved["elections"]) == 4 and saved["elections"][0]["cases"] == 1


def test_a_missing_rate_table_masks_election_cases(home: Home, tmp_path: Path) -> None:
    class Masked(Half):
        suffix_table = "vote"

    trainer = home.trainer(Masked)
    missing = {case: ["t1"] for case in CASES}
    file = Path(trainer.preprocessed_dataset_folder_base) / "mmkd_missing_vote.json"
    file.write_text(json.dumps({"rates": {"t1": 1.0}, "seed": 0, "source": "test", "missing": missing}))
    try:
        start(trainer)
        table = dice_table(trainer, **ASK)
        assert table[:, 0].isnan().all() and not table[:, 1].isnan().any()
        trainer.method.start_iteration(trainer.bare_network, trainer.loss, 0)
        assert 0 not in trainer.method.teachers
    finally:
        file.unlink()
