"""ShaSpec's classifier: an encoder of its own and a shared one for each modality.

Legend: B batch, M modalities, P available pairs, W width of the features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.classification.network import MultiModalClassifier, seeded
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams


class SharedSpecificClassifier(MultiModalClassifier):
    r"""Shared features r and specific ones s, fused as :math:`r + \phi([r, s])`; a missing modality is the mean of r.

    Args:
        encoders: modality -> encoder whose features go into the layers that all modalities share.
        specific: modality -> encoder of its own, of the same width.
        classes: K.
        how: see :class:`MultiModalClassifier`.

    References:
        Wang et al., ShaSpec, CVPR 2023.

    Deviations from the paper:
        An image and a sound have no shape in common: each goes through an encoder of its own to the common width, and
        two linear layers after it are shared.
    """

    def __init__(
        self, encoders: Mapping[str, nn.Module], specific: Mapping[str, nn.Module], classes: int, **how: float
    ) -> None:
        super().__init__(encoders, classes, **how)  # type: ignore[arg-type]
        self.shared = nn.Sequential(
            nn.ReLU(), nn.Linear(self.width, self.width), nn.ReLU(), nn.Linear(self.width, self.width)
        )
        self.specific = nn.ModuleDict(specific)
        self.compose = nn.Linear(2 * self.width, self.width)

    def encode(self, x: Mapping[str, Tensor], available: Tensor | None = None) -> Streams:
        """r ``[W, 1]`` of the available pairs, and s."""
        streams = super().encode(x, available)
        own = torch.stack(streams.bottleneck)[..., 0]
        shared = self.shared(own)[..., None].unbind(0)
        specific: list[Tensor] = []
        for modality, name in enumerate(self.modalities):
            rows = [subject for subject, each in streams.pairs if each == modality]
            if rows:
                inputs = x[name]
                found = self.specific[name](inputs[torch.tensor(rows).to(inputs.device)])
                specific.extend(found[..., None].unbind(0))
        return replace(streams, scales=(tuple(shared),), specific=tuple(specific))

    def fuse(self, streams: Streams, *, weights: ModalityWeights | None = None) -> Fused:
        """f of the available modalities, the mean of r in the place of the others: one skip, ``[B, M, W]``."""
        (mean,) = super().fuse(streams).skips  # r, and its mean where a modality is missing
        r, s = (torch.stack(each)[..., 0] for each in (streams.bottleneck, streams.specific))
        subjects, modalities = torch.tensor(streams.pairs, device=r.device).T
        fused = mean.index_put((subjects, modalities), r + self.compose(torch.cat([r, s], 1)))
        return self.weighted(fused, weights)


def build_shared_specific(
    make_encoder: Callable[[str], nn.Module], modalities: Sequence[str], classes: int, seed: int
) -> SharedSpecificClassifier:
    """As :func:`~nnunetv2_mmkd.classification.network.build_classifier`."""
    with seeded(seed):
        first, second = ({name: make_encoder(name) for name in modalities} for _ in range(2))
        return SharedSpecificClassifier(first, second, classes)


if TYPE_CHECKING:
    _fulfils: type[MultiStreamNetwork] = SharedSpecificClassifier
