"""What methods need of a training loop: meta batches, and the F1 with each modality alone.

Both use the held-out part of the data, never subjects that are trained or tested on.

Legend: N subjects, M modalities, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.classification.prediction import predict_probabilities, rows_with
from nnunetv2_mmkd.classification.scores import dice_by_class
from nnunetv2_mmkd.classification.subjects import Subjects
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import Batch, HeldOut


def batch_of(subjects: Subjects, rows: Tensor, available: Tensor | None, device: torch.device) -> Batch:
    """Some subjects as a batch for a method; ``available`` None: all modalities that they have."""
    present = subjects.present[rows]
    inputs = {name: values[rows].to(device) for name, values in subjects.inputs.items()}
    return Batch(inputs, present if available is None else available, present, subjects.labels[rows].to(device))


def batches_of_rows(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows in random order, in batches of at most ``size``; of nearly equal size, so that none is of a single row."""
    order = torch.randperm(count, generator=generator)
    yield from order.tensor_split(max(1, -(-count // size)))


LEAST = 8
"""Fewest subjects that meta batches are taken from, if so many are held out."""


class MetaBatches:
    """Batches of the held-out subjects for MetaKD's outer problem, endlessly.

    Args:
        held_out: subjects that are not trained on.
        needed: what the method declares; with ``complete_first`` only the complete subjects are taken, and those
            with the fewest missing modalities until there are :data:`LEAST`. Its ``share`` and ``most`` are not used:
            they are for data sets without a validation part.
        batch_size: of a batch at most.
        device: of the network.
        seed: of the order.
    """

    def __init__(
        self, held_out: Subjects, needed: HeldOut, *, batch_size: int, device: torch.device, seed: int = 0
    ) -> None:
        rows = torch.arange(len(held_out))
        if needed.complete_first:
            missing = (~held_out.present).sum(1)
            order = torch.argsort(missing, stable=True)
            rows = order[: max(LEAST, int((missing == 0).sum()))]
        self.subjects = held_out.take(rows)
        self.batch_size = batch_size
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)
        self._waiting: list[Tensor] = []

    def __call__(self) -> Batch:
        """The next batch."""
        if not self._waiting:
            self._waiting = list(batches_of_rows(len(self.subjects), self.batch_size, self.generator))
        return batch_of(self.subjects, self._waiting.pop(0), None, self.device)

    def state_dict(self) -> dict[str, object]:
        """The remaining batches of the current pass, and the random state."""
        return {"waiting": self._waiting, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore :meth:`state_dict`."""
        self._waiting = list(state["waiting"])  # type: ignore[call-overload]
        self.generator.set_state(state["generator"])  # type: ignore[arg-type]


def single_modality_f1(network: nn.Module, held_out: Subjects, device: torch.device) -> Callable[..., Tensor]:
    """The counterpart of the election's Dice: F1 of each class with each modality alone.

    The held-out part counts as one case whose positions are the subjects: the Dice of a class's indicator is its F1.

    Returns:
        A function as :class:`~nnunetv2_mmkd.methods.base.SingleModalityDice`, ``[1, M, K]``; of its arguments only
        ``soft`` is used: all subjects are used each time, and no window.
    """

    def measure(*, number: int, most_cases: int, soft: bool, window_step: float) -> Tensor:
        classes = len(held_out.classes)
        table = torch.full((1, len(held_out.modalities), classes), float("nan"), dtype=torch.double)
        for modality, alone in enumerate(torch.eye(len(held_out.modalities), dtype=torch.bool)):
            having = held_out.take(rows_with(held_out, alone))
            if len(having):
                probabilities = predict_probabilities(network, having, alone, device=device).double()
                decided = torch.nn.functional.one_hot(probabilities.argmax(1), classes).double()
                table[0, modality] = dice_by_class(probabilities if soft else decided, having.labels)
        return table

    return measure


def require_held_out(held_out: Subjects | None, needed: HeldOut | None, method: str) -> None:
    """Refuse a method that needs held-out subjects if there are none.

    Raises:
        InputError: there are none.
    """
    if needed is not None and (held_out is None or not len(held_out)):
        raise InputError(f"{method} needs held-out subjects ({needed.kind}); give a validation part of the data")
