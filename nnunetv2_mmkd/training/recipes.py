"""Recipes: the papers' optimisers, schedules, lengths and losses, in the place of nnU-Net's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn

from nnunetv2_mmkd.losses.weighted_ce import NO_LABEL, weighted_binary_cross_entropy, weighted_cross_entropy
from nnunetv2_mmkd.training.optimizer import AdamWConfig

SCHEDULES = ("poly", "cosine", "constant")
LOSSES = ("nnunet", "dice", "weighted_ce")


@dataclass(frozen=True)
class TrainingRecipe:
    """How a paper trains. What the user says with ``_<N>epochs`` and ``_<K>iters`` goes before it.

    Attributes:
        paper: whose it is, and the section.
        epochs: length.
        iterations: of an epoch; None: nnU-Net's 250.
        optimizer: None: nnU-Net's SGD with Nesterov momentum 0.99 and 0.01.
        weight_decay: of that SGD, if it is another than nnU-Net's.
        schedule: of the rate, by epoch: ``"poly"``, nnU-Net's, ``"cosine"``, or ``"constant"``.
        loss: ``"nnunet"``, Dice and cross entropy; ``"dice"`` alone; or ``"weighted_ce"``, Dice and a cross entropy
            that weights classes (:func:`~nnunetv2_mmkd.losses.weighted_ce.weighted_cross_entropy`).
        batch: samples of a batch; that, and the patch, is the plan's affair: the run says where it differs.
        patch: size of a patch in voxels.
        patch_2d: the same of 2d plans; empty: the paper has none.
    """

    paper: str
    epochs: int
    iterations: int | None = None
    optimizer: AdamWConfig | None = None
    weight_decay: float | None = None
    schedule: str = "poly"
    loss: str = "nnunet"
    batch: int = 2
    patch: tuple[int, ...] = ()
    patch_2d: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, value, allowed in (("schedule", self.schedule, SCHEDULES), ("loss", self.loss, LOSSES)):
            if value not in allowed:
                raise ValueError(f"recipe: {name} must be one of {', '.join(allowed)}, not {value!r}")

    def differs(self, batch: int, patch: tuple[int, ...]) -> str:
        """What of a plan is not the paper's, in a line; empty: nothing."""
        own = self.patch_2d if len(patch) == 2 and self.patch_2d else self.patch
        wanted = f"batches of {self.batch} and patches of {_size(own)}"
        same = batch == self.batch and (not own or tuple(patch) == own)
        return "" if same else f"{self.paper}: {wanted}; the plans have {batch} and {_size(tuple(patch))}"


def _size(patch: tuple[int, ...]) -> str:
    return " x ".join(map(str, patch))


METAKD = TrainingRecipe(
    "MetaKD §8, LCKD §3.1",
    epochs=460,  # of 250 iterations: 115,000
    weight_decay=5e-4,  # released codes; the papers are silent
    schedule="cosine",
    batch=2,
    patch=(80, 160, 160),  # released codes
)
PASSION = TrainingRecipe(
    "PASSION §4.2",
    epochs=300,
    iterations=219,  # one pass over the training cases of BraTS 2020
    optimizer=AdamWConfig(),
    loss="weighted_ce",
    batch=1,
    patch=(80, 80, 80),
    patch_2d=(256, 256),  # hearts
)
MST_KDNET = TrainingRecipe(
    "MST-KDNet §3.1",
    epochs=250,
    iterations=1080,  # one pass over 80 % of BraTS 2024
    optimizer=AdamWConfig(1e-4, 1e-5, (0.9, 0.99), amsgrad=False, decoupled=False),  # decay: released code
    loss="dice",
    batch=1,
    patch=(160, 192, 128),
)
MMFORMER = TrainingRecipe(
    "mmFormer, released code",
    epochs=1000,
    iterations=199,  # one pass over a split of BraTS 2018
    optimizer=AdamWConfig(decoupled=False),
    loss="weighted_ce",
    batch=1,
    patch=(128, 128, 128),
)
RFNET = TrainingRecipe(
    "RFNet, released code",
    epochs=300,
    iterations=150,
    optimizer=AdamWConfig(decoupled=False),
    loss="weighted_ce",
    batch=2,
    patch=(80, 80, 80),
)
M2FTRANS = TrainingRecipe(
    "M2FTrans, released code",
    epochs=1000,
    iterations=50,  # one pass over a split of BraTS 2018
    optimizer=AdamWConfig(),
    loss="weighted_ce",
    batch=4,
    patch=(80, 80, 80),
)
UHVED = TrainingRecipe(
    "U-HVED, released code",
    epochs=240,  # of 250 iterations: 60,000; also its U-HeMIS
    optimizer=AdamWConfig(1e-3, 1e-5, amsgrad=False, decoupled=False),
    schedule="constant",
    batch=1,
    patch=(112, 112, 112),
)
ROBUSTSEG = TrainingRecipe(
    "RobustSeg, released code",
    epochs=300,
    iterations=300,
    optimizer=AdamWConfig(1e-4, 1e-4, amsgrad=False, decoupled=False),
    loss="weighted_ce",
    batch=1,
    patch=(80, 80, 80),
)
SFUSION = TrainingRecipe(
    "SFusion, released code",
    epochs=200,
    iterations=260,  # one pass over a split of BraTS 2020
    optimizer=AdamWConfig(1e-4, 1e-4, amsgrad=False, decoupled=False),
    schedule="constant",
    loss="dice",
    batch=1,
    patch=(128, 128, 128),
)
SHASPEC = TrainingRecipe(
    "ShaSpec §4.2",
    epochs=720,  # of 250 iterations: 180,000
    weight_decay=0.0,  # released code, as batch and patch
    schedule="cosine",  # poly in the released code
    batch=1,
    patch=(80, 160, 160),
)
ACN = TrainingRecipe(
    "ACN, released code",
    epochs=300,
    iterations=190,  # one pass over two of three folds of BraTS 2018
    optimizer=AdamWConfig(1e-4, 1e-5, amsgrad=False, decoupled=False),
    loss="dice",
    batch=1,
    patch=(160, 192, 128),
)
SMUNET = TrainingRecipe(
    "SMU-Net, released code",
    epochs=250,
    iterations=200,  # one pass over 70 % of BraTS 2018
    optimizer=AdamWConfig(1e-4, 1e-5, amsgrad=False, decoupled=False),
    loss="dice",
    batch=1,
    patch=(160, 192, 128),
)
SIMMLM = TrainingRecipe(
    "SimMLM, released code",
    epochs=600,  # 300 for the experts, 300 together
    iterations=57,  # one pass over four fifths of BraTS 2018
    optimizer=AdamWConfig(1e-3, 0.0, amsgrad=False, decoupled=False),  # 1e-2 in the paper
    schedule="constant",
    batch=4,
    patch=(128, 128, 128),
)


