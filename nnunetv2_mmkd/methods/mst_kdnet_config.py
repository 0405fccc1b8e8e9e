"""Hyper-parameters of MST-KDNet: the paper's, and the released code's."""

from __future__ import annotations

from dataclasses import dataclass, fields

from nnunetv2_mmkd.losses.attention import OVER

TERMS = ("attention", "tokens", "logit_mse", "kl", "style", "adversarial", "content")


@dataclass(frozen=True)
class TermWeights:
    """Weights of the terms; the lambdas of Eq. (12) are contained in them.

    The paper prints none. The defaults were found by comparing the norms of the gradients that the terms have for the
    student with that of its task loss, early in the training of a planned network on real cases, and measured again
    after attention was compared relative to the teacher's (documentation/explanation/methods/mst-kdnet.md).
    :meth:`released_code` has the released code's.

    Attributes:
        attention: alpha of Eq. (4), of attention scaled by the number of tokens (relative to the teacher's by
            default).
        tokens: beta of Eq. (4).
        logit_mse: lambda_mse of Eq. (8).
        kl: lambda_KD of Eq. (8), times tau^2.
        style: theta of Eq. (11).
        adversarial: epsilon of Eq. (11).
        content: of the mean squared difference of the transformer's output maps (released code only).
        student: lambda_4 of Eq. (12), of the student's task loss.
        teacher: of the teacher's.
    """

    attention: float = 0.05
    tokens: float = 0.1
    logit_mse: float = 0.005
    kl: float = 1.0
    style: float = 0.1
    adversarial: float = 0.002
    content: float = 0.0
    student: float = 1.0
    teacher: float = 1.0

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name) >= 0:
                raise ValueError(f"MST-KDNet: weight {each.name} must not be negative, not {getattr(self, each.name)}")

    @classmethod
    def released_code(cls) -> TermWeights:
        """The released code's weights.

        Its 1e8 for the attention term holds for its 120 tokens; its style term, the only one whose normalisation
        differs from ours, is commented out there.
        """
        return cls(
            attention=1e8 / 120**4,
            tokens=0.2,
            logit_mse=10.0,
            kl=1.0,
            style=1e-4,
            adversarial=2e-4,
            content=0.2,
            student=0.6,
            teacher=0.4,
        )


@dataclass(frozen=True)
class MSTKDNetConfig:
    """Hyper-parameters of MST-KDNet.

    Attributes:
        ms_tkd: multi-scale transformer distillation, Eqs. (2)-(4).
        logit_mse: logit discrepancy, Eq. (5).
        standardised_kl: logit standardisation, Eqs. (6) and (7).
        style: style matching, second term of Eq. (11).
        adversarial: first term of Eq. (11).
        weights: of the terms.
        tau: temperature of Eqs. (6) and (8) (paper silent; 7 in the released code).
        teacher: ``"co-trained"``, all the time, as in the released code; or ``"frozen"``: for the first
            ``teacher_share`` of the iterations the two are trained apart, then the teacher stays as it is.
        teacher_share: see ``teacher``.
        teacher_gradients: whether the terms between the two move the teacher, too (released code). By default the
            teacher learns from the truth alone: with gradients both sides of a term meet where that is easiest, and
            the teacher, which nobody deploys, would pay for it.
        discriminator_rate: learning rate of the discriminator's Adam (§3.1: 1e-4).
        discriminator_betas: of the same (§3.1).
        attention_over: where the extremes of Eqs. (2) and (3) are taken: ``"heads"``, or ``"layers"`` (released code).
        relative_attention: whether the distance of Eq. (4) is relative to the teacher's attention
            (:func:`~nnunetv2_mmkd.losses.attention.extreme_value_distance`).
        all_levels: whether the second term of Eq. (4) has the deepest tap, too: four levels instead of three
            (released code).
        logit_space: Eq. (5) on ``"logits"``, or on ``"probabilities"`` (released code).
        logit_ramp: share of the iterations during which the weight of Eq. (5) rises (20 of 300 epochs in the released
            code).
        divergence: ``"standardised"``, Eqs. (6) and (7), or ``"released"``: standardised along an image axis and
            reversed (:func:`~nnunetv2_mmkd.losses.logit.released_kl`).
    """

    ms_tkd: bool = True
    logit_mse: bool = True
    standardised_kl: bool = True
    style: bool = True
    adversarial: bool = True
    weights: TermWeights = TermWeights()
    tau: float = 7.0
    teacher: str = "co-trained"
    teacher_share: float = 0.3
    teacher_gradients: bool = False
    discriminator_rate: float = 1e-4
    discriminator_betas: tuple[float, float] = (0.9, 0.99)
    attention_over: str = "heads"
    relative_attention: bool = True
    all_levels: bool = False
    logit_space: str = "logits"
    logit_ramp: float = 0.0
    divergence: str = "standardised"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("teacher", self.teacher, ("co-trained", "frozen")),
            ("attention_over", self.attention_over, OVER),
            ("logit_space", self.logit_space, ("logits", "probabilities")),
            ("divergence", self.divergence, ("standardised", "released")),
        ):
            if value not in allowed:
                raise ValueError(f"MST-KDNet: {name} must be one of {', '.join(allowed)}, not {value!r}")
        if not self.tau > 0:
            raise ValueError(f"MST-KDNet: tau must be above 0, not {self.tau}")
        if not 0 < self.teacher_share < 1:
            raise ValueError(f"MST-KDNet: teacher_share must lie between 0 and 1, not {self.teacher_share}")

        if not 0 <= self.logit_ramp <= 1:
            raise ValueError(f"MST-KDNet: logit_ramp must lie in [0, 1], not {self.logit_ramp}")

    @classmethod
    def released_code(cls) -> MSTKDNetConfig:
        """The released code's choices where they contradict the paper, with a content term and its weights."""
        return cls(
            weights=TermWeights.released_code(),
            teacher_gradients=True,
            attention_over="layers",
            relative_attention=False,
            all_levels=True,
            logit_space="probabilities",
            logit_ramp=20 / 300,
            divergence="released",
        )

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms that are switched on and weigh something."""
        on = {
            "attention": self.ms_tkd,
            "tokens": self.ms_tkd,
            "logit_mse": self.logit_mse,
            "kl": self.standardised_kl,
            "style": self.style,
            "adversarial": self.adversarial,
            "content": True,
        }
        return tuple(term for term in TERMS if on[term] and getattr(self.weights, term) > 0)
