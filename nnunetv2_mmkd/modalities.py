"""Modalities: names and aliases, subsets, availability masks, and the distributions of modality dropout.

"Missing" has one definition everywhere: ``available``, a boolean mask, ``[M]`` for a case and ``[B, M]`` for a batch,
in the order of ``dataset.json["channel_names"]``. The empty subset does not exist.

Legend: B batch, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.names import indices, parse_names


def mask_of(
    modalities: Sequence[str], *, available: Iterable[str] | None = None, missing: Iterable[str] | None = None
) -> Tensor:
    """Availability mask ``[M]`` from names: the ``available`` ones (default all) without the ``missing`` ones.

    Raises:
        InputError: an unknown name, or nothing would be left.
    """
    mask = torch.ones(len(modalities), dtype=torch.bool)
    if available is not None:
        mask[:] = False
        mask[indices(available, modalities)] = True
    if missing is not None:
        mask[indices(missing, modalities)] = False
    if not mask.any():
        raise InputError(f"no modality would be left of {', '.join(modalities)}: at least one must be available")
    return mask


def names_of(mask: Tensor | Sequence[bool], modalities: Sequence[str]) -> tuple[str, ...]:
    """Names of the modalities that a mask ``[M]`` has."""
    return tuple(name for name, available in zip(modalities, mask, strict=True) if bool(available))


def all_subsets(n_modalities: int) -> Tensor:
    """All non-empty subsets as masks ``[2^M - 1, M]``: singles first, the full set last, each size in order."""
    rows = []
    for size in range(1, n_modalities + 1):
        for chosen in combinations(range(n_modalities), size):
            rows.append([index in chosen for index in range(n_modalities)])
    return torch.tensor(rows, dtype=torch.bool)


def index_of(numbers: Sequence[int], device: torch.device) -> Tensor:
    """An index of positions on a device; an index by a list would make host and device wait for each other."""
    return torch.tensor(list(numbers), dtype=torch.long).to(device, non_blocking=True)


def strictly_fewer(available: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a smaller subset within each sample's own, uniform over its non-empty proper subsets.

    Args:
        available: bool ``[B, M]``, no row empty.
        generator: of the CPU; None: torch's own.

    Returns:
        bool ``[B, M]`` on the CPU. A row with one modality, which has no proper subset, stays as it is.
    """
    masks = available.detach().cpu().bool().clone()
    for row in masks:
        where = torch.nonzero(row).flatten()
        if len(where) > 1:
            chosen = int(torch.randint(1, 2 ** len(where) - 1, (), generator=generator))  # neither none nor all
            row[where] = torch.tensor([bool(chosen >> bit & 1) for bit in range(len(where))])
    return masks


DISTRIBUTIONS: Mapping[str, str] = {
    "full": "nothing is dropped",
    "uniform": "uniform over the 2^M - 1 subsets",
    "count_uniform": "the number kept is uniform in 1..M, then uniform over the subsets of that size",
    "count_uniform_incomplete": "the number kept is uniform in 1..M-1 (never all), then uniform of that size",
    "bernoulli": "each modality is dropped with probability p, given that not all are",
    "submask": "uniform over the non-empty subsets of what the case has",
    "deployment": "as in practice: independent missing probabilities of named modalities, or probabilities of subsets",
}
"""The modality dropout distributions, by name."""


