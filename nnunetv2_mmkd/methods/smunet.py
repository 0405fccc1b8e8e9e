"""SMU-Net: a student of one subset takes over content and style of a teacher of all modalities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from nnunetv2_mmkd.losses.co_training import content_distance, gram_distance
from nnunetv2_mmkd.methods.co_training import CoTraining, CoTrainingConfig

if TYPE_CHECKING:  # the methods must not need nnU-Net's architectures
    from nnunetv2_mmkd.networks.dedicated import DedicatedTrace


CONTENTS = ("mutual_information", "squared_difference")


@dataclass(frozen=True)
class SMUNetConfig(CoTrainingConfig):
    """Hyper-parameters of SMU-Net.

    Attributes:
        student: 0.6 in the released code.
        ramp: 20 of 250 epochs in the released code.
        content: weight of the content (0.2 in the released code).
        content_term: what draws the content: the bound of the ``"mutual_information"``, as in ACN (paper), or the
            ``"squared_difference"`` (released code).
        style: weight of the style. The released code's 1e-4 is of a sum that is divided by the number of entries of
            the map three times over, and next to nothing; this is MST-KDNet's of the same normalisation.
        adversarial: weight of the adversarial term (2e-4 in the released code).
    """

    student: float = 0.6
    ramp: float = 20 / 250
    content: float = 0.2
    content_term: str = "mutual_information"
    style: float = 0.1
    adversarial: float = 2e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.content_term not in CONTENTS:
            allowed = ", ".join(CONTENTS)
            raise ValueError(f"SMUNetConfig: content_term must be one of {allowed}, not {self.content_term!r}")

    @classmethod
    def released_code(cls) -> SMUNetConfig:
        """The released code's choices; its style's weight, 3e-14 in the normalisation here, is 0."""
        return cls(content_term="squared_difference", style=0.0)

    def weights(self) -> dict[str, float]:
        """See the base."""
        own = {"content": self.content, "style": self.style, "adversarial": self.adversarial}
        return {**super().weights(), **own}


class SMUNet(CoTraining):
    r"""Co-training with content and style matching.

    .. math:: w\, \ell(z^m) + (1 - w)\, \ell(z^f) + \lambda(t) L_{cons}
        + \alpha\, \mathrm{NLL}\big(c^f;\ \mu(c^m), \sigma^2\big)
        + \theta \frac{1}{4 C^2} \sum (G^f - G^m)^2 - \epsilon \log (1 - D(s^m))

    with c the content, s the style, G the products of the style's channels and D a discriminator of styles. The content
    term is a bound of the mutual information: the negative log likelihood of the teacher's content under a Gaussian
    that the student's predicts. With ``content_term="squared_difference"`` it is
    :math:`\alpha \operatorname{mean} (c^f - c^m)^2`.

    References:
        Azad et al., SMU-Net: Style matching U-Net for brain tumor segmentation with missing modalities, MIDL 2022.

    Deviations from the paper:
        Of the paper's text we had the abstract and the figure. That the content is drawn by modelling the mutual
        information is the paper's; that it is bounded as in ACN, whose code the released one builds on, and that the
        teacher's content is detached there, is ours. Weights are the released code's, but for the style's
        (:class:`SMUNetConfig`). The discriminator keeps its optimiser's moments (the released code makes a new one in
        each iteration), and is of another shape (:class:`~nnunetv2_mmkd.networks.discriminator.FeatureDiscriminator`).
        Ignored voxels are left out of consistency and content, not of style and adversarial term. Optimiser, schedule,
        task loss and patches are nnU-Net's (Adam with 1e-4, Dice, whole volumes). One training for each subset, as in
        the paper.
    """

    config: SMUNetConfig

    def __init__(self, config: SMUNetConfig | None = None) -> None:
        super().__init__(config or SMUNetConfig())

    def discriminated(self) -> dict[str, int]:
        """Styles."""
        return {"adversarial": self.teacher.width} if self.config.adversarial else {}

    def maps(self, trace: DedicatedTrace, valid: Tensor | None) -> dict[str, Tensor]:
        """Styles."""
        assert trace.style is not None
        return {"adversarial": trace.style} if self.config.adversarial else {}

    def regresses(self) -> bool:
        """Whether the content is drawn by mutual information."""
        return bool(self.config.content) and self.config.content_term == "mutual_information"

    def distances(self, teacher: DedicatedTrace, student: DedicatedTrace, valid: Tensor | None) -> dict[str, Tensor]:
        """Content and style."""
        assert teacher.style is not None and student.style is not None
        values = {}
        if self.regresses():
            values["content"] = self.unexplained(teacher, student, valid)  # NLL
        elif self.config.content:
            values["content"] = content_distance(teacher.content, student.content, valid)
        if self.config.style:
            values["style"] = gram_distance(teacher.style, student.style)  # G
        return values
