"""Auto-encoder completion: an auto-encoder of all features fills in those of missing modalities.

Legend: B batch, M modalities, W width of the features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.classification.network import MultiModalClassifier
from nnunetv2_mmkd.methods.base import Averages, Batch, Method, StepResult, TaskLoss, sum_of_parts
from nnunetv2_mmkd.modalities import all_subsets
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams


class AutoEncoderClassifier(MultiModalClassifier):
    r"""Missing features are those that an auto-encoder makes of the available ones.

    .. math:: \hat h = A(B(\tilde h)), \quad \tilde h_m = h_m \text{ if } m \in \mathcal{A}, 0 \text{ otherwise}

    with B from :math:`M W` to W numbers (a ReLU after it) and A back. No gradient of the task flows through it.

    Args:
        encoders: modality -> encoder.
        classes: K.
        how: see :class:`MultiModalClassifier`.

    References:
        Baldi, Autoencoders, unsupervised learning, and deep architectures, ICML workshop 2012, §2; the baseline of
        SMIL (Ma et al., AAAI 2021) and of MetaKD's Table 3.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], classes: int, **how: float) -> None:
        super().__init__(encoders, classes, **how)  # type: ignore[arg-type]
        total = len(encoders) * self.width
        self.auto_encoder = nn.Sequential(nn.Linear(total, self.width), nn.ReLU(), nn.Linear(self.width, total))

    def complete(self, features: Tensor, available: Tensor) -> Tensor:
        """All features from the available ones.

        Args:
            features: ``[B, M, W]``.
            available: bool ``[B, M]`` or ``[M]``.

        Returns:
            ``[B, M, W]``.
        """
        known = torch.where(available[..., None], features, torch.zeros_like(features))
        completed: Tensor = self.auto_encoder(known.flatten(1))
        return completed.reshape(features.shape)

    def fuse(self, streams: Streams, *, weights: ModalityWeights | None = None) -> Fused:
        """Available features, completed ones in the place of the others: one skip, ``[B, M, W]``."""
        features = self.table(streams)
        available = streams.available.to(features.device)
        with torch.no_grad():
            completed = self.complete(features, available)
        return self.weighted(torch.where(available[..., None], features, completed), weights)

    def reconstruction(self, streams: Streams) -> Tensor:
        r"""The auto-encoder's error on subjects with several modalities.

        .. math:: \frac{1}{N} \sum_{(i, S)} \frac{1}{|\mathcal{A}_i| W} \sum_{m \in \mathcal{A}_i}
            \lVert \hat h_{im}(S) - h_{im} \rVert^2

        over all N pairs of a subject with :math:`|\mathcal{A}_i| \geq 2` and a non-empty
        :math:`S \subseteq \mathcal{A}_i`, of which :math:`\hat h(S)` is made. 0 if there is no such subject. The
        features are constants: only the auto-encoder learns from it.
        """
        features = self.table(streams).detach()
        present = streams.available
        several = present.sum(1) > 1
        errors = []
        for subset in all_subsets(len(self.modalities)):
            rows = torch.nonzero(several & (present | ~subset).all(1)).flatten().to(features.device)
            if len(rows):
                target, counts = features[rows], present.to(features.device)[rows]
                error = (self.complete(target, subset.to(features.device)) - target).square().mean(2)  # Baldi, Eq. (1)
                errors.append((error * counts).sum(1) / counts.sum(1))
        return torch.cat(errors).mean() if errors else features.new_zeros(())


@dataclass(frozen=True)
class AutoEncoderConfig:
    """Hyper-parameters.

    Attributes:
        weight: of the reconstruction; the auto-encoder shares no parameter with the task, so that Adam makes any
            weight nearly the same.
    """

    weight: float = 1.0


class AutoEncoderCompletion(Method[AutoEncoderClassifier]):
    r"""Task loss on completed features, and the auto-encoder's reconstruction: :math:`\ell_{task} + \lambda \ell_{AE}`.

    Deviations from the papers:
        Features are completed, not images or sounds: any kind of modality and any subset is completed alike. The
        auto-encoder learns beside the classifier, in the same steps, not before it; no gradient passes between them.
        Baldi's auto-encoder has the whole input; here parts of it are set to 0, every subset of what the subject has
        in turn. Width and depth are not given.
    """

    def __init__(self, config: AutoEncoderConfig | None = None) -> None:
        self.config = config or AutoEncoderConfig()
        self._averages = Averages()

    def step(self, network: AutoEncoderClassifier, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """Both terms on a batch."""
        streams = network.encode(batch.images, batch.available)
        parts = {
            "task": task_loss(network.decode(network.fuse(streams).skips), batch.target),
            "reconstruction": self.config.weight * network.reconstruction(streams),
        }
        self._averages.add_all("loss", parts)
        return sum_of_parts(parts)

    def curve_names(self) -> tuple[str, ...]:
        """Both terms."""
        return ("loss/task", "loss/reconstruction")

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())


if TYPE_CHECKING:
    _fulfils: type[MultiStreamNetwork] = AutoEncoderClassifier
