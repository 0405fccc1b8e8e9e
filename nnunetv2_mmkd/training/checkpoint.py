"""What a checkpoint holds besides nnU-Net's own: one key, ``mmkd``, of plain tensors and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from torch import Tensor, nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.checkpoint_file import WEIGHTS, check_finite, read_nnunet_checkpoint
from nnunetv2_mmkd.methods.base import Method
from nnunetv2_mmkd.modalities import SubsetSampler
from nnunetv2_mmkd.networks.finite import first_not_finite
from nnunetv2_mmkd.nnunet_json import names_of_list, value_of

KEY = "mmkd"

_OF_HOST = ("optimizer_state", "grad_scaler_state", "logging", "_best_ema", "current_epoch", "init_args")
_DAMAGED = "cannot be restored: the checkpoint is damaged, use another one"
_OF_STATE = ("method", "sampler", "iteration", "random_state", "missing_table")


def read_resumable(file: str, *, own: bool = True) -> dict[str, Any]:
    """Read a checkpoint that a training can go on from.

    Args:
        file: the checkpoint.
        own: of a trainer of this package; else of any of nnU-Net's.

    Raises:
        InputError: it cannot be read, lacks something, needs trust, is not of a trainer of this package, or its
            weights are not finite.
    """
    checkpoint = read_nnunet_checkpoint(file, mmap=not own)
    if own and KEY not in checkpoint:
        raise InputError(
            f"{file} was written by {checkpoint.get('trainer_name')}, not by a trainer of nnunetv2-mmkd: start a "
            "new training, with -pretrained_weights if its weights shall be used"
        )
    _check_keys(checkpoint, _OF_HOST, file)
    epoch = value_of(checkpoint, "current_epoch", int, file)
    if epoch < 0:
        raise InputError(f"{file}: 'current_epoch' {_DAMAGED}")
    value_of(checkpoint, "optimizer_state", dict, file)
    _check_logging(value_of(checkpoint, "logging", dict, file), epoch, checkpoint["_best_ema"], file)
    if own:
        _check_state(value_of(checkpoint, KEY, dict, file), f"{file}, {KEY}")
    check_finite(file, checkpoint[WEIGHTS])
    return checkpoint


def _check_keys(content: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in keys:
        if key not in content:
            raise InputError(f"{where} has no {key!r}: the checkpoint is damaged, use another one")


def _check_state(state: Mapping[str, Any], where: str) -> None:
    _check_keys(state, _OF_STATE, where)
    if value_of(state, "iteration", int, where) < 0 or not _is_random_state(state["random_state"]):
        raise InputError(f"{where}: 'iteration' or 'random_state' {_DAMAGED}")
    if state["missing_table"] is not None:
        table = f"{where}, 'missing_table'"
        missing = value_of(value_of(state, "missing_table", dict, where), "missing", dict, table)
        for case in missing:
            names_of_list(missing, case, table)


@dataclass
class RunState:
    """What a run needs, besides nnU-Net's state, to go on where it was stopped.

    Attributes:
        method: the training objective.
        sampler: draws the subsets.
        rank: of this process.
        iteration: counted over the whole training, from 0.
        missing_table: the missing-rate table, or None.
        random_state: torch's, of the run that wrote the checkpoint; None in a new run.
    """

    method: Method[Any]
    sampler: SubsetSampler
    rank: int
    iteration: int = 0
    missing_table: dict[str, Any] | None = None
    random_state: Tensor | None = None

    def add_to(self, file: Path, trained: nn.Module | None) -> None:
        """Add the key to a checkpoint that nnU-Net has written.

        Args:
            file: the checkpoint.
            trained: the network, if nnU-Net's weights in the file are not the trained ones.
        """
        checkpoint = read_nnunet_checkpoint(file, trust=True, verify=False)  # it was written a moment ago
        checkpoint[KEY] = {
            "method": self.method.state_dict(),
            "sampler": self.sampler.state_dict(),
            "iteration": self.iteration,
            "random_state": torch.get_rng_state(),
            "missing_table": self.missing_table,
        }
        if trained is not None:
            checkpoint[KEY]["network"] = trained.state_dict()
        torch.save(checkpoint, file)

    @contextmanager
    def restoring(self, file: str) -> Iterator[dict[str, Any]]:
        """Read a checkpoint, and turn what its damaged parts make nnU-Net, torch or a method say into one error.

        Raises:
            InputError: as :func:`read_resumable`, or a part of it cannot be restored.
        """
        checkpoint = read_resumable(file)
        try:
            yield checkpoint
        except (InputError, torch.cuda.OutOfMemoryError):
            raise
        except (TypeError, KeyError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{file} {_DAMAGED} ({type(error).__name__}: {reason})") from error

    def load(self, checkpoint: Mapping[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Restore everything from a checkpoint.

        Args:
            checkpoint: see :func:`read_resumable`.
            network: gets the trained weights where others were deployed.
            optimizer: restored by nnU-Net; what it does not look at is checked.
        """
        _check_optimizer(optimizer)
        state = checkpoint[KEY]
        _check_kinds(self.method.state_dict(), state["method"], "method")
        self.method.load_state_dict(state["method"])
        if "network" in state:
            network.load_state_dict(state["network"])
        self.iteration = state["iteration"]
        self.missing_table = state["missing_table"]
        if self.rank == 0:
            self.sampler.load_state_dict(state["sampler"])
        else:  # only rank 0's sampler is stored; the others go on with a sequence of their own
            self.sampler.generator.manual_seed(self.iteration * 1000 + self.rank)
        self.random_state = state["random_state"]

    def restore_random_state(self) -> None:
        """Let a resumed run draw what the stopped one would have drawn."""
        if self.random_state is not None:
            torch.set_rng_state(self.random_state)


