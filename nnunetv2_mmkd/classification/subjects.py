"""Subjects with any subset of their modalities, whole in memory.

Legend: N subjects, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.names import canonical, indices


@dataclass(frozen=True)
class Subjects:
    """N labelled subjects.

    Attributes:
        ids: names of the subjects, all different.
        inputs: modality -> ``[N, *shape]``, in the order of the modalities. The row of a subject that lacks
            the modality is never read.
        present: bool ``[N, M]``: what each subject has; no row is empty.
        labels: int64 ``[N]``, positions in ``classes``.
        classes: names of the classes.

    Raises:
        InputError: lengths that do not agree, a name given twice, a label without a class, or a subject without
            modality.
    """

    ids: tuple[str, ...]
    inputs: Mapping[str, Tensor]
    present: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.ids)
        for name, values in self.inputs.items():
            if len(values) != count:
                raise InputError(f"modality {name}: {len(values)} rows for {count} subjects")
            if canonical(name) != name:
                raise InputError(f"modality {name!r}: call it {canonical(name)!r}")
        expected = (count, len(self.inputs))
        if tuple(self.present.shape) != expected or self.present.dtype != torch.bool:
            raise InputError(f"present has shape {tuple(self.present.shape)}; expected bool {expected}")
        if len(self.labels) != count or (count and not 0 <= int(self.labels.min()) <= int(self.labels.max())):
            raise InputError(f"{len(self.labels)} labels for {count} subjects; expected one each, from 0")
        if count and int(self.labels.max()) >= len(self.classes):
            raise InputError(f"label {int(self.labels.max())} has no class; there are {', '.join(self.classes)}")
        if len(set(self.ids)) != count:
            repeated = next(name for name in self.ids if self.ids.count(name) > 1)
            raise InputError(f"subject {repeated} is given twice: give each subject a unique name")
        empty = torch.nonzero(~self.present.any(dim=1)).flatten().tolist()
        if empty:
            raise InputError(
                f"subject {self.ids[empty[0]]} has no modality at all ({len(empty)} such subjects): at least one of "
                f"{', '.join(self.inputs)} is needed; leave the subject out"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the M modalities."""
        return tuple(self.inputs)

    def take(self, rows: Sequence[int] | Tensor) -> Subjects:
        """Some of the subjects, in the order given."""
        chosen = torch.as_tensor(rows, dtype=torch.long)
        return replace(
            self,
            ids=tuple(self.ids[row] for row in chosen.tolist()),
            inputs={name: values[chosen] for name, values in self.inputs.items()},
            present=self.present[chosen],
            labels=self.labels[chosen],
        )

    def masked(self, keep: Tensor) -> Subjects:
        """The same subjects with fewer modalities.

        Args:
            keep: bool ``[N, M]`` or ``[M]``; a subject does not gain what it lacks.

        Raises:
            InputError: a subject would be left without modality.
        """
        return replace(self, present=self.present & keep)

    def only(self, names: Sequence[str]) -> Subjects:
        """The subjects that have one of these modalities, with these modalities only.

        Raises:
            InputError: an unknown modality.
        """
        columns = indices(names, self.modalities)
        having = self.take(torch.nonzero(self.present[:, columns].any(dim=1)).flatten())
        inputs = {self.modalities[column]: having.inputs[self.modalities[column]] for column in columns}
        return replace(having, inputs=inputs, present=having.present[:, columns])


@dataclass(frozen=True)
class DataSplit:
    """Disjoint parts of a data set.

    Attributes:
        training: subjects to train on.
        validation: subjects for what methods need for themselves: meta-updates, elections.
        test: subjects for testing only.
    """

    training: Subjects
    validation: Subjects
    test: Subjects
