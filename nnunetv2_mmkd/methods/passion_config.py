"""Hyper-parameters of PASSION: the paper's, and the released code's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PASSIONConfig:
    """Hyper-parameters of PASSION, the paper's values as defaults.

    Attributes:
        pixel: pixel-wise self-distillation, Eq. (3).
        proto: semantic-wise self-distillation, Eqs. (4)-(8).
        mask: whether delta (Eq. 11) limits that to neglected modalities.
        weights: whether beta (Eqs. 12, 13) weights the pixel-wise one; otherwise it is 1.
        tau: temperature (§4.2).
        lambda_1: weight of the pixel-wise term (§4.2).
        lambda_2: weight of the semantic one (§4.2).
        gamma: rate at which beta moves (§4.2), in a training of 300 epochs; in longer ones it is smaller.
        relative: whether beta moves in units of its start, as in the released code; Eq. (13) moves beta itself, by the
            smallest share where most is missing.
        regularisation: whether each modality alone also gets the task loss, L_reg of Eq. (2): the paper's baseline.
            Eq. (14) has self-distillation in its place; the released code has both.
        weighted_regularisation: whether delta and beta weight that task loss (released code).
        weighted_proto: whether 1 / (1 - MR) weights the semantic term, too (released code).
        divergence_of: ``"student"``, KL(student || teacher) as in Eq. (3), or ``"teacher"``, KL(teacher || student)
            (released code).
        scale_factor: weight of the pixel-wise term at a scale over that at the next larger one (Eq. 3 sums: 1; 1/2 in
            the released code).
        mask_of: delta of each ``"sample"`` (Eq. 11), or one for the ``"batch"``, of its summed preferences (released
            code).
        preference_of: an epoch's preference is the mean over ``"samples"`` (Eq. 12), or that of the epoch's mean
            ``"distances"`` (released code).
        renormalised: whether beta over its start keeps a mean square of 1 over the modalities (released code).
        growth: factor of gamma at the start and after each third of the training (1.5 in the released code).
        all_modalities: whether every modality that a case has is a student, also those that a step drops (Eq. 1, and
            the paper's training on perfect data), not only the subset's; the teacher has the subset.
    """

    pixel: bool = True
    proto: bool = True
    mask: bool = True
    weights: bool = True
    tau: float = 4.0
    lambda_1: float = 0.5
    lambda_2: float = 0.1
    gamma: float = 0.01
    relative: bool = False
    regularisation: bool = False
    weighted_regularisation: bool = False
    weighted_proto: bool = False
    divergence_of: str = "student"
    scale_factor: float = 1.0
    mask_of: str = "sample"
    preference_of: str = "samples"
    renormalised: bool = False
    growth: float = 1.0
    all_modalities: bool = False

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("divergence_of", self.divergence_of, ("student", "teacher")),
            ("mask_of", self.mask_of, ("sample", "batch")),
            ("preference_of", self.preference_of, ("samples", "distances")),
        ):
            if value not in allowed:
                raise ValueError(f"PASSION: {name} must be one of {', '.join(allowed)}, not {value!r}")
        if not self.tau > 0:
            raise ValueError(f"PASSION: tau must be above 0, not {self.tau}")
        for name in ("lambda_1", "lambda_2", "gamma", "scale_factor", "growth"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"PASSION: {name} must not be negative, not {getattr(self, name)}")

    @classmethod
    def released_code(cls) -> PASSIONConfig:
        """The released code's choices where they contradict the paper.

        Two are not reproduced: its L_reg has a decoder of its own for the modalities alone (here the fused decoder, as
        for distillation), and it sums over the batch where we take the mean; the same at its batch size of 1.
        """
        return cls(
            relative=True,
            regularisation=True,
            weighted_regularisation=True,
            weighted_proto=True,
            divergence_of="teacher",
            scale_factor=0.5,
            mask_of="batch",
            preference_of="distances",
            renormalised=True,
            growth=1.5,
        )

    @property
    def learns(self) -> bool:
        """Whether the modalities alone get any gradient; otherwise they are only watched."""
        return self.pixel or self.proto or self.regularisation
