"""Online validation under the target distribution, the curves, and what a training writes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from PIL import Image
from tiny_nnunet import Home, same_start, start, steps

from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import (
    nnUNetTrainerModalityDropout,
    nnUNetTrainerModalityDropoutAnnealed,
)
from nnunetv2_mmkd.training.online_validation import mean_dice

INCOMPLETE = ModalityDropoutConfig("count_uniform_incomplete", per="batch")  # so every batch is validated twice


class Control(nnUNetTrainerModalityDropout):
    modality_dropout = INCOMPLETE


class Warming(nnUNetTrainerMetaKD):
    """Never leaves its warm-up in these tests; validation must be under the target distribution all the same."""

    modality_dropout = INCOMPLETE
    full_modality_warmup = 1.0
    warmup_from_iterations = 1


def masks_seen(trainer: Any) -> list[list[list[bool]]]:
    """Collects the masks that reach the network."""
    seen: list[list[list[bool]]] = []
    trainer.bare_network.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["available"].tolist()), with_kwargs=True, prepend=True
    )
    return seen


@torch.no_grad()
def validate(trainer: Any, batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    trainer.on_validation_epoch_start()
    outputs = [trainer.validation_step(copy.deepcopy(batch)) for batch in batches]
    trainer.on_validation_epoch_end(outputs)
    return outputs


def test_every_epoch_and_method_sees_the_same_subsets(home: Home) -> None:
    control, metakd = start(home.trainer(Control)), start(home.trainer(Warming))
    batches = [next(control.dataloader_val) for _ in range(4)]
    sequences = []
    for trainer in (control, metakd):
        seen = masks_seen(trainer)
        validate(trainer, batches)
        sequences.append(seen.copy())
        steps(trainer, [next(trainer.dataloader_train)])
        trainer.current_epoch += 1
        seen.clear()
        validate(trainer, batches)
        sequences.append(seen.copy())
    assert sequences[0] == sequences[1] == sequences[2] == sequences[3]
    full, drawn = sequences[0][::2], sequences[0][1::2]
    assert len(full) == len(drawn) == len(batches)
    assert all(np.all(np.array(f) >= np.array(s)) and f != s for f, s in zip(full, drawn, strict=True))
    assert len({str(mask) for mask in drawn}) > 1


def test_the_logged_dice_is_that_under_modality_dropout(home: Home) -> None:
    trainer = start(home.trainer(Control))
    seen = masks_seen(trainer)
    steps(trainer, [next(trainer.dataloader_train) for _ in range(3)])
    batches = [next(trainer.dataloader_val) for _ in range(3)]
    seen.clear()
    validate(trainer, batches)
    trainer.curves.log(trainer.online_validation.full_dice(), trainer.method.curves())
    masks = [torch.tensor(mask) for mask in seen]
    stock = start(home.trainer(nnUNetTrainer))
    same_start(trainer, stock)
    stock.network.eval()
    for key, used in (("all modalities", masks[::2]), ("subset law", masks[1::2])):
        outputs = []
        for batch, mask in zip(copy.deepcopy(batches), used, strict=True):
            batch["data"][~mask] = 0  # what a missing channel is to the control
            with torch.no_grad():
                outputs.append(stock.validation_step(batch))
        assert trainer.curves.values[f"mmkd/pseudo Dice/{key}"] == [mean_dice(outputs)]
    full, subsets = (trainer.curves.values[f"mmkd/pseudo Dice/{key}"] for key in ("all modalities", "subset law"))
    assert trainer.curves.values["mean_fg_dice"] == subsets != full


def test_validation_with_an_ignore_label_leaves_the_second_pass_its_target(home: Home) -> None:
    """nnU-Net's validation step overwrites ignored voxels of the target."""
    trainer = start(home.trainer(Control, home.dataset(5, "classes_ignore")))
    batch = next(trainer.dataloader_val)
    ignored = batch["target"][0] == trainer.label_manager.ignore_label
    assert ignored.any()
    (outputs,) = validate(trainer, [batch])
    voxels = ignored.numel() - int(ignored.sum())
    for result in (outputs, trainer.online_validation.full_outputs[0]):
        assert (result["tp_hard"] + result["fp_hard"] + result["fn_hard"] <= voxels).all()
        truth = result["tp_hard"] + result["fn_hard"]
        assert truth.tolist() == [float((batch["target"][0] == label).sum()) for label in (1, 2)]


def test_a_short_training_writes_curves_and_configuration(home: Home) -> None:
    trainer = home.trainer(recursive_find_trainer_class_by_name("nnUNetTrainerMetaKD_2epochs_2iters"))
    trainer.run_training()
    folder = Path(trainer.output_folder)
    curves = {key: values for key, values in trainer.curves.values.items() if key.startswith("mmkd/")}
    assert set(curves) == {
        "mmkd/pseudo Dice/all modalities",
        "mmkd/pseudo Dice/subset law",
        *(f"mmkd/{name}" for name in trainer.method.curve_names()),
    }
    assert {"mmkd/importance/t1", "mmkd/largest ratio/of two weights", "mmkd/fill cosine/t2"} <= set(curves)
    assert all(len(values) == 2 for values in curves.values())
    assert trainer.curves.values["mmkd/meta updates/so far"] == [20.0, 20.0]
    assert np.isclose(sum(curves[f"mmkd/importance/{name}"][-1] for name in trainer.modalities), 1)
    assert Image.open(folder / "mmkd_progress.png").size[0] > 100
    assert (folder / "progress.png").is_file()
    config = json.loads((folder / "mmkd_config.json").read_text())
    assert config["trainer"] == "nnUNetTrainerMetaKD_2epochs_2iters" and config["method"] == "MetaKD"
    assert config["config"]["alpha"] == 0.1 and config["training_cases"] == 3 and config["warmup_iterations"] == 0
    assert config["modalities"] == ["t1", "t1ce", "t2"] and config["subset_law"]["name"] == "count_uniform"
    assert config["realised_missing_rates"] == {"t1": 0.0, "t1ce": 0.0, "t2": 0.25}
    saved = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert saved["logging"].keys() == trainer.curves.values.keys() and saved["mmkd"]["iteration"] == 4


def test_an_annealed_distribution_follows_the_training(home: Home) -> None:
    """nnUNetTrainerModalityDropoutAnnealed drops nothing at first; validation is uniform."""
    trainer = start(home.trainer(nnUNetTrainerModalityDropoutAnnealed))
    batch, present = next(trainer.dataloader_train), trainer.cases.training_present
    assert trainer.prepare(batch, present).available.all()
    trainer.run.iteration = trainer.num_epochs * trainer.num_iterations_per_epoch // 4
    trainer.prepare(batch, present)
    assert trainer.modality_dropout.full_share(trainer.sampler.progress) == 0.5
    trainer.on_validation_epoch_start()
    assert trainer.online_validation.sampler.dropout == ModalityDropoutConfig("uniform")
