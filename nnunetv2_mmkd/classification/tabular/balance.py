"""Rare classes: synthetic training subjects by SMOTE, or weights of the cross-entropy.

Legend: N subjects, M modalities, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnunetv2_mmkd.classification.subjects import Subjects
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import names_of


def class_weights(subjects: Subjects) -> Tensor:
    """Weights ``[K]`` inversely proportional to the classes' frequency, with mean 1 over the subjects.

    Raises:
        InputError: a class without subjects.
    """
    counts = subjects.labels.bincount(minlength=len(subjects.classes))
    if (counts == 0).any():
        name = subjects.classes[int((counts == 0).nonzero()[0])]
        raise InputError(f"no training subject is {name}: a class without subjects cannot be weighted")
    return len(subjects) / (len(subjects.classes) * counts.double())


def oversample(
    subjects: Subjects,
    categorical: Mapping[str, Sequence[slice]],
    *,
    neighbours: int = 5,
    seed: int = 0,
) -> Subjects:
    """Add synthetic subjects until all classes are as frequent as the most frequent one, where possible.

    A synthetic subject lies between two subjects of its class that have the same tabular modalities; it has those
    modalities and no volume. One-hot blocks are made one-hot again. Groups of subjects with the same tabular modalities
    get synthetic ones in proportion to how many of the class they have; where a group has only one subject of a class,
    or only one class, nothing can be interpolated.

    Args:
        subjects: training subjects; never others.
        categorical: tabular modality -> its one-hot blocks. Modalities that are not named have no table.
        neighbours: of SMOTE, fewer where a group is small.
        seed: of SMOTE.

    Returns:
        The subjects, then the synthetic ones.

    Raises:
        InputError: imbalanced-learn is not installed.

    References:
        Chawla et al., SMOTE, 2002; Wang et al., MetaKD, §8, which says no more than that it is used.
    """
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError as error:
        raise InputError('SMOTE needs imbalanced-learn: pip install "nnunetv2-mmkd[classification]"') from error
    tables = [name for name in subjects.modalities if name in categorical]
    counts = subjects.labels.bincount(minlength=len(subjects.classes))
    groups = _groups(subjects, tables)
    made: list[Subjects] = []
    for label, lacking in enumerate((int(counts.max()) - counts).tolist()):
        eligible = [group for group in groups if _can_interpolate(subjects.labels[group.rows], label)]
        for group, number in zip(eligible, _shares(subjects.labels, eligible, label, lacking), strict=True):
            if number:
                own = subjects.labels[group.rows]
                flat = torch.cat([subjects.inputs[name][group.rows] for name in group.tables], dim=1)
                size = int((own == label).sum())
                smote = SMOTE(
                    sampling_strategy={label: size + number},
                    k_neighbors=min(neighbours, size - 1),
                    random_state=seed,
                )
                resampled = np.asarray(smote.fit_resample(flat.numpy(), own.numpy())[0])
                new = torch.from_numpy(resampled[len(group.rows) :]).float()
                made.append(_synthetic(subjects, group.tables, categorical, new, label, len(made)))
    return _joined([subjects, *made])


@dataclass(frozen=True)
class _Group:
    """Rows of the subjects with the same tabular modalities, and these modalities."""

    rows: Tensor
    tables: tuple[str, ...]


def _groups(subjects: Subjects, tables: Sequence[str]) -> list[_Group]:
    """The groups with at least one tabular modality."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, present in enumerate(subjects.present):
        available = names_of(present, subjects.modalities)
        groups.setdefault(tuple(name for name in tables if name in available), []).append(row)
    return [_Group(torch.tensor(rows), available) for available, rows in groups.items() if available]


def _can_interpolate(labels: Tensor, label: int) -> bool:
    return int((labels == label).sum()) > 1 and len(labels.unique()) > 1


def _shares(labels: Tensor, groups: Sequence[_Group], label: int, lacking: int) -> list[int]:
    """How many synthetic subjects each group gets: in proportion, the remainders to the largest groups."""
    sizes = np.array([int((labels[group.rows] == label).sum()) for group in groups], dtype=np.int64)
    if not sizes.sum():
        return [0] * len(groups)
    shares = lacking * sizes // sizes.sum()
    shares[np.argsort(-sizes, kind="stable")[: lacking - int(shares.sum())]] += 1
    result: list[int] = shares.tolist()
    return result


def _synthetic(
    subjects: Subjects,
    tables: Sequence[str],
    categorical: Mapping[str, Sequence[slice]],
    flat: Tensor,
    label: int,
    number: int,
) -> Subjects:
    """Subjects with these tables, whose columns are those of ``flat``, side by side."""
    inputs = {name: values.new_zeros(len(flat), *values.shape[1:]) for name, values in subjects.inputs.items()}
    widths = [subjects.inputs[name].shape[1] for name in tables]
    for name, values in zip(tables, flat.split(widths, dim=1), strict=True):
        inputs[name] = values.clone()
        for block in categorical[name]:
            inputs[name][:, block] = _one_hot(values[:, block])
    present = torch.tensor([name in tables for name in subjects.modalities]).repeat(len(flat), 1)
    ids = tuple(f"smote-{number}-{row}" for row in range(len(flat)))
    labels = torch.full((len(flat),), label, dtype=torch.long)
    return Subjects(ids, inputs, present, labels, subjects.classes)


def _one_hot(block: Tensor) -> Tensor:
    """The largest entry becomes 1; a block that is closer to all zeros becomes 0."""
    if not block.shape[1]:
        return block
    hard = torch.zeros_like(block).scatter(1, block.argmax(1, keepdim=True), 1.0)
    return torch.where(block.sum(1, keepdim=True) > 0.5, hard, 0.0)


def _joined(parts: Sequence[Subjects]) -> Subjects:
    first = parts[0]
    return Subjects(
        tuple(name for part in parts for name in part.ids),
        {name: torch.cat([part.inputs[name] for part in parts]) for name in first.inputs},
        torch.cat([part.present for part in parts]),
        torch.cat([part.labels for part in parts]),
        first.classes,
    )
