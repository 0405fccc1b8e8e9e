"""ACN: a student of one subset and a teacher of all modalities, adversarial in entropies and features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from nnunetv2_mmkd.losses.co_training import entropy_map
from nnunetv2_mmkd.methods.co_training import CoTraining, CoTrainingConfig

if TYPE_CHECKING:  # the methods must not need nnU-Net's architectures
    from nnunetv2_mmkd.networks.dedicated import DedicatedTrace


@dataclass(frozen=True)
class ACNConfig(CoTrainingConfig):
    """Hyper-parameters of ACN.

    Attributes:
        student: 0.8 in the released code.
        ramp: 20 of 300 epochs in the released code.
        entropy_adversarial: weight of EnA (1e-3 in the released code).
        knowledge_adversarial: weight of KnA (2e-4 in the released code).
        mutual_information: weight of MMI (0.5 in the released code).
    """

    student: float = 0.8
    ramp: float = 20 / 300
    entropy_adversarial: float = 1e-3
    knowledge_adversarial: float = 2e-4
    mutual_information: float = 0.5

    def weights(self) -> dict[str, float]:
        """See the base."""
        own = ("entropy_adversarial", "knowledge_adversarial", "mutual_information")
        return {**super().weights(), **{name: getattr(self, name) for name in own}}


class ACN(CoTraining):
    r"""Co-training with two discriminators and a bound of the mutual information.

    .. math:: w\, \ell(z^m) + (1 - w)\, \ell(z^f) + \lambda(t) L_{cons} - \epsilon_1 \log (1 - D_{en}(I^m))
        - \epsilon_2 \log (1 - D_{kn}(f^m)) + \mu\, \mathrm{NLL}\big(f^f;\ \mu(f^m), \sigma^2\big)

    with I the entropy maps of the predictions (EnA), f the bottlenecks (KnA), and the last the negative log likelihood
    of the teacher's features under a Gaussian that the student's predict (MMI).

    References:
        Wang et al., ACN: Adversarial Co-training Network for Brain Tumor Segmentation with Missing Modalities,
        MICCAI 2021.

    Deviations from the paper:
        Weights are the released code's. MMI predicts the *teacher's* features from the student's, as the paper says;
        the released code compares the student's with a prediction of themselves. The teacher's features are detached
        there: it would make them easy to predict. Of regions, which overlap, EnA sees the entropy of each; the released
        code takes a softmax over sigmoids. Discriminators keep their optimisers' moments and are of another shape
        (:class:`~nnunetv2_mmkd.networks.discriminator.FeatureDiscriminator`). Ignored voxels are left out of all terms
        but KnA. The paper's backbone has no part in the loss that nnU-Net's plan lacks. Optimiser, schedule, task loss
        and patches are nnU-Net's (Adam with 1e-4, Dice, whole volumes). One training for each subset, as in the paper.
    """

    config: ACNConfig

    def __init__(self, config: ACNConfig | None = None) -> None:
        super().__init__(config or ACNConfig())

    def regresses(self) -> bool:
        """Whether MMI weighs something."""
        return bool(self.config.mutual_information)

    def discriminated(self) -> dict[str, int]:
        """Entropy maps and bottlenecks."""
        heads = len(self.context.regions) + self.context.exclusive
        channels = {"entropy_adversarial": heads, "knowledge_adversarial": self.teacher.width}
        return {name: number for name, number in channels.items() if self.config.weights()[name]}

    def maps(self, trace: DedicatedTrace, valid: Tensor | None) -> dict[str, Tensor]:
        """Entropy maps and bottlenecks."""
        found = {}
        if self.config.entropy_adversarial:
            # EnA
            found["entropy_adversarial"] = entropy_map(trace.logits, exclusive=self.context.exclusive, valid=valid)
        if self.config.knowledge_adversarial:
            found["knowledge_adversarial"] = trace.content  # KnA
        return found

    def distances(self, teacher: DedicatedTrace, student: DedicatedTrace, valid: Tensor | None) -> dict[str, Tensor]:
        """The bound of the mutual information, MMI."""
        return {"mutual_information": self.unexplained(teacher, student, valid)} if self.regresses() else {}
