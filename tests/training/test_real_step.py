"""Every term of every method in a real training step on real data: it exists, and is not zero."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet
from tiny_nnunet import QuickFingerprint, differences, inline_pools, set_variables, start
from torch import Tensor

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.losses.balanced import voxel_weights
from nnunetv2_mmkd.methods.base import MembershipClasses
from nnunetv2_mmkd.methods.subset_kd import SubsetKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.trainer_variants import nnUNetTrainerACN, nnUNetTrainerSimMLM, nnUNetTrainerSMUNet
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerDeMoSeg import nnUNetTrainerDeMoSeg
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerLCKD import nnUNetTrainerLCKD, nnUNetTrainerLCKDSingleTeacher
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMSTKDNet import nnUNetTrainerMSTKDNet
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPASSION import nnUNetTrainerPASSION_SharedStreams
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPMR import nnUNetTrainerPMR
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerRobustSeg import nnUNetTrainerRobustSeg
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSFusion import nnUNetTrainerSFusion
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerShaSpec import nnUNetTrainerShaSpec
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import (
    nnUNetTrainerSubsetKD,
    nnUNetTrainerSubsetKD_MultiStream,
)
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerUHeMIS import nnUNetTrainerUHeMIS
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerUHVED import nnUNetTrainerUHVED

DATASET, CASES, SPACING = "Dataset501_BraTS2018", 2, 6.0

TERMS = {
    nnUNetTrainerMetaKD: {"task", "distillation"},
    nnUNetTrainerLCKD: {"task", "distillation"},
    nnUNetTrainerLCKDSingleTeacher: {"task", "distillation"},
    nnUNetTrainerPASSION_SharedStreams: {"task", "pixel", "proto"},
    nnUNetTrainerPMR: {"task", "uni-modal", "prototypes", "entropy"},
    nnUNetTrainerMSTKDNet: {
        "student", "teacher", "attention", "tokens", "logit_mse", "kl", "style", "adversarial",
    },
    nnUNetTrainerDeMoSeg: {"task", "distillation"},
    nnUNetTrainerACN.nnUNetTrainerACN_t1_t1ce: {
        "student", "teacher", "consistency", "entropy_adversarial", "knowledge_adversarial", "mutual_information",
    },
    nnUNetTrainerSMUNet.nnUNetTrainerSMUNet_t1_t1ce: {
        "student", "teacher", "consistency", "content", "style", "adversarial",
    },
    nnUNetTrainerShaSpec: {"task", "alignment", "classification"},
    nnUNetTrainerRobustSeg: {"task", "reconstruction", "prior"},
    nnUNetTrainerUHVED: {"task", "subsets", "prior", "reconstruction"},
    nnUNetTrainerUHeMIS: {"task"},
    nnUNetTrainerSFusion: {"task"},
    nnUNetTrainerSimMLM.nnUNetTrainerSimMLM_1epochs_2iters: {"experts", "more", "fewer", "ranking"},  # a step of each
    nnUNetTrainerSubsetKD: {"task", "distillation"},
    nnUNetTrainerSubsetKD_MultiStream: {"task", "distillation"},
}  # fmt: skip

MAY_BE_ZERO = {"ranking"}
"""It is where the subset that was drawn from a sample's own is not better than that."""


class RealHome:
    """What :func:`tiny_nnunet.set_variables` needs to know."""

    def __init__(self, folder: Path) -> None:
        self.raw, self.preprocessed = folder / "raw", folder / "preprocessed"


@pytest.fixture(scope="module")
def real_home(brats2018_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    """Two real cases at 6 mm, converted, planned and preprocessed."""
    folder = tmp_path_factory.mktemp("real")
    home = RealHome(folder)
    for each in (home.raw, home.preprocessed):
        each.mkdir()
    cases = sorted(case for case in brats2018_data.glob("*/*") if case.is_dir())[:CASES]
    for case in cases:
        shutil.copytree(case, folder / "source" / case.parent.name / case.name)
    with pytest.MonkeyPatch.context() as patch:
        set_variables(patch, home, folder / "results")  # type: ignore[arg-type]
        inline_pools(patch)
        patch.setenv("nnUNet_n_proc_DA", "1")
        assert main(["convert", "brats2018", str(folder / "source"), "-d", "501"]) == 0
        nnunet.extract_fingerprint_dataset(501, QuickFingerprint, num_processes=1)
        nnunet.plan_experiments([501], overwrite_target_spacing=(SPACING,) * 3)
        nnunet.preprocess([501], configurations=("3d_fullres",), num_processes=(1,))
    return home


def check_moving_average(trainer: Any, batch: dict[str, Any]) -> None:
    """The average differs from the network, and each region counts the same in the distillation."""
    assert differences(trainer.method.ema.state_dict(), trainer.network.state_dict()) != []
    classes, number = trainer.method.context.need(MembershipClasses)(batch["target"])
    weights = voxel_weights(classes, number, balanced=True)
    for row, weight in zip(classes, weights, strict=True):  # nested regions: four classes
        shares = [float(weight[row == each].sum()) for each in row.unique()]
        assert shares == pytest.approx([1 / len(shares)] * len(shares), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("trainer_class", TERMS, ids=lambda c: c.__name__)
def test_no_term_is_missing_or_zero(
    real_home: Any, trainer_class: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    set_variables(monkeypatch, real_home, tmp_path / "results")
    monkeypatch.setattr(
        trainer_class, "modality_dropout", ModalityDropoutConfig("count_uniform_incomplete", per="batch")
    )
    averaged = issubclass(trainer_class, (nnUNetTrainerSubsetKD, nnUNetTrainerSubsetKD_MultiStream))
    if averaged:
        monkeypatch.setattr(trainer_class, "config", SubsetKDConfig(ramp=(0.0, 0.0)))
    folder = real_home.preprocessed / DATASET
    plans = {**json.loads((folder / "nnUNetPlans.json").read_text()), "continue_training": False}
    arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [width // 4 for width in arguments["features_per_stage"]]
    dataset = json.loads((folder / "dataset.json").read_text())
    trainer = trainer_class(plans, "3d_fullres", "all", dataset, device=torch.device("cpu"))
    start(trainer)
    parts: dict[str, Tensor] = {}
    step = trainer.method.step
    trainer.method.step = lambda *args: parts.update((result := step(*args))["parts"]) or result
    trainer.sampler = lambda present: torch.tensor([[True, True, False, False]]).expand_as(present)
    before = copy.deepcopy(trainer.network.state_dict())
    for _ in range(2):
        batch = next(trainer.dataloader_train)
        assert np.isfinite(trainer.train_step(batch)["loss"])
    assert set(parts) == TERMS[trainer_class]
    for name, value in parts.items():
        assert torch.isfinite(value) and (abs(float(value)) > 1e-6 or name in MAY_BE_ZERO), name
    assert differences(before, trainer.network.state_dict()) != []
    if averaged:
        check_moving_average(trainer, batch)
