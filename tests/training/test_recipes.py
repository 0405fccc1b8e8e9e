"""The papers' recipes: rates, optimisers, lengths and losses in the place of nnU-Net's."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from tiny_nnunet import Home, start, steps

from nnunetv2_mmkd.losses.weighted_ce import weighted_binary_cross_entropy, weighted_cross_entropy
from nnunetv2_mmkd.training import recipes

DICE = {"batch_dice": False, "smooth": 1e-5, "ddp": False}


def named(file: str, name: str) -> Any:
    return getattr(import_module(f"nnunetv2_mmkd.trainer_variants.nnUNetTrainer{file}"), f"nnUNetTrainer{name}")


SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
POLY, COSINE, CONSTANT = 0.5**0.9, 0.5, 1.0
"""Of the first rate, in the middle of the training."""


@pytest.mark.parametrize(
    ("name", "epochs", "iterations", "optimizer", "rate", "decay", "middle", "loss", "batch", "patch"),
    [
        ("MetaKD", 460, 250, SGD, 1e-2, 5e-4, COSINE, "nnunet", 2, (80, 160, 160)),
        ("LCKD", 460, 250, SGD, 1e-2, 5e-4, COSINE, "nnunet", 2, (80, 160, 160)),
        ("PASSION", 300, 219, ADAMW, 2e-4, 1e-4, POLY, "weighted_ce", 1, (80, 80, 80)),
        ("PMR", 300, 219, ADAMW, 2e-4, 1e-4, POLY, "weighted_ce", 1, (80, 80, 80)),
        ("ModDrop", 300, 219, ADAMW, 2e-4, 1e-4, POLY, "weighted_ce", 1, (80, 80, 80)),
        ("MSTKDNet", 250, 1080, ADAM, 1e-4, 1e-5, POLY, "dice", 1, (160, 192, 128)),
        ("mmFormer", 1000, 199, ADAM, 2e-4, 1e-4, POLY, "weighted_ce", 1, (128, 128, 128)),
        ("RFNet", 300, 150, ADAM, 2e-4, 1e-4, POLY, "weighted_ce", 2, (80, 80, 80)),
        ("M2FTrans", 1000, 50, ADAMW, 2e-4, 1e-4, POLY, "weighted_ce", 4, (80, 80, 80)),
        ("SimMLM", 600, 57, ADAM, 1e-3, 0.0, CONSTANT, "nnunet", 4, (128, 128, 128)),
        ("UHeMIS", 240, 250, ADAM, 1e-3, 1e-5, CONSTANT, "nnunet", 1, (112, 112, 112)),
        ("UHVED", 240, 250, ADAM, 1e-3, 1e-5, CONSTANT, "nnunet", 1, (112, 112, 112)),
        ("RobustSeg", 300, 300, ADAM, 1e-4, 1e-4, POLY, "weighted_ce", 1, (80, 80, 80)),
        ("SFusion", 200, 260, ADAM, 1e-4, 1e-4, CONSTANT, "dice", 1, (128, 128, 128)),
        ("ShaSpec", 720, 250, SGD, 1e-2, 0.0, COSINE, "nnunet", 1, (80, 160, 160)),
        ("ACN_t1", 300, 190, ADAM, 1e-4, 1e-5, POLY, "dice", 1, (160, 192, 128)),
        ("SMUNet_t1", 250, 200, ADAM, 1e-4, 1e-5, POLY, "dice", 1, (160, 192, 128)),
    ],
)
def test_the_papers_trainings(
    home: Home, name: str, epochs: int, iterations: int, optimizer: type, rate: float, decay: float, middle: float,
    loss: str, batch: int, patch: tuple[int, ...],
) -> None:  # fmt: skip
    trainer = home.trainer(named(name.removesuffix("_t1"), f"{name}_recipe"))
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (epochs, iterations)
    assert (trainer.recipe.loss, trainer.recipe.batch, trainer.recipe.patch) == (loss, batch, patch)
    trainer.network = torch.nn.Linear(2, 2)
    made, scheduler = trainer.configure_optimizers()
    made.add_param_group({"params": [torch.nn.Parameter(torch.ones(()))]})  # as of a method's own module
    assert type(made) is optimizer and trainer.initial_lr == rate
    assert made.param_groups[0]["weight_decay"] == decay
    for epoch, factor in ((0, 1.0), (epochs // 2, middle)):
        scheduler.step(epoch)
        assert [group["lr"] for group in made.param_groups] == [pytest.approx(rate * factor)] * 2
    if name in ("MetaKD", "LCKD"):
        assert trainer.warmup_iterations == 80_000
        scheduler.step(epochs // 4)
        assert made.param_groups[0]["lr"] == pytest.approx(rate * (1 + math.cos(math.pi / 4)) / 2)


@pytest.mark.parametrize(
    ("recipe", "batch", "patch", "wanted"),
    [
        (recipes.PASSION, 1, (80, 80, 80), ""),
        (recipes.PASSION, 1, (256, 256), ""),  # its hearts
        (recipes.PASSION, 1, (128, 128), "patches of 256 x 256; the plans have 1 and 128 x 128"),
        (recipes.PASSION, 2, (80, 80, 80), "batches of 1 and patches of 80 x 80 x 80; the plans have 2 and"),
        (recipes.MST_KDNET, 1, (256, 256), "patches of 160 x 192 x 128; the plans have 1 and 256 x 256"),
    ],
)
def test_other_plans_are_told(recipe: recipes.TrainingRecipe, batch: int, patch: tuple[int, ...], wanted: str) -> None:
    found = recipe.differs(batch, patch)
    assert wanted in found and bool(found) == bool(wanted)


def test_the_control_has_the_same_training(home: Home) -> None:
    control, method = (
        home.trainer(named(file, name))
        for file, name in (("ModalityDropout", "ModalityDropout_metakdrecipe"), ("MetaKD", "MetaKD_recipe"))
    )
    for attribute in ("recipe", "modality_dropout", "warmup_iterations", "num_epochs", "num_iterations_per_epoch"):
        assert getattr(control, attribute) == getattr(method, attribute)


@pytest.mark.parametrize("labels", ["classes", "regions_ignore"])
def test_a_recipe_trains_and_is_written_down(home: Home, labels: str) -> None:
    trainer = home.trainer(
        named("ModalityDropout", "ModalityDropout_mstkdnetrecipe_2epochs_3iters"), home.dataset(2, labels)
    )
    start(trainer)
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (2, 3)  # the name goes before the recipe
    assert all(math.isfinite(loss) for loss in steps(trainer, [next(trainer.dataloader_train)]))
    described = json.loads((Path(trainer.output_folder) / "mmkd_config.json").read_text())
    assert described["recipe"]["loss"] == "dice" and described["endings"] == ["_mstkdnetrecipe"]
    log = next(Path(trainer.output_folder).glob("training_log*")).read_text()
    assert "MST-KDNet §3.1: batches of 1 and patches of 160 x 192 x 128; the plans have 2 and 16 x 16 x 16" in log


def test_losses_by_hand() -> None:
    output, labels = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 1, 6, 6))
    regions = (torch.rand(2, 3, 6, 6) < 0.4).float()

    def classes(ignore: int | None = None) -> DC_and_CE_loss:
        return DC_and_CE_loss({**DICE, "do_bg": False}, {}, ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss)

    def of_regions(ignore: bool = False) -> DC_and_BCE_loss:
        return DC_and_BCE_loss(
            {}, {**DICE, "do_bg": True}, use_ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss
        )

    for made, target, cross_entropy in (
        (classes, labels, weighted_cross_entropy(output, labels[:, 0])),
        (of_regions, regions, weighted_binary_cross_entropy(output, regions).mean()),
    ):
        dice = made().dc(output, target)
        assert torch.allclose(recipes.task_loss("dice", made())(output, target), dice)
        assert torch.allclose(recipes.task_loss("weighted_ce", made())(output, target), dice + cross_entropy)
        assert torch.equal(recipes.task_loss("nnunet", made())(output, target), made()(output, target))
    seen = torch.zeros(2, 1, 6, 6)
    masked = recipes.task_loss("weighted_ce", of_regions(True))(output, torch.cat([regions, seen], 1))
    assert torch.allclose(
        masked, 3 * weighted_binary_cross_entropy(output, regions).mean() + of_regions().dc(output, regions)
    )
    unknown = torch.where(torch.rand(2, 1, 6, 6) < 0.3, 3, labels)
    found = recipes.task_loss("weighted_ce", classes(3))(output, unknown)
    known = classes().dc(output, torch.where(unknown == 3, 0, unknown), loss_mask=unknown != 3)
    assert torch.allclose(found, known + weighted_cross_entropy(output, unknown[:, 0], ignore=3))


def test_impossible_recipes_are_refused() -> None:
    for field, value in (("schedule", "step"), ("loss", "focal")):
        with pytest.raises(ValueError, match=field):
            recipes.TrainingRecipe("a paper", 10, **{field: value})
