"""The one exception for what a user can put right, and how its messages list names."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message names the file, case or modality, what was expected and what to do.

    It is a ``ValueError`` on purpose: nnU-Net takes a ``RuntimeError`` in the forward pass for lack of memory and
    tries again. The command line prints it without a traceback and exits with 1.
    """


def first_few(names: Iterable[object], limit: int = 20) -> str:
    """The first names and how many more there are, for messages.

    >>> first_few("abcdefg", 5)
    'a, b, c, d, e, and 2 more'
    """
    listed = list(map(str, names))
    more = f", and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
