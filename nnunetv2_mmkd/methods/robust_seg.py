"""RobustSeg: content and appearance of each modality apart, so that any subset's content stands for all.

Legend: B batch, M modalities, P modalities that a case has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from nnunetv2_mmkd.losses.gaussian import gaussian_from, prior_kl, sample
from nnunetv2_mmkd.methods.base import (
    Averages,
    Batch,
    ExtraNetwork,
    Method,
    StepResult,
    TaskLoss,
    TrainingContext,
    sum_of_parts,
)
from nnunetv2_mmkd.methods.modality_table import ModalityTables, rows_of
from nnunetv2_mmkd.methods.reconstruction import error_by_modality, images_of, reconstruction_errors, samples_with
from nnunetv2_mmkd.networks.appearance import AppearanceDecoder, AppearanceEncoder, style_gaussian
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.fusion.base import run

PRIORS = ("code", "norms")


@dataclass(frozen=True)
class RobustSegConfig:
    """Hyper-parameters of RobustSeg; the weights are the released code's.

    Attributes:
        reconstruction: weight of the images' mean absolute error, summed over modalities (0.1).
        prior: weight of the appearances' divergence from a standard normal distribution, summed over modalities (0.1).
        prior_of: what has that prior: the appearance ``"code"`` (paper), a Gaussian of which a sample is decoded, or
            the means and deviations of the adaptive ``"norms"`` that the decoder makes of a code without variance
            (released code).
    """

    reconstruction: float = 0.1
    prior: float = 0.1
    prior_of: str = "code"

    @classmethod
    def released_code(cls) -> RobustSegConfig:
        """The released code's choices."""
        return cls(prior_of="norms")

    def __post_init__(self) -> None:
        if self.prior_of not in PRIORS:
            raise ValueError(f"RobustSeg: prior_of must be one of {', '.join(PRIORS)}, not {self.prior_of!r}")
        for name, value in (("reconstruction", self.reconstruction), ("prior", self.prior)):
            if not value >= 0:
                raise ValueError(f"RobustSeg: {name} must not be negative, not {value}")
        if self.prior and not self.reconstruction:
            raise ValueError("RobustSeg: prior without reconstruction trains nothing that is used: set prior=0, too")


class RobustSeg(Method[MultiStreamNetwork]):
    r"""Task loss of the fused content, and reconstruction of every image from it and the image's own appearance.

    .. math::
        \ell(D(c), y) + \lambda \sum_m \mathrm{mean}\, |G_m(c, a_m) - x_m|
        + \mu \sum_m \mathrm{KL}\big(q_m \,\|\, \mathcal N(0, 1)\big), \qquad a_m \sim q_m

    with c the fused content of the step's subset, q_m the Gaussian of the appearance code of modality m, an encoding of
    its image, and G_m a decoder that gives c that appearance by adaptive norms. The sums are over all modalities that a
    case has, also those that the subset lacks: their appearance is known and the content of the others must do. The
    divergence is a sum over the code's components. With ``prior_of="norms"`` q_m is that of the adaptive norms' means
    and deviations, and a_m has no variance. Content encoders are the network's streams; appearance encoders and image
    decoders are trained with the network and never deployed.

    Attributes:
        recomputes: of appearance encoders and image decoders.

    References:
        Chen et al., Robust Multimodal Brain Tumor Segmentation via Feature Disentanglement and Gated Fusion, MICCAI
        2019. Weights are the released code's; of the paper's text we had the abstract and the figure alone.

    Deviations from the paper:
        See :class:`~nnunetv2_mmkd.networks.fusion.gated.Gate` and :mod:`~nnunetv2_mmkd.networks.appearance`. nnU-Net's
        task loss (weighted cross entropy and Dice in the paper), weight decay, optimiser and schedule (there Adam with
        1e-4 and dropout). That a sample of the code is decoded is ours.
    """

    needs = (ExtraNetwork,)
    recomputes = None

    def __init__(self, config: RobustSegConfig | None = None) -> None:
        self.config = config or RobustSegConfig()
        self._averages = Averages()

    def setup(self, context: TrainingContext) -> None:
        """Make appearance encoders and image decoders."""
        super().setup(context)
        encoder = context.need(ExtraNetwork)().encoders[0]  # for what nnU-Net has planned
        number = len(context.modalities) if self.config.reconstruction else 0
        gaussian = self.config.prior_of == "code"
        appearance = [AppearanceEncoder(encoder.conv_op, gaussian=gaussian) for _ in range(number)]
        self.appearance = nn.ModuleList(appearance).to(context.device)
        self.decoders = nn.ModuleList(AppearanceDecoder(encoder) for _ in range(number)).to(context.device)

    def trainable(self) -> Sequence[nn.Module]:
        """Appearance encoders and image decoders."""
        return (*self.appearance, *self.decoders)

    def step(self, network: MultiStreamNetwork, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """All terms on a batch."""
        skips = network.fuse(network.encode(batch.images, batch.available)).skips
        parts = {"task": task_loss(network.decode(skips), batch.target)}
        if self.config.reconstruction:
            errors, priors = self.tables(skips, batch)
            parts["reconstruction"] = self.config.reconstruction * errors.sum(1).mean()  # second term
            if self.config.prior:
                parts["prior"] = self.config.prior * priors.sum(1).mean()  # third term
            by_modality = error_by_modality(errors, batch.present, self.context.modalities)
            self._averages.add_all("absolute error of images", by_modality)
        self._averages.add_all("loss", parts)
        return sum_of_parts(parts)

    def tables(self, skips: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Errors of the reconstructed images and divergences from the prior, ``[B, M]``, 0 where a case lacks one."""
        sizes = [tuple(skip.shape[2:]) for skip in skips]
        priors = ModalityTables(1, len(batch.present), batch.present.shape[1], skips[0].device)
        styles: dict[int, tuple[Tensor, Tensor]] = {}
        for m, samples in samples_with(batch.present):
            decoder: Any = self.decoders[m]
            code = run(partial(self.appearance[m], images_of(batch, m, samples)), self.recomputing)
            if self.config.prior_of == "code":
                gaussian = gaussian_from(code)
                styles[m] = decoder.style(sample(gaussian))
            else:
                styles[m] = decoder.style(code)
                gaussian = style_gaussian(styles[m])
            priors.put(m, samples, [prior_kl(gaussian).sum(1)])

        def reconstruct(m: int, samples: list[int]) -> Tensor:
            content = rows_of(skips[-1], samples)
            return run(lambda: self.decoders[m](content, styles[m], sizes), self.recomputing)

        return reconstruction_errors(batch, reconstruct, p=1), priors.read()[0]

    # -- curves and state --------------------------------------------------------------------------------------------

    def curve_names(self) -> tuple[str, ...]:
        """Every weighted part, and how well each modality's images are reconstructed."""
        if not self.config.reconstruction:
            return ("loss/task",)
        names = ["loss/task", "loss/reconstruction", *(["loss/prior"] if self.config.prior else [])]
        return (*names, *(f"absolute error of images/{name}" for name in self.context.modalities))

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())

    def state_dict(self) -> dict[str, Any]:
        """Appearance encoders and image decoders."""
        return {"appearance": self.appearance.state_dict(), "decoders": self.decoders.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.appearance.load_state_dict(state["appearance"])
        self.decoders.load_state_dict(state["decoders"])
