"""PASSION and PMR under real trainers: modality dropout, rates, steps, and refusals before training starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from tiny_nnunet import CASES, PLAIN, RESIDUAL, Home, differences, log_of, same_start, start, steps

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import MissingRates
from nnunetv2_mmkd.methods.passion import PASSIONConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerSharedStreams
from nnunetv2_mmkd.trainer_variants.nnUNetTrainermmFormer import nnUNetTrainermmFormer
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModDrop import nnUNetTrainerModDrop
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPASSION import nnUNetTrainerPASSION, nnUNetTrainerPASSION_SharedStreams
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPMR import nnUNetTrainerPMR
from nnunetv2_mmkd.training.context import local_loss


@pytest.mark.parametrize(
    ("trainer_class", "complete", "incomplete"),
    [
        (nnUNetTrainerPASSION, "uniform", "full"),
        (nnUNetTrainerPMR, "uniform", "full"),
        (nnUNetTrainermmFormer, "uniform", "full"),
        (nnUNetTrainerModDrop, "submask", "submask"),
    ],
)
def test_dropout_of_imperfect_data_training(home: Home, trainer_class: Any, complete: str, incomplete: str) -> None:
    perfect = home.trainer(trainer_class, home.dataset(4, "regions"))
    assert (perfect.modality_dropout.name, perfect.sampler.dropout.name) == (complete, complete)
    with_table = home.trainer(type("WithTable", (trainer_class,), {"suffix_table": "imb"}), home.dataset(4, "regions"))
    lacking = home.trainer(trainer_class, home.dataset(3, "classes"))  # case_1 has no T2
    for trainer in (with_table, lacking):
        assert (trainer.modality_dropout.name, trainer.sampler.dropout.name) == (incomplete, incomplete)
        assert (trainer.target_dropout or trainer.modality_dropout).name == complete
    assert trainer_class.modality_dropout.name == complete  # the class is as it was


class Imbalanced(nnUNetTrainerPASSION_SharedStreams):
    suffix_table = "imb"


class Watched(nnUNetTrainerPASSION_SharedStreams):
    config = PASSIONConfig(pixel=False, proto=False, mask=False, weights=False)


def table(trainer: Any, missing: dict[str, list[str]]) -> Path:
    file = Path(trainer.preprocessed_dataset_folder_base) / "mmkd_missing_imb.json"
    file.write_text(json.dumps({"rates": {}, "seed": 0, "source": "test", "missing": missing}))
    return file


def test_imperfect_data_drop_nothing_more(home: Home) -> None:
    trainer = home.trainer(Imbalanced, home.dataset(4, "regions"))
    file = table(trainer, {case: ["t1", "flair"] for case in CASES[:3]} | {case: ["t1ce"] for case in CASES[3:]})
    try:
        start(trainer)
    finally:
        file.unlink()
    assert trainer.modality_dropout.name == "full" and trainer.target_dropout.name == "uniform"
    rates = tuple(trainer.cases.missing_rates[name] for name in trainer.modalities)
    for _ in range(3):
        batch = next(trainer.dataloader_train)
        prepared = trainer.prepare(batch, trainer.cases.training_present)
        assert torch.equal(prepared.available, prepared.present) and not prepared.available.all()
    losses = steps(trainer, [next(trainer.dataloader_train)])
    assert losses[0] == losses[0] and trainer.method.context.need(MissingRates)() == rates
    assert torch.allclose(trainer.method.start, 1 / (1 - torch.tensor(rates)))


def test_perfect_data_are_dropped_uniformly(home: Home) -> None:
    trainer = start(home.trainer(nnUNetTrainerPASSION_SharedStreams, home.dataset(4, "regions")))
    assert trainer.modality_dropout.name == "uniform" and trainer.target_dropout is None
    steps(trainer, [next(trainer.dataloader_train)])
    assert trainer.method.start.tolist() == [1, 1, 1, 1]
    incomplete = home.trainer(nnUNetTrainerPASSION_SharedStreams, home.dataset(3, "classes"))
    assert incomplete.modality_dropout.name == "full"  # case_1 has no T2


@pytest.mark.parametrize("name", ["", "_RFNet", "_M2FTrans"])
def test_every_backbone_distils(home: Home, name: str) -> None:
    kind = recursive_find_trainer_class_by_name(f"nnUNetTrainerPASSION{name}")
    clean, dirty = (start(home.trainer(kind, home.dataset(4, "regions"))) for _ in range(2))
    same_start(clean, dirty)
    parts: dict[str, Any] = {}
    step = clean.method.step
    clean.method.step = lambda *args: parts.update((result := step(*args))["parts"]) or result
    mask = torch.tensor([[True, True, True, False]])
    for trainer in (clean, dirty):
        trainer.sampler = lambda present: mask.expand_as(present)
    batch = next(clean.dataloader_train)
    spoilt = {**batch, "data": batch["data"].clone()}
    spoilt["data"][:, 3] = float("nan")
    assert steps(clean, [batch]) == steps(dirty, [spoilt])
    assert differences(clean.network.state_dict(), dirty.network.state_dict()) == []
    assert set(parts) == {"task", "pixel", "proto"} and all(float(value) > 0 for value in parts.values())


def test_the_local_loss_exchanges_nothing(home: Home) -> None:
    trainer = home.trainer(nnUNetTrainerPASSION, home.dataset(3, "classes"), "2d")  # its plan has a batch Dice
    assert local_loss(trainer) is trainer.loss
    trainer.is_ddp = True
    trainer.loss = trainer._build_loss()
    for loss, exchanges in ((trainer.loss, True), (local_loss(trainer), False)):
        assert [module.ddp for module in loss.modules() if hasattr(module, "ddp")] == [exchanges]
        assert [module.batch_dice for module in loss.modules() if hasattr(module, "ddp")] == [True]
    assert trainer.is_ddp
    trainer.is_ddp = False


def test_a_modality_that_nobody_has_is_named_before_training(home: Home) -> None:
    trainer = home.trainer(Imbalanced, home.dataset(4, "regions"))
    file = table(trainer, {case: ["t1"] for case in CASES})
    try:
        with pytest.raises(InputError, match="t1"):
            trainer.on_train_start()
    finally:
        file.unlink()


def test_the_watched_baseline_is_the_network_alone(home: Home) -> None:
    watched, plain = (
        start(home.trainer(kind, home.dataset(4, "regions"))) for kind in (Watched, nnUNetTrainerSharedStreams)
    )
    same_start(watched, plain)
    plain.full_modality_warmup = 0.0
    plain.sampler = watched.sampler.__class__(watched.modality_dropout, plain.seed)
    batches = [next(plain.dataloader_train) for _ in range(3)]
    assert steps(watched, batches) == steps(plain, batches)
    assert differences(watched.network.state_dict(), plain.network.state_dict()) == []
    assert watched.network.state_dict().keys() == plain.network.state_dict().keys()


def test_a_short_training_logs_saves_and_draws(home: Home) -> None:
    trainer = home.trainer(recursive_find_trainer_class_by_name("nnUNetTrainerPASSION_SharedStreams_2epochs_2iters"))
    trainer.run_training()
    folder = Path(trainer.output_folder)
    curves = {
        key.removeprefix("mmkd/"): values for key, values in trainer.curves.values.items() if key.startswith("mmkd/")
    }
    assert all(len(values) == 2 for values in curves.values())
    weights = [curves[f"gradient weight over its start/{name}"][-1] for name in trainer.modalities]
    expected = trainer.method.beta / trainer.method.start
    assert weights == pytest.approx(expected.tolist()) and weights != [1.0] * len(weights)
    assert (folder / "mmkd_progress.png").is_file() and "distance to the teacher: t1 " in log_of(trainer)
    saved = torch.load(folder / "checkpoint_final.pth", weights_only=False)["mmkd"]["method"]
    assert torch.equal(saved["beta"], trainer.method.beta)


@pytest.mark.parametrize(
    ("modalities", "labels", "configuration", "identifier", "classes"),
    [
        (2, "regions", "2d", PLAIN, {0, 1, 3}),
        (3, "regions_ignore", "3d_fullres", RESIDUAL, {0, 1, 3}),
        (5, "classes_ignore", "2d", RESIDUAL, {0, 1, 2}),
    ],
)
def test_pmr_has_prototypes_of_every_class_that_there_is(
    home: Home, modalities: int, labels: str, configuration: str, identifier: str, classes: set[int]
) -> None:
    trainer = start(
        home.trainer(nnUNetTrainerPMR, home.dataset(modalities, labels), configuration, identifier=identifier)
    )
    parts: dict[str, Any] = {}
    step = trainer.method.step
    trainer.method.step = lambda *args: parts.update((result := step(*args))["parts"]) or result
    trainer.sampler = lambda present: present
    losses = steps(trainer, [next(trainer.dataloader_train) for _ in range(3)])
    assert torch.isfinite(torch.tensor(losses)).all()
    assert parts["prototypes"] > 0 > parts["entropy"]
    trainer.method.end_epoch(trainer.bare_network, 0)
    seen = {int(each) for each in torch.nonzero(trainer.method.known.any(0))}
    assert {0} < seen <= classes  # background and others, nothing that is ignored or cannot be
    assert (trainer.method.centres[trainer.method.known].abs().sum(1) > 0).all()
