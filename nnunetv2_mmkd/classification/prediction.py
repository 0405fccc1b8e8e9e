"""Class probabilities of subjects with a subset of their modalities.

Legend: N subjects, M modalities, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.classification.subjects import Subjects


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in eval mode and without gradients; its mode is restored afterwards."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def predict_probabilities(
    network: nn.Module,
    subjects: Subjects,
    available: Tensor | None = None,
    *,
    batch_size: int = 512,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Class probabilities ``[N, K]`` on the CPU.

    Args:
        network: a classifier.
        subjects: N of them.
        available: bool ``[M]`` or ``[N, M]``, narrows what the subjects have; None: all that they have.
        batch_size: subjects at a time.
        device: of the network.

    Raises:
        InputError: a subject would be left without modality.
    """
    masked = subjects if available is None else subjects.masked(available)
    probabilities = []
    with evaluating(network):
        for rows in torch.arange(len(masked)).split(batch_size):
            inputs = {name: values[rows].to(device) for name, values in masked.inputs.items()}
            probabilities.append(network(inputs, available=masked.present[rows]).softmax(1).cpu())
    return torch.cat(probabilities)


def rows_with(subjects: Subjects, subset: Tensor) -> Tensor:
    """Positions of the subjects that have all modalities of a subset, bool ``[M]``."""
    return torch.nonzero((subjects.present | ~subset).all(dim=1)).flatten()