class CosineLRScheduler(PolyLRScheduler):
    r"""Cosine annealing by epoch, for all parameter groups, also those that were added later.

    .. math:: \eta_e = \tfrac{1}{2} \eta_0 \big(1 + \cos(\pi e / E)\big)

    References:
        Loshchilov and Hutter, SGDR, ICLR 2017, Eq. (5), one cycle down to 0.
    """

    def step(self, current_step: int | None = None) -> None:
        """Set the rate of an epoch."""
        if current_step is None or current_step == -1:  # as nnU-Net's
            current_step = int(self.ctr)
            self.ctr: int = current_step + 1
        rate = self.initial_lr * (1 + math.cos(math.pi * current_step / self.max_steps)) / 2  # Eq. (5)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._last_lr = [rate for _ in self.optimizer.param_groups]


def task_loss(kind: str, planned: nn.Module) -> nn.Module:
    """nnU-Net's task loss with another cross entropy, or none.

    Args:
        kind: one of :data:`LOSSES`.
        planned: what nnU-Net has built; under deep supervision a wrapper with ``loss``. It is changed.
    """
    at_scale: Any = getattr(planned, "loss", planned)
    if kind == "dice":
        at_scale.weight_ce = 0
    elif kind == "weighted_ce":
        at_scale.ce = _WeightedCE(at_scale)
    return planned


class _WeightedCE(nn.Module):
    """In the place of nnU-Net's cross entropy of classes or of regions."""

    def __init__(self, planned: DC_and_BCE_loss | DC_and_CE_loss) -> None:
        super().__init__()
        self.regions = isinstance(planned, DC_and_BCE_loss)
        self.by_voxel = self.regions and planned.use_ignore_label  # nnU-Net masks and averages
        self.ignore = NO_LABEL if self.regions or planned.ignore_label is None else planned.ignore_label

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Of classes a scalar; of regions by voxel if nnU-Net asks for it."""
        if not self.regions:
            return weighted_cross_entropy(output, target, self.ignore)
        values = weighted_binary_cross_entropy(output, target)
        return values if self.by_voxel else values.mean()


def lengths(recipe: TrainingRecipe | None, epochs: int | None, iterations: int | None) -> tuple[int | None, int | None]:
    """Epochs and iterations of an epoch: those of the trainer's name, else the recipe's; None: nnU-Net's."""
    if recipe is None:
        return epochs, iterations
    return epochs or recipe.epochs, iterations or recipe.iterations


def warn_of_plan(trainer: Any) -> None:
    """Log where the plans are not the recipe's."""
    plan = trainer.configuration_manager
    if trainer.recipe is not None and (other := trainer.recipe.differs(plan.batch_size, tuple(plan.patch_size))):
        trainer.print_to_log_file(f"WARNING: the recipe is that of {other}")


def optimizers(recipe: TrainingRecipe | None, adamw: AdamWConfig | None, trainer: Any) -> tuple[Any, Any]:
    """Optimiser and schedule of a trainer, whose ``initial_lr`` and ``weight_decay`` are set.

    Args:
        recipe: None: nnU-Net's schedule.
        adamw: None: SGD as nnU-Net's.
        trainer: with a network.
    """
    config = adamw or (recipe.optimizer if recipe else None)
    if config is not None:
        trainer.initial_lr, trainer.weight_decay = config.rate, config.weight_decay
        optimizer = config.build(trainer.network.parameters())
    else:
        if recipe is not None and recipe.weight_decay is not None:
            trainer.weight_decay = recipe.weight_decay
        optimizer, _ = nnUNetTrainer.configure_optimizers(trainer)
    kind = CosineLRScheduler if recipe is not None and recipe.schedule == "cosine" else PolyLRScheduler
    exponent = 0.0 if recipe is not None and recipe.schedule == "constant" else 0.9
    return optimizer, kind(optimizer, trainer.initial_lr, trainer.num_epochs, exponent)
