"""Which trainers are trained in which setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LENGTH = "_seed1_2epochs_10iters"
"""20 steps. MetaKD's meta-updates come before the first one, LCKD's elections before every second one."""

TRAINERS = (
    "MetaKD", "MCKD", "UniformKD", "SharedStreams", "LCKD", "LCKDSingleTeacher", "MSTKDNet", "mmFormer", "RFNet",
    "M2FTrans", "PASSION", "PASSION_RFNet", "PASSION_M2FTrans", "PASSION_SharedStreams", "ModDrop", "PMR", "SubsetKD",
    "SubsetKD_MultiStream", "ModalityDropout", "Specialist_t1_t2", "UHeMIS", "UHVED",
    "RobustSeg", "RobustSeg_SFusion", "SFusion",
)  # fmt: skip

VARIANTS = (
    "MCKD", "UniformKD", "SharedStreams", "SubsetKD_MultiStream", "ModalityDropout", "Specialist_t1_t2", "UHeMIS",
    "RobustSeg_SFusion", "SFusion",
)  # fmt: skip
"""Trainers that are tried in one setting only."""


@dataclass(frozen=True)
class Training:
    """A training of the bench.

    Attributes:
        trainer: its name without ``nnUNetTrainer`` and without :data:`LENGTH`.
        data: number of modalities, and kind of labels, of the tiny data set.
        configuration: of the plans.
        residual: whether the plans have a residual encoder.
        fold: that is left out.
        label: what the record calls the setting.
    """

    trainer: str
    data: tuple[int, str] = (3, "classes")
    configuration: str = "3d_fullres"
    residual: bool = False
    fold: int = 0
    label: str = "3d"

    @property
    def name(self) -> str:
        """In the record."""
        return f"{self.trainer} {self.label}" + (f" fold {self.fold}" if self.fold else "")

    @property
    def class_name(self) -> str:
        """As nnU-Net looks it up."""
        return f"nnUNetTrainer{self.trainer}{LENGTH}"


MODALITY_DROPOUT = Training("ModalityDropout", (3, "regions"), label="regions")
META_KD = Training("MetaKD", (3, "regions"), label="regions")
SPECIALIST = Training("Specialist_t1_t2", (3, "regions"), label="regions")
SECOND_FOLD = Training("ModalityDropout", (3, "regions"), fold=1, label="regions")

SETTINGS: tuple[tuple[dict[str, Any], tuple[str, ...]], ...] = (
    ({"label": "3d"}, TRAINERS),
    ({"label": "complete", "data": (4, "classes")}, tuple(name for name in TRAINERS if name not in VARIANTS)),
    (
        {"label": "2d regions", "data": (3, "regions"), "configuration": "2d"},
        ("MetaKD", "MSTKDNet", "LCKD", "PASSION", "SubsetKD", "PMR"),
    ),
    ({"label": "residual", "residual": True}, ("MetaKD", "MSTKDNet", "RFNet", "SubsetKD_MultiStream")),
    (
        {"label": "ignore", "data": (3, "classes_ignore")},
        ("MetaKD", "MSTKDNet", "LCKD", "PASSION", "PASSION_RFNet", "SubsetKD", "PMR", "M2FTrans"),
    ),
    ({"label": "regions ignore", "data": (3, "regions_ignore")}, ("MetaKD", "MSTKDNet", "SubsetKD")),
    ({"label": "table", "data": (4, "classes")}, ("MetaKD_mr28", "PASSION_mr28", "ModDrop_mr28", "SubsetKD_mr28")),
)
DATA = ((3, "classes"), (4, "classes"), (3, "regions"), (3, "classes_ignore"), (3, "regions_ignore"))
TRAININGS = tuple(Training(trainer, **setting) for setting, trainers in SETTINGS for trainer in trainers)
