"""What is deployed may be other weights than those that are trained: a method's moving average, for example.

They are put into the network for as long as it takes to validate, save or predict; training goes on with its own.
nnU-Net's ``network_weights`` are the deployed ones, so ``checkpoint_best`` follows them, and prediction and the zip
export have them. ``--c`` finds the trained ones under the key ``mmkd`` (:mod:`~nnunetv2_mmkd.training.checkpoint`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def deploying(weights: Mapping[str, Any] | None, network: nn.Module) -> Iterator[bool]:
    """Put weights into a network, and the trained ones back afterwards.

    Args:
        weights: state dict; None: the network's own.
        network: the bare module, without the compiler's wrapper.

    Yields:
        whether they are others than the trained ones.
    """
    if weights is None:
        yield False
        return
    trained = {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
    network.load_state_dict(weights)
    try:
        yield True
    finally:
        network.load_state_dict(trained)
