"""U-HVED: a variational encoder-decoder that segments and completes images from any subset of the modalities.

Legend: B batch, M modalities, P modalities that a case has, L latent channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.losses.feature import pooled_weight, position_mean
from nnunetv2_mmkd.losses.gaussian import (
    Gaussian,
    gaussian_from,
    gaussian_kl,
    prior_kl,
    product_of_gaussians,
    sample,
)
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
from nnunetv2_mmkd.methods.modality_table import rows_of
from nnunetv2_mmkd.methods.reconstruction import error_by_modality, reconstruction_errors
from nnunetv2_mmkd.modalities import all_subsets
from nnunetv2_mmkd.networks.contracts import VariationalNetwork
from nnunetv2_mmkd.networks.fusion.base import run
from nnunetv2_mmkd.networks.reconstruction import image_decoder
from nnunetv2_mmkd.networks.streams import Streams

AT_ONCE = 2**22
"""Values of the latent variables of subsets that are compared at once: small maps in one go, large ones one by one."""


@dataclass(frozen=True)
class UHVEDConfig:
    """Hyper-parameters of U-HVED, the released code's: the paper's are not known to us.

    Attributes:
        divergence: weight of both divergences (0.1 in the released code).
        reconstruction: weight of the images' mean squared error (0.1 in the released code).
        reference: whose Gaussian those of the subsets are compared with: ``"complete"``, of all modalities that the
            case has, or ``"drawn"``, of the subset of the step (released code).
        most_subsets: subsets compared in a step; of more (five modalities or more) so many are drawn.
    """

    divergence: float = 0.1
    reconstruction: float = 0.1
    reference: str = "complete"
    most_subsets: int = 15

    def __post_init__(self) -> None:
        for name, value in (("divergence", self.divergence), ("reconstruction", self.reconstruction)):
            if not value >= 0:
                raise ValueError(f"U-HVED: {name} must not be negative, not {value}")
        if self.reference not in ("complete", "drawn"):
            raise ValueError(f"U-HVED: reference is 'complete' or 'drawn', not {self.reference!r}")
        if self.most_subsets < 1:
            raise ValueError(f"U-HVED: most_subsets must be at least 1, not {self.most_subsets}")

    @classmethod
    def released_code(cls) -> UHVEDConfig:
        """The released code's choices."""
        return cls(reference="drawn")


