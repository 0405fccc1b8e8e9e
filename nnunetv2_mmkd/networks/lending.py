"""Which modality lends in the place of which in DeMoSeg's network.

Legend: M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnunetv2_mmkd.errors import InputError


def check_lenders(lenders: Sequence[Sequence[int]], modalities: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The lists of lenders.

    Raises:
        InputError: not a list of all other modalities for each one; the message names it.
    """
    checked = tuple(tuple(int(each) for each in own) for own in lenders)
    if len(checked) != len(modalities):
        raise InputError(f"DeMoSeg: lenders of {len(checked)} modalities, but there are {', '.join(modalities)}")
    for number, (name, own) in enumerate(zip(modalities, checked, strict=True)):
        if sorted(own) != [each for each in range(len(modalities)) if each != number]:
            found = ", ".join(modalities[each] if 0 <= each < len(modalities) else str(each) for each in own)
            raise InputError(f"DeMoSeg: the lenders of {name} must be all other modalities, each once, not {found}")
    return checked


def lending_order(modalities: Sequence[str], preferred: Mapping[str, Sequence[str]]) -> tuple[tuple[int, ...], ...]:
    """The lenders in the place of each modality, first the one before all others.

    Those that ``preferred`` names and the data set has come first, in that order; the others follow in channel order,
    beginning with the next channel, and after the last channel with the first.

    Example:
        >>> lending_order(["t1", "pd", "t2"], {"t1": ["t1ce", "t2", "flair"]})
        ((2, 1), (2, 0), (0, 1))

    Args:
        modalities: names of the M modalities.
        preferred: modality -> others.
    """
    order = []
    for number, name in enumerate(modalities):
        chosen = [modalities.index(other) for other in preferred.get(name, ()) if other in modalities]
        cycle = [(number + step) % len(modalities) for step in range(1, len(modalities))]
        order.append((*chosen, *(each for each in cycle if each not in chosen)))
    return tuple(order)
