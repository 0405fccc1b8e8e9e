"""The one exception for what a user can put right, and how its messages list names."""

from __future__ import annotations

import difflib
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


def choices(name: str, known: Iterable[str]) -> str:
    """What could be chosen instead of an unknown name, and the one that was probably meant, for messages.

    >>> choices("Dise", ["dice", "hd95"])
    'dice, hd95; did you mean dice?'
    """
    names = list(known)
    near = difflib.get_close_matches(name.lower(), {each.lower(): each for each in names}, n=1)
    meant = [each for each in names if each.lower() in near]
    separator = "; " if any("," in each for each in names) else ", "
    return separator.join(names) + (f"; did you mean {meant[0]}?" if meant else "")


def one_line(text: object, limit: int = 1000) -> str:
    """A message of others on one line, cut where it is very long.

    >>> one_line("no\\n  space", 5)
    'no sp ...'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= limit else f"{line[:limit]} ..."