class UHVED(Method[VariationalNetwork]):
    r"""Task loss of a sample from the subset's Gaussian, divergences between subsets, reconstruction of the images.

    .. math::
        \ell(D(z), y) + \lambda \frac{1}{S} \sum_{s=1}^S \Big(
        \frac{1}{n - 1} \sum_{\pi} \mathrm{KL}(q_s \,\|\, q_{s,\pi})
        + \frac{1}{n} \sum_{\pi} \mathrm{KL}(q_{s,\pi} \,\|\, \mathcal N(0, 1)) \Big)
        + \mu \frac{1}{P} \sum_m \mathrm{mean}(D_m(z) - x_m)^2

    with z drawn at each of S scales from the product of the Gaussians of the subset that the step has, pi over all
    n = 2^P - 1 subsets of the modalities that the case has, and one decoder D_m for each modality, which is trained
    with the network and never deployed. All modalities of a case are encoded in each step, whatever the subset is; the
    task loss and the reconstructions see those of the subset alone.

    Attributes:
        recomputes: the image decoders, and the products and divergences of subsets.

    References:
        Dorent et al., Hetero-Modal Variational Encoder-Decoder for Joint Modality Completion and Segmentation, MICCAI
        2019, Eq. (1) and (3) for prior and Gaussians. Weights and means over scales, subsets and components are the
        released code's.

    Deviations from the paper:
        See :class:`~nnunetv2_mmkd.networks.fusion.hved.HVEDFusion`. Image decoders are nnU-Net's planned decoder with
        one channel at the end. The task loss is nnU-Net's, with its deep supervision (cross entropy and Dice in the
        paper), as are optimiser and schedule (Adam with 1e-3 there).
    """

    needs = (ExtraNetwork,)
    recomputes = None

    def __init__(self, config: UHVEDConfig | None = None) -> None:
        self.config = config or UHVEDConfig()
        self._averages = Averages()

    def setup(self, context: TrainingContext) -> None:
        """Make the image decoders."""
        super().setup(context)
        make, number = context.need(ExtraNetwork), len(context.modalities) if self.config.reconstruction else 0
        self.decoders = nn.ModuleList(image_decoder(make()) for _ in range(number))

    def trainable(self) -> Sequence[nn.Module]:
        """The image decoders."""
        return tuple(self.decoders)

    # -- a step ------------------------------------------------------------------------------------------------------

    def step(self, network: VariationalNetwork, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """All terms on a batch."""
        gaussians = network.fusions.gaussians(network.encode(batch.images, batch.present))
        recomputed = network.recomputed_stages if self.recomputing else 0
        drawn = gaussians.narrowed(batch.available)
        latents = [sample(product(drawn, scale, scale < recomputed)) for scale in range(len(drawn.scales))]  # z
        skips = network.fusions.widen(latents, recomputed_scales=recomputed)
        parts = {"task": task_loss(network.decode(skips), batch.target)}  # first term
        if self.config.divergence:
            between, prior = self.divergences(gaussians, batch)  # second term
            parts |= {"subsets": self.config.divergence * between, "prior": self.config.divergence * prior}
        if self.config.reconstruction:
            errors = self.errors(skips, batch)
            counts = batch.present.sum(1).to(errors.device, non_blocking=True)
            parts["reconstruction"] = self.config.reconstruction * (errors.sum(1) / counts).mean()  # third term
            by_modality = error_by_modality(errors, batch.present, self.context.modalities)
            self._averages.add_all("squared error of images", by_modality)
        self._averages.add_all("loss", parts)
        return sum_of_parts(parts)

    def errors(self, skips: Sequence[Tensor], batch: Batch) -> Tensor:
        """Mean squared errors of the reconstructed images, ``[B, M]``, 0 where a case lacks one."""

        def reconstruct(m: int, samples: list[int]) -> Tensor:
            return run(partial(self.decoders[m], [rows_of(skip, samples) for skip in skips]), self.recomputing)

        return reconstruction_errors(batch, reconstruct, p=2)

    def divergences(self, gaussians: Streams, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both divergences, unweighted, means over scales and samples.

        Args:
            gaussians: of all modalities that the cases have.
            batch: for the subset of the step and the voxels that count.

        Returns:
            between subsets; from the prior.
        """
        size, n_scales = len(gaussians.available), len(gaussians.scales)
        parts: list[Tensor] = []
        for number in range(size):
            rows = [row for row, (own, _) in enumerate(gaussians.pairs) if own == number]
            has = [gaussians.pairs[row][1] for row in rows]
            drawn = self.config.reference == "drawn"
            reference = batch.available[number, has] if drawn else torch.ones(len(has), dtype=torch.bool)
            subsets = self._subsets(len(has))
            others = (subsets != reference).any(1)
            means = torch.stack([others / others.sum().clamp_min(1), torch.ones(len(others)) / len(others)], 1)
            shares = (means / (size * n_scales)).to(self.context.device, non_blocking=True)
            pairs = torch.cat([reference[None], subsets]).to(self.context.device, non_blocking=True)
            for scale in gaussians.scales:
                own = [scale[row] for row in rows]
                weight = None if batch.valid is None else pooled_weight(batch.valid[number], own[0].shape[1:])
                at_once = max(1, 2 * AT_ONCE // own[0].numel())
                for first in range(0, len(subsets), at_once):
                    chunk = slice(first, first + at_once)
                    call = partial(_divergences, own, pairs[:1], pairs[1:][chunk], weight)
                    parts.append((run(call, self.recomputing) * shares[chunk]).sum(0))
        between, prior = torch.stack(parts).sum(0)
        return between, prior

    def _subsets(self, number: int) -> Tensor:
        """All subsets of so many modalities ``[S, number]``, or a draw of them."""
        subsets = all_subsets(number)
        most = self.config.most_subsets
        return subsets if len(subsets) <= most else subsets[torch.randperm(len(subsets))[:most]]

    # -- curves and state --------------------------------------------------------------------------------------------

    def curve_names(self) -> tuple[str, ...]:
        """Every weighted part, and how well each modality's images are reconstructed."""
        names = ["loss/task"]
        names += ["loss/subsets", "loss/prior"] if self.config.divergence else []
        if self.config.reconstruction:
            names += ["loss/reconstruction", *(f"squared error of images/{name}" for name in self.context.modalities)]
        return tuple(names)

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())

    def state_dict(self) -> dict[str, Any]:
        """The image decoders."""
        return {"decoders": self.decoders.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.decoders.load_state_dict(state["decoders"])


def product(gaussians: Streams, scale: int, recompute: bool) -> Gaussian:
    """Products at a scale of what each sample has, ``[B, L, *spatial]``."""
    samples = range(len(gaussians.available))
    owns = [
        [gaussians.scales[scale][row] for row, (own, _) in enumerate(gaussians.pairs) if own == number]
        for number in samples
    ]
    channels = [run(partial(_product_channels, own), recompute) for own in owns]
    mean, log_variance = torch.stack(channels).chunk(2, 1)
    return Gaussian(mean, log_variance)


def _product_channels(own: Sequence[Tensor]) -> Tensor:
    return torch.cat(product_of_gaussians(gaussian_from(torch.stack(tuple(own)))))


def _divergences(own: Sequence[Tensor], reference: Tensor, subsets: Tensor, weight: Tensor | None) -> Tensor:
    """``[S, 2]``: of S subsets from the reference, and from the prior, at a scale of a sample."""
    factors = gaussian_from(torch.stack(tuple(own)))
    of_subsets = product_of_gaussians(factors, subsets)
    both = (gaussian_kl(product_of_gaussians(factors, reference), of_subsets), prior_kl(of_subsets))
    return torch.stack([position_mean(each.mean(1).flatten(1), weight) for each in both], 1)
