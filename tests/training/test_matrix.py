"""Every kind of data set and plan trains a step, is saved, and is predicted with by the stock predictor."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiny_nnunet import PLAIN, RESIDUAL, Home, differences, start

from nnunetv2_mmkd.methods.subset_kd import SubsetKDConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerDeMoSeg import nnUNetTrainerDeMoSeg
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerLCKD import nnUNetTrainerLCKD
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerM2FTrans import nnUNetTrainerM2FTrans
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD
from nnunetv2_mmkd.trainer_variants.nnUNetTrainermmFormer import nnUNetTrainermmFormer
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import (
    nnUNetTrainerModalityDropout,
    nnUNetTrainerModalityDropoutNested,
    nnUNetTrainerModalityDropoutStems,
)
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMSTKDNet import nnUNetTrainerMSTKDNet
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPASSION import nnUNetTrainerPASSION_SharedStreams
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerRFNet import nnUNetTrainerRFNet
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerRobustSeg import nnUNetTrainerRobustSeg, nnUNetTrainerRobustSeg_SFusion
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSFusion import nnUNetTrainerSFusion
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerShaSpec import nnUNetTrainerShaSpec
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSimMLM import nnUNetTrainerSimMLM
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import (
    nnUNetTrainerSubsetKD,
    nnUNetTrainerSubsetKD_MultiStream,
)
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerUHeMIS import nnUNetTrainerUHeMIS
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerUHVED import nnUNetTrainerUHVED

ALWAYS = {"ramp": (0.0, 0.0)}


class SubsetKD(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(**ALWAYS)


class SubsetKDWithNorms(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(**ALWAYS, availability="norms")


class SubsetKDWithPlanes(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(**ALWAYS, availability="planes")


class SubsetKDCurrentTeacher(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(**ALWAYS, teacher="current", distance="dice", confidence="none", deploy="student")


class SubsetKDStreams(nnUNetTrainerSubsetKD_MultiStream):
    config = SubsetKDConfig(**ALWAYS)


MATRIX = [
    (2, "regions", "2d", PLAIN),
    (2, "regions", "3d_fullres", RESIDUAL),
    (3, "classes", "2d", RESIDUAL),
    (3, "classes", "3d_fullres", PLAIN),
    (3, "regions_ignore", "3d_fullres", PLAIN),
    (3, "regions_ignore", "2d", RESIDUAL),
    (5, "classes_ignore", "2d", PLAIN),
    (5, "classes_ignore", "3d_fullres", RESIDUAL),
]


FIRST, SECOND, ENDS = (0, 3, 5, 7), (1, 2, 4, 6), (0, 7)
HALVES = {
    nnUNetTrainerLCKD: SECOND,
    nnUNetTrainerMSTKDNet: FIRST,
    nnUNetTrainerPASSION_SharedStreams: SECOND,
    nnUNetTrainermmFormer: FIRST,
    nnUNetTrainerRFNet: SECOND,
    nnUNetTrainerM2FTrans: FIRST,
    nnUNetTrainerShaSpec: SECOND,
    nnUNetTrainerDeMoSeg: FIRST,
    nnUNetTrainerUHeMIS: ENDS,
    nnUNetTrainerUHVED: FIRST,
    nnUNetTrainerRobustSeg: SECOND,
    nnUNetTrainerSFusion: (3, 5),
}
"""Rows of the matrix: each half has each kind of plan and of data set; fusions alone get two rows."""

COMBINATIONS = [(trainer, *row) for trainer in (nnUNetTrainerMetaKD, nnUNetTrainerModalityDropout) for row in MATRIX]
COMBINATIONS += [(trainer, *MATRIX[row]) for trainer, rows in HALVES.items() for row in rows]
COMBINATIONS += [
    (nnUNetTrainerRobustSeg_SFusion, 3, "regions_ignore", "2d", PLAIN),
    (nnUNetTrainerSimMLM, 3, "classes", "2d", RESIDUAL),
    (nnUNetTrainerSimMLM, 3, "regions_ignore", "3d_fullres", PLAIN),
    (SubsetKDStreams, 2, "regions", "2d", PLAIN),
    (SubsetKDStreams, 4, "regions", "3d_fullres", PLAIN),
    (SubsetKDStreams, 3, "classes", "2d", RESIDUAL),
    (SubsetKDStreams, 3, "regions_ignore", "3d_fullres", RESIDUAL),
    (SubsetKDWithNorms, 2, "regions", "2d", PLAIN),
    (SubsetKDWithNorms, 4, "regions", "3d_fullres", RESIDUAL),
    (SubsetKDWithPlanes, 4, "regions", "3d_fullres", PLAIN),
    (SubsetKDWithPlanes, 3, "classes", "2d", RESIDUAL),
    (SubsetKD, 3, "regions_ignore", "2d", RESIDUAL),
    (SubsetKD, 3, "classes", "3d_fullres", PLAIN),
    (nnUNetTrainerModalityDropoutNested, 3, "regions_ignore", "2d", PLAIN),
    (nnUNetTrainerModalityDropoutStems, 4, "regions", "2d", PLAIN),
    (nnUNetTrainerModalityDropoutStems, 3, "classes", "3d_fullres", RESIDUAL),
    (SubsetKDCurrentTeacher, 5, "classes_ignore", "3d_fullres", PLAIN),
]
QUICK = (nnUNetTrainerMetaKD, nnUNetTrainerModalityDropout)
"""Of these every row is quick, of the others the first."""


def rows() -> Iterator[Any]:
    """All combinations."""
    seen: set[type] = set()
    for row in COMBINATIONS:
        yield pytest.param(*row, marks=[] if row[0] in QUICK or row[0] not in seen else pytest.mark.slow)
        seen.add(row[0])


@pytest.mark.parametrize(
    ("trainer_class", "modalities", "labels", "configuration", "identifier"),
    rows(),
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_trains_and_predicts(
    home: Home,
    trainer_class: type,
    modalities: int,
    labels: str,
    configuration: str,
    identifier: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = home.dataset(modalities, labels)
    averages = issubclass(trainer_class, (nnUNetTrainerSubsetKD, nnUNetTrainerSubsetKD_MultiStream))
    if averages:  # the name that prediction looks for
        streams = trainer_class is SubsetKDStreams
        trainer_class = type(f"nnUNetTrainerSubsetKD{'_MultiStream' * streams}", (trainer_class,), {})
    trainer = start(home.trainer(trainer_class, dataset, configuration, identifier=identifier))
    before = copy.deepcopy(trainer.network.state_dict())
    parts: dict[str, torch.Tensor] = {}
    step = trainer.method.step
    trainer.method.step = lambda *args: parts.update((result := step(*args))["parts"]) or result
    for _ in range(1 + averages):
        batch = next(trainer.dataloader_train)
        assert np.isfinite(trainer.train_step(batch)["loss"])
    if averages:
        assert float(parts["task"]) != 0 and float(parts["distillation"]) > 0
    trained = copy.deepcopy(trainer.network.state_dict())
    assert differences(before, trained) != []
    assert all(torch.isfinite(weight).all() for weight in trained.values())
    with torch.no_grad():
        trainer.network.eval()
        trainer.on_validation_epoch_start()
        outputs = trainer.validation_step(next(trainer.dataloader_val))
    assert np.isfinite(outputs["loss"]) and len(outputs["tp_hard"]) == 2
    ignored = trainer.prepare(batch, trainer.cases.training_present).valid
    assert (ignored is not None) == labels.endswith("ignore")

    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    predictor = nnUNetPredictor(tile_step_size=1, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
    assert differences(trained, trainer.network.state_dict()) == []
    deployed = trainer.method.ema.state_dict() if averages and trainer.method.config.deploy != "student" else trained
    assert differences(deployed, predictor.network.state_dict()) == []
    images = home.raw / dataset / "imagesTr"
    files = [str(images / f"case_2_{channel:04d}.nii.gz") for channel in range(modalities)]
    predictor.predict_from_files_sequential([files], [str(tmp_path / "case_2")])
    result, image = sitk.ReadImage(str(tmp_path / "case_2.nii.gz")), sitk.ReadImage(files[0])
    assert result.GetSize() == image.GetSize()
    assert set(np.unique(sitk.GetArrayFromImage(result))) <= {0, 1, 2}
    data = torch.randn(modalities, 2 if configuration == "2d" else 18, 16, 16)
    full = predictor.predict_sliding_window_return_logits(data)
    zero = data.clone()
    zero[1] = 0
    limited = predictor.predict_sliding_window_return_logits(zero)
    monkeypatch.setenv("nnUNet_missing_modalities", "t1gd")
    data[1] = float("nan")
    assert differences(limited, predictor.predict_sliding_window_return_logits(data)) == []
    assert not torch.equal(full, limited)
