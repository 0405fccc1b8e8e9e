"""nnU-Net's own look-up finds our trainers, with suffixes, and a user's own file."""

from __future__ import annotations

import os
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from tiny_nnunet import Home, start, steps

import nnunetv2_mmkd.trainer_variants as variants
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

FOLDER = Path(str(variants.__file__)).parent
FILES = sorted(file for file in FOLDER.glob("*.py") if file.name != "__init__.py")
TRAINERS = [name for file in FILES for name in re.findall(r"^class (nnUNetTrainer\w+)", file.read_text(), re.MULTILINE)]
WRONG = (
    "nnUNetTrainerMetaKD_0epochs",
    "nnUNetTrainerMetaKD_20Epochs",
    "nnUNetTrainerMetaKD_20epoch",
    "nnUNetTrainerMetaKD_20epochs_30epochs",
    "nnUNetTrainerMetaKD_",
    "nnUNetTrainerMetaKD20epochs",
    "nnUNetTrainerMetaKD__20epochs",
    "nnUNetTrainerMetaKDX",
    "nnUNetTrainerMMKD_20epochs",
    "nnUNetTrainerMultiStream_5epochs",
)

OWN_FILE = """
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.training.suffixes import suffix_resolver
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD


class nnUNetTrainerMine(nnUNetTrainerMMKD):
    modality_dropout = ModalityDropoutConfig("bernoulli", p=0.3)


__getattr__ = suffix_resolver(globals())
"""


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_is_found(home: Home, name: str) -> None:
    found = recursive_find_trainer_class_by_name(name)
    assert found.__name__ == name and issubclass(found, nnUNetTrainerMMKD)


def test_there_are_the_trainers_of_the_papers_and_the_control() -> None:
    expected = {
        "MetaKD",
        "MCKD",
        "UniformKD",
        "SharedStreams",
        "ModalityDropout",
        "ShaSpec",
        "DeMoSeg",
        "ACN",
        "SMUNet",
        "LCKD",
        "LCKDSingleTeacher",
        "MSTKDNet",
    }
    assert {f"nnUNetTrainer{name}" for name in expected} <= set(TRAINERS)


def test_no_name_is_taken_by_nnunet() -> None:
    """nnU-Net searches its own trainers first."""
    import nnunetv2.training.nnUNetTrainer as built_in

    taken = set()
    for _, module, _ in pkgutil.walk_packages(built_in.__path__):
        taken.add(module.rsplit(".", 1)[-1])
    for file in Path(built_in.__path__[0]).rglob("*.py"):
        taken |= set(re.findall(r"^class (\w+)", file.read_text(), re.MULTILINE))
    assert "nnUNetTrainer_250epochs" in taken  # the search above works
    assert not taken & {*TRAINERS, "nnUNetTrainerMMKD", "nnUNetTrainerMultiStream"}


@pytest.mark.parametrize(
    ("suffix", "epochs", "iterations", "table"),
    [
        ("_20epochs", 20, None, None),
        ("_7iters", None, 7, None),
        ("_mr2468", None, None, "mr2468"),
        ("_mr2468_300epochs", 300, None, "mr2468"),
        ("_3epochs_7iters_mr2468", 3, 7, "mr2468"),
    ],
)
@pytest.mark.parametrize("name", ["nnUNetTrainerMetaKD", "nnUNetTrainerMCKD", "nnUNetTrainerModalityDropout"])
def test_suffixes(
    home: Home, name: str, suffix: str, epochs: int | None, iterations: int | None, table: str | None
) -> None:
    trainer = home.trainer(recursive_find_trainer_class_by_name(name + suffix))
    assert type(trainer).__name__ == name + suffix
    assert type(trainer).__mro__[1].__name__ == name
    assert trainer.num_epochs == (epochs or 1000)
    assert trainer.num_iterations_per_epoch == (iterations or 250)
    assert trainer.num_val_iterations_per_epoch == (max(1, iterations // 5) if iterations else 50)
    assert trainer.suffix_table == table
    assert trainer.save_every == min(50, max(1, (epochs or 1000) // 10))
    assert f"{name}{suffix}__nnUNetPlans" in trainer.output_folder


@pytest.mark.parametrize(
    ("name", "iterations"),
    [
        ("MetaKD_460epochs", 80_000),
        ("MCKD_460epochs", 80_000),
        ("LCKD_460epochs", 80_000),
        ("MetaKD", 173_913),
        ("MetaKD_39epochs", 0),
        ("ModalityDropout", 0),
        ("SubsetKD", 0),
        ("PASSION", 0),
    ],
)
def test_full_modality_warmup(home: Home, name: str, iterations: int) -> None:
    """MetaKD and LCKD: 80,000 of 115,000 iterations in the released code, none in runs under 10,000."""
    assert home.trainer(recursive_find_trainer_class_by_name(f"nnUNetTrainer{name}")).warmup_iterations == iterations


@pytest.mark.parametrize("name", WRONG)
def test_wrong_suffixes_are_not_found(home: Home, name: str) -> None:
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer"):
        recursive_find_trainer_class_by_name(name)


def test_own_trainer_of_ten_lines(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len([line for line in OWN_FILE.splitlines() if line.strip()]) <= 10
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "nnUNetTrainerMine.py").write_text(OWN_FILE)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(FOLDER), str(tmp_path / "mine")]))
    trainer = start(home.trainer(recursive_find_trainer_class_by_name("nnUNetTrainerMine_5epochs")))
    assert trainer.num_epochs == 5 and trainer.modality_dropout.p == 0.3
    losses = steps(trainer, [next(trainer.dataloader_train) for _ in range(2)])
    assert torch.isfinite(torch.tensor(losses)).all()
