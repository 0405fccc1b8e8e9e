"""Rare classes: synthetic training subjects by SMOTE, or weights of the cross-entropy.

Legend: N subjects, M modalities, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nnunetv2_mmkd.classification.subjects import Subjects
from nnunetv2_mmkd.errors import InputError


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
    """Add synthetic subjects until all classes are as frequent as the most frequent one, or as far as it goes.

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
    columns = [subjects.modalities.index(name) for name in tables]
    counts = subjects.labels.bincount(minlength=len(subjects.classes))
    groups = _groups(subjects, columns)
    made: list[Subjects] = []
    for label, lacking in enumerate((int(counts.max()) - counts).tolist()):
        eligible = [rows for rows in groups if _can(subjects.labels[rows], label)]
        for rows, number in zip(eligible, _shares(subjects.labels, eligible, label, lacking), strict=True):
            if number:
                own = subjects.labels[rows]
                there = [
                    name for name, column in zip(tables, columns, strict=True) if subjects.present[rows[0], column]
                ]
                flat = torch.cat([subjects.inputs[name][rows] for name in there], dim=1).numpy()
                size = int((own == label).sum())
                smote = SMOTE(
                    sampling_strategy={label: size + number},
                    k_neighbors=min(neighbours, size - 1),
                    random_state=seed,
                )
                new = torch.from_numpy(np.asarray(smote.fit_resample(flat, own.numpy())[0])[len(rows) :]).float()
                made.append(_synthetic(subjects, there, categorical, new, label, len(made)))
    return _joined([subjects, *made])


def _groups(subjects: Subjects, columns: Sequence[int]) -> list[Tensor]:
    """Rows of the subjects with the same tabular modalities, at least one."""
    groups: dict[tuple[bool, ...], list[int]] = {}
    for row, there in enumerate(subjects.present[:, list(columns)].tolist()):
        groups.setdefault(tuple(there), []).append(row)
    return [torch.tensor(rows) for pattern, rows in groups.items() if any(pattern)]


def _can(labels: Tensor, label: int) -> bool:
    return int((labels == label).sum()) > 1 and len(labels.unique()) > 1


def _shares(labels: Tensor, groups: Sequence[Tensor], label: int, lacking: int) -> list[int]:
    """How many synthetic subjects each group gets: in proportion, the remainders to the largest groups."""
    sizes = np.array([int((labels[rows] == label).sum()) for rows in groups], dtype=np.int64)
    if not sizes.sum():
        return [0] * len(groups)
    shares = lacking * sizes // sizes.sum()
    for place in np.argsort(-sizes, kind="stable")[: lacking - int(shares.sum())]:
        shares[place] += 1
    return shares.tolist()


def _synthetic(
    subjects: Subjects,
    there: Sequence[str],
    categorical: Mapping[str, Sequence[slice]],
    flat: Tensor,
    label: int,
    number: int,
) -> Subjects:
    inputs, start = {}, 0
    for name, values in subjects.inputs.items():
        inputs[name] = values.new_zeros(len(flat), *values.shape[1:])
        if name in there:
            inputs[name] = flat[:, start : start + values.shape[1]].clone()
            start += values.shape[1]
            for block in categorical[name]:
                inputs[name][:, block] = _one_hot(inputs[name][:, block])
    present = torch.tensor([name in there for name in subjects.modalities]).expand(len(flat), -1)
    ids = tuple(f"smote-{number}-{row}" for row in range(len(flat)))
    labels = torch.full((len(flat),), label, dtype=torch.long)
    return Subjects(ids, inputs, present.clone(), labels, subjects.classes)


def _one_hot(block: Tensor) -> Tensor:
    """The largest entry becomes 1; a block that is closer to nothing stays 0."""
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