@dataclass(frozen=True)
class ModalityDropoutConfig:
    """How subsets are drawn in training.

    Where it is known what will be missing, training may follow it::

        ModalityDropoutConfig("deployment", missing={"t1ce": 0.3})
        ModalityDropoutConfig("deployment", subsets={"t1 t1ce t2 flair": 0.6, "t1 t2 flair": 0.3, "t1ce": 0.1})

    Attributes:
        name: a key of :data:`DISTRIBUTIONS`.
        per: ``"sample"`` draws a subset for each sample, ``"batch"`` one for the whole batch.
        p: probability of dropping a modality (``bernoulli`` only).
        missing: ``deployment`` only: modality -> probability that it is missing, each for itself, given that not all
            are; modalities that are not named are always available.
        subsets: ``deployment`` only, in place of ``missing``: names of what is available, separated by blanks or
            commas -> probability; they sum to 1.
        full: probability that nothing is dropped, before the distribution is asked. With ``uniform`` and M modalities
            the full set has the probability ``full + (1 - full) / (2^M - 1)``.
        annealed: share of the training over which that probability falls, linearly, from 1 to ``full``.
    """

    name: str = "uniform"
    per: str = "sample"
    p: float = 0.5
    missing: Mapping[str, float] | None = None
    subsets: Mapping[str, float] | None = None
    full: float = 0.0
    annealed: float = 0.0

    def __post_init__(self) -> None:
        for key, value in (("full", self.full), ("annealed", self.annealed)):
            if not 0 <= value <= 1:
                raise InputError(f"modality dropout: {key} must lie in [0, 1], not {value}")
        if self.name not in DISTRIBUTIONS:
            raise InputError(
                f"unknown modality dropout distribution {self.name!r}: choose from {choices(self.name, DISTRIBUTIONS)}"
            )
        if self.per not in ("sample", "batch"):
            raise InputError(f"modality dropout is per 'sample' or per 'batch', not per {self.per!r}")
        if not 0 <= self.p < 1:
            raise InputError(f"the probability of dropping a modality must lie in [0, 1), not {self.p}")
        if self.name != "deployment":
            if self.missing is not None or self.subsets is not None:
                raise InputError(
                    f"the modality dropout distribution {self.name!r} takes no probabilities: use 'deployment'"
                )
            return
        if (self.missing is None) == (self.subsets is None):
            raise InputError("modality dropout 'deployment' needs either missing={modality: p} or subsets={names: p}")
        given = self.missing if self.subsets is None else self.subsets
        for key, value in (given or {}).items():
            if not 0 <= value <= 1:
                raise InputError(f"modality dropout 'deployment': {key!r} has probability {value}, not within [0, 1]")
        if self.subsets is not None and abs(sum(self.subsets.values()) - 1) > 1e-6:
            raise InputError(
                "modality dropout 'deployment': the probabilities of the subsets sum to "
                f"{sum(self.subsets.values()):g}, not to 1"
            )

    def full_share(self, progress: float) -> float:
        """Probability that nothing is dropped, when so much of the training is over (0 to 1)."""
        if progress >= self.annealed:
            return self.full
        return 1 - (1 - self.full) * progress / self.annealed


