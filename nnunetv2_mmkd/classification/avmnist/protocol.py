"""The table of Audiovision-MNIST: its eight cells, what is trained for each, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nnunetv2_mmkd.classification.avmnist.pairs import MODALITIES
from nnunetv2_mmkd.classification.catalogue import RIVALS_ABOUT
from nnunetv2_mmkd.classification.rivals import RIVALS
from nnunetv2_mmkd.classification.training import TrainSettings
from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.methods.base import Method
from nnunetv2_mmkd.methods.lckd import LCKD
from nnunetv2_mmkd.methods.lckd_config import LCKDConfig
from nnunetv2_mmkd.methods.metakd import MetaKD
from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.methods.modality_dropout import ModalityDropout
from nnunetv2_mmkd.modalities import ModalityDropoutConfig

LOWER, UPPER = "lower bound", "upper bound"
DROPOUT, METAKD, EQUAL, NO_KD = "modality dropout", "MetaKD", "MetaKD, ratios 1", "MetaKD, alpha 0"

ARMS: Mapping[str, str] = {
    LOWER: "one modality in training and testing, no second encoder",
    DROPOUT: "the task loss alone, on what the rate and --modality_dropout leave",
    "LCKD": "distillation from elected teachers",
    METAKD: "distillation weighted by learned importance",
    EQUAL: "ablation: distillation with all ratios 1",
    **RIVALS_ABOUT,
    NO_KD: "ablation: no distillation; the same numbers as modality dropout, bit for bit",
    UPPER: "both modalities in training and testing, nothing missing",
}
"""What can be trained; the bounds do not depend on the rate."""

NO_DROPPING = ModalityDropoutConfig("full")

DEFAULT_ARMS = tuple(name for name in ARMS if name != NO_KD and name not in RIVALS)


@dataclass(frozen=True)
class TableCell:
    """A cell of the table.

    Attributes:
        scarce: modality that only a share of the training subjects has; it is missing in testing.
        rate: that share.
    """

    scarce: str
    rate: float

    @property
    def known(self) -> str:
        """The modality that all have, and that is tested alone."""
        return MODALITIES[1 - MODALITIES.index(self.scarce)]

    @property
    def setting(self) -> str:
        """Its name in the published table."""
        letter, name = ("a", "audio") if self.scarce == "audio" else ("b", "visual")
        return f"({letter}) {name} rate {100 * self.rate:g}%"


@dataclass(frozen=True)
class AudiovisionProtocol:
    """Everything that decides the numbers.

    Attributes:
        rates: of both halves of the table (§4.3).
        seeds: repetitions, each with its own split, pairs, masks and initialisation.
        arms: keys of :data:`ARMS`.
        width: of the features (paper silent: 160 is that of SMIL's image encoder).
        alpha: weight of the distillation (§8: 0.1 on BraTS, no other value is given).
        p: of its norm (§8: 1).
        meta_weight_decay: L2 penalty of the importance weights (§8: 1e-2).
        published_split: the published test part, the same for all seeds.
        train: optimiser, schedule, modality dropout. By default nothing is dropped beyond the rate: §8 drops "a certain
            percentage of the sound modality", which is the rate, and random subsets for BraTS only.

    Raises:
        InputError: an unknown arm, no seed, or a rate out of range.

    References:
        Wang et al., MetaKD, §4.3 and §8.
    """

    rates: tuple[float, ...] = (0.05, 0.10, 0.15, 0.20)
    seeds: int = 10
    arms: tuple[str, ...] = DEFAULT_ARMS
    width: int = 160
    alpha: float = 0.1
    p: int = 1
    meta_weight_decay: float = 1e-2
    published_split: bool = False
    train: TrainSettings = field(default_factory=lambda: TrainSettings(modality_dropout=NO_DROPPING))

    def __post_init__(self) -> None:
        unknown = [arm for arm in self.arms if arm not in ARMS]
        if unknown:
            raise InputError(f"unknown method {unknown[0]!r}; there are {choices(unknown[0], ARMS)}")
        if self.seeds < 1 or not self.arms or not self.rates:
            raise InputError("at least one seed, one method and one rate are needed")
        for rate in self.rates:
            if not 0 < rate <= 1:
                raise InputError(f"rate {rate}: expected a share in (0, 1]")

    @property
    def cells(self) -> tuple[TableCell, ...]:
        """Missing sounds first, as in the paper."""
        return tuple(TableCell(scarce, rate) for scarce in ("audio", "image") for rate in self.rates)

    @property
    def jobs(self) -> list[TrainingJob]:
        """All trainings, seed by seed; each bound once."""
        made = (self.job(seed, arm, cell) for seed in range(self.seeds) for cell in self.cells for arm in self.arms)
        return list(dict.fromkeys(made))

    def job(self, seed: int, arm: str, cell: TableCell) -> TrainingJob:
        """The training whose result belongs to a cell."""
        if arm == UPPER:
            return TrainingJob(seed, arm, None)
        return TrainingJob(seed, arm, TableCell(cell.scarce, self.rates[0]) if arm == LOWER else cell)

    def settings(self, arm: str) -> TrainSettings:
        """How an arm is trained: :attr:`train`, but the upper bound never drops ("full modalities", §4.3)."""
        return replace(self.train, modality_dropout=NO_DROPPING) if arm == UPPER else self.train

    def method(self, arm: str, seed: int) -> Method[Any]:
        """A new objective of an arm."""
        if arm == "LCKD":
            return LCKD(LCKDConfig(alpha=self.alpha, p=self.p, initial_teacher="none"))
        if arm in RIVALS:
            return RIVALS[arm].method()
        if arm not in (METAKD, EQUAL, NO_KD):
            return ModalityDropout()
        return MetaKD(
            MetaKDConfig(
                alpha=0.0 if arm == NO_KD else self.alpha,
                p=self.p,
                ratios="equal" if arm == EQUAL else "learned",
                meta_weight_decay=self.meta_weight_decay,
                seed=seed,
            )
        )


@dataclass(frozen=True)
class TrainingJob:
    """One training.

    Attributes:
        seed: of everything.
        arm: a key of :data:`ARMS`.
        cell: None for the upper bound; a lower bound depends on its ``known`` only, its rate is that of all.
    """

    seed: int
    arm: str
    cell: TableCell | None

    @property
    def name(self) -> str:
        """Path of its result, without ending."""
        arm = self.arm.replace(", ", "_").replace(" ", "_").lower()
        if self.cell is None:
            return f"seed{self.seed:02d}/{arm}"
        if self.arm == LOWER:
            return f"seed{self.seed:02d}/{arm}_{self.cell.known}"
        return f"seed{self.seed:02d}/{arm}_{self.cell.scarce}{100 * self.cell.rate:g}"
