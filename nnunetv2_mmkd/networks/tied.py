"""Encoders that share their convolutions, each with a first convolution and norm parameters of its own.

Legend: M modalities.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


def tied_encoders(encoder: Any, count: int) -> list[Any]:
    """An encoder and copies of it that share all parameters but those of their first convolution and of their norms.

    All start with the weights of the first. A convolution is shared by being the same parameter, so that it is trained,
    averaged and counted once; in the state dict it has a key in each encoder, and one place in the file.

    Args:
        encoder: a planned encoder, plain or residual, for one channel.
        count: M.

    Returns:
        ``count`` encoders, the first of them the given one.
    """
    own = {id(parameter) for part in _own_parts(encoder) for parameter in part.parameters()}
    shared = {id(parameter): parameter for parameter in encoder.parameters() if id(parameter) not in own}
    return [encoder, *(copy.deepcopy(encoder, dict(shared)) for _ in range(count - 1))]


def _own_parts(encoder: nn.Module) -> list[nn.Module]:
    """The first convolution, which sees the image (a stem's, or the first stage's), and all norms."""
    first = next(module for module in encoder.modules() if isinstance(module, _ConvNd))
    return [first, *(module for module in encoder.modules() if isinstance(module, _NormBase))]
