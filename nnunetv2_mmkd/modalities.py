"""Modalities: names and aliases, subsets, availability masks, and the laws that draw subsets in training.

"Missing" has one definition everywhere: ``available``, a boolean mask, ``[M]`` for a case and ``[B, M]`` for a batch,
in the order of ``dataset.json["channel_names"]``. The empty subset does not exist.

Legend: B batch, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.names import ALIASES, canonical, indices, modality_names, parse_names

__all__ = [
    "ALIASES",
    "FULL",
    "LAWS",
    "SubsetLaw",
    "SubsetSampler",
    "all_subsets",
    "canonical",
    "indices",
    "mask_of",
    "modality_names",
    "names_of",
    "parse_names",
]


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
    return tuple(name for name, there in zip(modalities, mask, strict=True) if bool(there))


def all_subsets(n_modalities: int) -> Tensor:
    """All non-empty subsets as masks ``[2^M - 1, M]``: singles first, the full set last, each size in order."""
    rows = []
    for size in range(1, n_modalities + 1):
        for chosen in combinations(range(n_modalities), size):
            rows.append([index in chosen for index in range(n_modalities)])
    return torch.tensor(rows, dtype=torch.bool)


LAWS: Mapping[str, str] = {
    "full": "nothing is dropped",
    "uniform": "uniform over the 2^M - 1 subsets",
    "count_uniform": "the number kept is uniform in 1..M, then uniform over the subsets of that size",
    "count_uniform_incomplete": "the number kept is uniform in 1..M-1 (never all), then uniform of that size",
    "bernoulli": "each modality is dropped with probability p, given that not all are",
    "submask": "uniform over the non-empty subsets of what the case has",
}
"""The subset laws, by name."""


@dataclass(frozen=True)
class SubsetLaw:
    """How subsets are drawn in training.

    Attributes:
        name: a key of :data:`LAWS`.
        per: ``"sample"`` draws a subset for each sample, ``"batch"`` one for the whole batch.
        p: probability of dropping a modality (``bernoulli`` only).
    """

    name: str = "uniform"
    per: str = "sample"
    p: float = 0.5

    def __post_init__(self) -> None:
        if self.name not in LAWS:
            raise InputError(f"unknown subset law {self.name!r}: choose from {', '.join(LAWS)}")
        if self.per not in ("sample", "batch"):
            raise InputError(f"a subset law is per 'sample' or per 'batch', not per {self.per!r}")
        if not 0 <= self.p < 1:
            raise InputError(f"the probability of dropping a modality must lie in [0, 1), not {self.p}")


class SubsetSampler:
    """Draws availability masks, never empty, always within what a case has.

    With incomplete cases the laws are laws *given the case*: ``uniform``, ``submask`` and ``bernoulli`` draw over the
    non-empty subsets of what is there (for ``uniform`` that is the same as intersecting with the case and redrawing
    the empty set); the counts of ``count_uniform`` run up to the number the case has, and ``count_uniform_incomplete``
    keeps a case that has one modality only. Per batch, one subset is drawn over all M and intersected with each case;
    a case that would be left with nothing gets a draw of its own.

    Masks are drawn on the CPU from a generator of their own, so that its state can be saved with a checkpoint and the
    network needs no synchronisation with the device to learn which streams to run.
    """

    def __init__(self, law: SubsetLaw, seed: int = 0) -> None:
        self.law = law
        self.generator = torch.Generator().manual_seed(seed)

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
        if self.law.name == "full":
            return present.clone()
        if self.law.per == "sample":
            return torch.stack([self._draw(row) for row in present])
        shared = self._draw(torch.ones_like(present[0]))
        masks = shared & present
        for index in torch.nonzero(~masks.any(dim=1)).flatten().tolist():
            masks[index] = self._draw(present[index])
        return masks

    def _draw(self, present: Tensor) -> Tensor:
        where = torch.nonzero(present).flatten()
        if self.law.name in ("count_uniform", "count_uniform_incomplete"):
            most = len(where) - (self.law.name == "count_uniform_incomplete" and len(where) > 1)
            count = int(torch.randint(1, most + 1, (), generator=self.generator))
            chosen = where[torch.randperm(len(where), generator=self.generator)[:count]]
            return torch.zeros_like(present).index_fill(0, chosen, True)
        keep = 1.0 - self.law.p if self.law.name == "bernoulli" else 0.5
        while True:  # redrawing the empty set makes the law conditional on what is not empty
            kept = torch.rand(len(where), generator=self.generator) < keep
            if kept.any():
                return torch.zeros_like(present).index_fill(0, where[kept], True)

    def state_dict(self) -> dict[str, Tensor]:
        """State of the random generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state of the random generator."""
        self.generator.set_state(state["generator"].cpu())


FULL = SubsetSampler(SubsetLaw("full"))
"""Drops nothing; it has no state worth keeping."""
