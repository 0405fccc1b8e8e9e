"""Hyper-parameters of MetaKD."""

from __future__ import annotations

from dataclasses import dataclass

from nnunetv2_mmkd.methods.importance import OPTIMIZERS


@dataclass(frozen=True)
class MetaKDConfig:
    """Hyper-parameters of MetaKD, the paper's values as defaults.

    Attributes:
        alpha: weight of the distillation (Eq. 4; §8: 0.1; sweep in Fig. 3a). 0.1 is for the mean that we take for the
            printed norm, see the deviations.
        p: 1 for L1 (§8), 2 for the mean squared error (§4.4.1).
        ratios: ``"learned"`` (Eq. 4), or ``"equal"``: all ratios 1, no importance weights, no meta split.
        normalisation: of the importance weights: ``softmax`` (Eq. 6), ``sigmoid`` or ``relu`` (Table 6).
        init: ``"uniform"`` (§8: random; U[0, 1) as in the released code) or ``"zeros"``.
        meta_interval: iterations between two meta-updates (§8: 100).
        meta_interval_after_warmup: the same once a full-modality warm-up is over; None: as before (500 in the released
            code).
        meta_steps: steps of the optimiser in each (paper silent; 20 in the released code).
        meta_batches: held-out batches in each, at most one a step (paper silent; 20 in the released code). Each is
            encoded once, and serves as many steps one after the other: the weights of the network stay as they are.
        meta_optimizer: of the importance weights: ``"adam"`` (§8), or ``"sgd"``, gradient descent (§8 for ADNI).
        meta_lr: its learning rate (§8: 1e-2).
        meta_weight_decay: its L2 penalty (§8: 5e-5; 5e-4 in the released code).
        meta_scales: where features are multiplied by the weights in the meta-loss: ``"all"`` that the decoder gets
            (Eq. 4, read for a U-Net), or the ``"bottleneck"`` only (released code).
        meta_statistics: of the instance norms in the meta-loss: ``"reference"``, those of the features before they are
            multiplied, or ``"own"`` (released code).
        seed: of the random initialisation.
    """

    alpha: float = 0.1
    p: int = 1
    ratios: str = "learned"
    normalisation: str = "softmax"
    init: str = "uniform"
    meta_interval: int = 100
    meta_interval_after_warmup: int | None = None
    meta_steps: int = 20
    meta_batches: int = 2
    meta_optimizer: str = "adam"
    meta_lr: float = 1e-2
    meta_weight_decay: float = 5e-5
    meta_scales: str = "all"
    meta_statistics: str = "reference"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("ratios", self.ratios, ("learned", "equal")),
            ("meta_optimizer", self.meta_optimizer, OPTIMIZERS),
            ("meta_scales", self.meta_scales, ("bottleneck", "all")),
            ("meta_statistics", self.meta_statistics, ("reference", "own")),
        ):
            if value not in allowed:
                raise ValueError(f"MetaKD: {name} must be one of {', '.join(allowed)}, not {value!r}")
        for name, count in (
            ("meta_interval", self.meta_interval),
            ("meta_interval_after_warmup", self.meta_interval_after_warmup),
            ("meta_steps", self.meta_steps),
            ("meta_batches", self.meta_batches),
        ):
            if count is not None and count < 1:
                raise ValueError(f"MetaKD: {name} must be at least 1, not {count}")

    @classmethod
    def released_code(cls) -> MetaKDConfig:
        """The released code's choices where they contradict the paper."""
        return cls(
            meta_interval_after_warmup=500,
            meta_batches=20,
            meta_weight_decay=5e-4,
            meta_scales="bottleneck",
            meta_statistics="own",
        )

    def steps_of_batches(self) -> tuple[int, ...]:
        """How many steps each held-out batch of a meta-update serves."""
        batches = min(self.meta_batches, self.meta_steps)
        return tuple(self.meta_steps // batches + (number < self.meta_steps % batches) for number in range(batches))