def _is_random_state(value: object) -> bool:
    now = torch.get_rng_state()
    return value is None or (isinstance(value, Tensor) and value.dtype == now.dtype and value.shape == now.shape)


def _check_kinds(now: Any, before: Any, where: str) -> None:
    """Compare what a state is made of with what was stored; a method may not look at all of it itself.

    Raises:
        TypeError, ValueError: a part is of another kind, or a tensor of another shape.
    """
    kinds: tuple[Any, ...] = (Mapping, Tensor, list, Real)
    for kind in kinds:
        if isinstance(now, kind) and before is not None and not isinstance(before, kind):
            raise TypeError(f"{where} is of another kind")
    if isinstance(now, Tensor) and before is not None and now.shape != before.shape:
        raise ValueError(f"{where} has the shape {tuple(before.shape)} instead of {tuple(now.shape)}")
    for key in now if isinstance(now, Mapping) else ():
        if before is not None and key in before:
            _check_kinds(now[key], before[key], f"{where}, {key}")


def _check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Look at what ``Optimizer.load_state_dict`` takes unseen.

    Raises:
        KeyError, TypeError, ValueError: a setting is absent or of another kind, or a moment does not fit its parameter.
    """
    for group in optimizer.param_groups:
        for key, value in optimizer.defaults.items():
            _check_kinds(value, group[key], f"optimizer, {key}")
    for parameter, state in optimizer.state.items():
        for key, moment in state.items():
            if isinstance(moment, Tensor) and moment.ndim:
                _check_kinds(parameter, moment, f"optimizer, {key}")
    moments = enumerate(optimizer.state.values())
    if broken := first_not_finite({f"{number}, {key}": each[key] for number, each in moments for key in each}):
        raise ValueError(f"optimizer, {broken} is NaN or infinite")


def _check_logging(logging: Mapping[str, Any], epochs: int, best: Any, file: str) -> None:
    """Check what a training goes on writing: a value for each epoch so far, under nnU-Net's names and ours."""
    ours = [
        key for key in logging if str(key).startswith(f"{KEY}/")
    ]  # a trainer of the user's own may log other things
    for key in (*LocalLogger().my_fantastic_logging, *ours):
        values = value_of(logging, key, list, f"{file}, logging")
        counts = (0, epochs) if key in LocalLogger().my_fantastic_logging else range(epochs + 1)
        numbers = [each for value in values for each in (value if isinstance(value, list) else [value])]
        if len(values) not in counts or not all(isinstance(each, Real) for each in numbers):
            raise InputError(f"{file}, logging: {key!r} is not a number for each of {epochs} epochs: it {_DAMAGED}")
    if best is not None and not isinstance(best, Real):
        raise InputError(f"{file}: '_best_ema' is no number: it {_DAMAGED}")