def subset_probabilities(dropout: ModalityDropoutConfig, modalities: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The subsets that a distribution draws for a complete case, and their probabilities.

    Args:
        dropout: the distribution.
        modalities: names of the M modalities.

    Returns:
        bool ``[S, M]``, rows of :func:`all_subsets`; and float64 ``[S]``, all above 0, sum 1.

    Raises:
        InputError: it names a modality that the data set lacks, names one twice, or leaves no subset.
    """
    count = len(modalities)
    masks = all_subsets(count)
    sizes = masks.sum(1)
    if dropout.name == "full":
        chances = (sizes == count).double()
    elif dropout.name.startswith("count_uniform"):
        chances = 1.0 / torch.stack([(sizes == size).sum() for size in sizes]).double()
        if dropout.name == "count_uniform_incomplete" and count > 1:
            chances[sizes == count] = 0.0
    elif dropout.subsets is not None:
        chances = torch.zeros(len(masks), dtype=torch.double)
        for key, value in dropout.subsets.items():
            names = [modalities[column] for column in _columns(parse_names(key), modalities)]
            chances += value * (masks == mask_of(modalities, available=names)).all(1)
    else:  # each modality is missing for itself
        if dropout.missing is not None:
            drop = torch.zeros(count, dtype=torch.double)
            drop[_columns(dropout.missing, modalities)] = torch.tensor(
                list(dropout.missing.values()), dtype=torch.double
            )
        else:
            drop = torch.full((count,), dropout.p if dropout.name == "bernoulli" else 0.5, dtype=torch.double)
        chances = torch.where(masks, 1 - drop, drop).prod(1)
    if not chances.sum() > 0:
        raise InputError("modality dropout 'deployment' leaves no modality: at least one must be available at times")
    chances = (1 - dropout.full) * chances / chances.sum() + dropout.full * (sizes == count).double()
    possible = chances > 0
    return masks[possible], chances[possible]


def _columns(names: Iterable[str], modalities: Sequence[str]) -> list[int]:
    """Columns of the names that a distribution gives, in their order; none twice, not even under two aliases."""
    columns: list[int] = []
    for name in names:
        (column,) = indices([name], modalities)
        if column in columns:
            raise InputError(f"modality dropout 'deployment' names {modalities[column]} twice (as {name!r})")
        columns.append(column)
    return columns


class SubsetSampler:
    """Draws availability masks, never empty, always within what a case has.

    With incomplete cases the distributions are conditional on the case: ``uniform``, ``submask`` and ``bernoulli`` draw
    over the non-empty subsets of what the case has (for ``uniform`` that is the same as intersecting with the case and
    redrawing the empty set); the counts of ``count_uniform`` run up to the number the case has, and
    ``count_uniform_incomplete`` keeps a case that has one modality only. ``deployment`` intersects a subset with the
    case and redraws the empty one; a case that has nothing of any subset keeps what it has. Per batch, one subset is
    drawn over all M and intersected with each case; a case that would be left with nothing gets a draw of its own.

    Masks are drawn on the CPU from a generator of their own, so that its state can be saved with a checkpoint and the
    network needs no synchronisation with the device to learn which streams to run.

    Args:
        dropout: the distribution.
        seed: of the generator.
        modalities: names of the columns, for a distribution that names modalities.

    Attributes:
        progress: share of the training that is over, for an annealed distribution; set by the trainer.

    Raises:
        InputError: a distribution that names modalities, without their names or with others; see
            :func:`subset_probabilities`.
    """

    def __init__(self, dropout: ModalityDropoutConfig, seed: int = 0, modalities: Sequence[str] = ()) -> None:
        self.dropout = dropout
        self.generator = torch.Generator().manual_seed(seed)
        self.progress = 1.0
        if dropout.name == "deployment":
            if not modalities:
                raise InputError("modality dropout 'deployment' names modalities: the sampler needs their names")
            self._listed = subset_probabilities(replace(dropout, full=0.0), modalities)

    def __call__(self, present: Tensor) -> Tensor:
        """Draw masks.

        Args:
            present: what the cases have, bool ``[B, M]``; no row is empty.

        Returns:
            bool ``[B, M]`` on the CPU; each row is a non-empty subset of the row of ``present``.
        """
        present = present.detach().cpu().bool()
        if not present.any(dim=1).all():
            raise InputError("a case without any modality cannot be trained on")
        if self.dropout.name == "full":
            return present.clone()
        masks, share = self._draw_all(present), self.dropout.full_share(self.progress)
        if share <= 0:
            return masks
        draws = len(present) if self.dropout.per == "sample" else 1
        whole = torch.rand(draws, generator=self.generator) < share
        return torch.where(whole[:, None], present, masks)

    def _draw_all(self, present: Tensor) -> Tensor:
        if self.dropout.per == "sample":
            return torch.stack([self._draw(row) for row in present])
        shared = self._draw(torch.ones_like(present[0]))
        masks = shared & present
        for index in torch.nonzero(~masks.any(dim=1)).flatten().tolist():
            masks[index] = self._draw(present[index])
        return masks

    def _draw(self, present: Tensor) -> Tensor:
        if self.dropout.name == "deployment":
            masks, chances = self._listed
            within = masks & present
            chances = torch.where(within.any(1), chances, 0.0)  # given that something is left
            if not chances.sum() > 0:
                return present.clone()
            return within[int(torch.multinomial(chances, 1, generator=self.generator))]
        where = torch.nonzero(present).flatten()
        if self.dropout.name in ("count_uniform", "count_uniform_incomplete"):
            most = len(where) - (self.dropout.name == "count_uniform_incomplete" and len(where) > 1)
            count = int(torch.randint(1, most + 1, (), generator=self.generator))
            chosen = where[torch.randperm(len(where), generator=self.generator)[:count]]
            return torch.zeros_like(present).index_fill(0, chosen, True)
        keep = 1.0 - self.dropout.p if self.dropout.name == "bernoulli" else 0.5
        while True:  # redrawing the empty set makes the distribution conditional on what is not empty
            kept = torch.rand(len(where), generator=self.generator) < keep
            if kept.any():
                return torch.zeros_like(present).index_fill(0, where[kept], True)

    def state_dict(self) -> dict[str, Tensor]:
        """State of the random generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state of the random generator."""
        self.generator.set_state(state["generator"].cpu())


FULL = SubsetSampler(ModalityDropoutConfig("full"))
"""Drops nothing; it has no state worth keeping."""
