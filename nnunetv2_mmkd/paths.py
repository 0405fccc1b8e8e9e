"""Environment variables: where nnU-Net finds our trainers (``nnUNet_extTrainer``), its own, and what is trusted.

Imports neither torch nor nnU-Net: ``mmkd env`` runs in every new shell.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from nnunetv2_mmkd.errors import InputError, one_line

EXT_TRAINER = "nnUNet_extTrainer"
"""nnU-Net's variable with folders of trainers, separated like ``PATH``."""

BFLOAT16_VARIABLE = "nnUNet_mmkd_bf16"
"""1: bfloat16 on the CPU. About twice as fast where it has AMX, slower where it has no instructions for it."""

TRUST_VARIABLE = "nnUNet_mmkd_trust"
"""Environment variable: 1 trusts all checkpoints of a process and of those it starts, as ``--trust`` does."""

TRUST_HELP = (
    "load checkpoints that hold more than tensors and numbers, too. Loading such a file runs whatever code its author "
    "put into it, with your rights: say so only of files of your own, or of people you would let use your account"
)
"""What ``--trust`` means, for the help texts."""

_COUNTS = {"nnUNet_n_proc_DA": 0, "nnUNet_def_n_proc": 1, "OMP_NUM_THREADS": 0}
_MOST = 1024  # processes or threads
_WANDB, _SWITCHES = "nnUNet_wandb_enabled", ("0", "1", "True", "true", "False", "false")

SHELLS: tuple[str, ...] = ("bash", "zsh", "fish", "powershell", "cmd")
"""Shells whose export line we know."""


def trainer_folder() -> str:
    """The folder of this package's trainers."""
    spec = find_spec("nnunetv2_mmkd.trainer_variants")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the trainers of nnunetv2-mmkd are not installed; run `pip install -e .` or reinstall it")
    return os.path.abspath(next(iter(spec.submodule_search_locations)))


def ext_trainer_value(current: str | None = None) -> str:
    """The value for ``nnUNet_extTrainer``: our folder, and those that it holds already.

    Args:
        current: the present value; default: that of the environment.
    """
    current = os.environ.get(EXT_TRAINER, "") if current is None else current
    ours = trainer_folder()
    folders = [folder for folder in current.split(os.pathsep) if folder.strip()]
    if not any(os.path.realpath(folder) == os.path.realpath(ours) for folder in folders):
        folders.insert(0, ours)
    return os.pathsep.join(dict.fromkeys(folders))


def set_ext_trainer() -> None:
    """Let nnU-Net find our trainers in this process and those it starts."""
    os.environ[EXT_TRAINER] = ext_trainer_value()


def guess_shell() -> str:
    """The user's shell: from ``SHELL``, or that of the operating system."""
    name = os.path.basename(os.environ.get("SHELL", "")).removesuffix(".exe")
    if name in SHELLS:
        return name
    if name == "pwsh" or (not name and os.name == "nt"):
        return "powershell"
    return "bash"


def export_line(shell: str, value: str) -> str:
    """The line that sets ``nnUNet_extTrainer`` in a shell, quoted as that shell wants it.

    Raises:
        InputError: a shell we do not know.
    """
    if shell in ("bash", "zsh"):
        return f"export {EXT_TRAINER}={shlex.quote(value)}"
    if shell == "fish":
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {EXT_TRAINER} '{quoted}'"
    if shell == "powershell":
        quoted = re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value)  # PowerShell takes all of these for quotes
        return f"$env:{EXT_TRAINER} = '{quoted}'"
    if shell == "cmd":
        return f'set "{EXT_TRAINER}={value}"'
    raise InputError(f"unknown shell {shell!r}: choose from {', '.join(SHELLS)}")


def require_variables(names: Sequence[str]) -> None:
    """Check that nnU-Net's variables are set, to folders; these need not exist yet.

    Raises:
        InputError: one is not.
    """
    for name in names:
        value = os.environ.get(name, "")
        if value.startswith("~"):
            raise InputError(f"the environment variable {name} is {value!r}: write your home folder instead of ~")
        if os.path.exists(value) and not os.path.isdir(value):
            raise InputError(f"the environment variable {name} is {value!r}, which is a file: set it to a folder")
        if not value.strip():
            raise InputError(
                f"the environment variable {name} is not set. nnU-Net keeps its data in three folders: set nnUNet_raw, "
                f"nnUNet_preprocessed and nnUNet_results, for example `export {name}=/path/to/{name}` (PowerShell: "
                f"$env:{name} = '...')"
            )


def check_variables() -> None:
    """Check the variables that nnU-Net and what it imports take for numbers and switches.

    Raises:
        InputError: one is none.
    """
    for name, least in _COUNTS.items():
        value = os.environ.get(name, str(least)).strip()
        if not (value.isascii() and value.isdecimal() and len(value) < 9 and least <= int(value) <= _MOST):
            raise InputError(
                f"the environment variable {name} is {one_line(value, 60)!r}: expected a whole number from {least} to "
                f"{_MOST}"
            )
    for name in (_WANDB, BFLOAT16_VARIABLE):
        if os.environ.get(name, "0") not in _SWITCHES:
            raise InputError(f"the environment variable {name} is {one_line(os.environ[name], 60)!r}: expected 0 or 1")


@contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """A context in which, if so, this process and those it starts trust all checkpoints (:data:`TRUST_VARIABLE`)."""
    before = os.environ.get(TRUST_VARIABLE)
    if trust:
        os.environ[TRUST_VARIABLE] = "1"
    try:
        yield
    finally:
        if trust:
            os.environ.pop(TRUST_VARIABLE)
            os.environ.update({} if before is None else {TRUST_VARIABLE: before})


def switched_on(variable: str) -> bool:
    """Whether an environment variable is 1, t or true."""
    return os.environ.get(variable, "").strip().lower() in ("1", "t", "true")


def trusted() -> bool:
    """Whether :data:`TRUST_VARIABLE` says that all checkpoints are trusted."""
    return switched_on(TRUST_VARIABLE)
