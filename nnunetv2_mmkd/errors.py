"""The one exception for what a user can put right."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: the message names the file, case or modality, what was expected and what to do.

    It is a ``ValueError`` on purpose: nnU-Net takes a ``RuntimeError`` in the forward pass for lack of memory and
    tries again. The command line prints it without a traceback and exits with 1.
    """
