"""A discriminator of feature maps.

Legend: B batch, C channels.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

WIDTHS = (64, 128, 256)
SLOPE = 0.2


class FeatureDiscriminator(nn.Module):
    """Tells by convolutions whether features come from missing modalities; any map size, in two or three dimensions.

    Args:
        channels: C.
        dimensions: 2 or 3.

    Deviations from the paper:
        MST-KDNet does not describe it. The released code's kernels (4, and 2 x 3 x 2 at the end) need the map sizes of
        its own network; these are 3 with stride 2, which any map survives, with the code's widths, and one logit per
        remaining position.
    """

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        convolution: type[nn.Module] = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        layers: list[nn.Module] = []
        for before, after in pairwise((channels, *WIDTHS)):
            layers += [convolution(before, after, 3, 2, 1), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, convolution(WIDTHS[-1], 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Logits that the features are of missing modalities: ``[B, C, *spatial]`` -> ``[B, positions]``."""
        result: Tensor = self.layers(features).flatten(1)
        return result
