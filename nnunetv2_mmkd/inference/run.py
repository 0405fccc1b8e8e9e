"""What ``mmkd predict`` does: a folder in, a folder out."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.predictor import MMKDPredictor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """nnU-Net's settings of a prediction, with its defaults.

    Attributes:
        folds: averaged over.
        checkpoint: file name.
        step_size: of the sliding window, in patches.
        mirroring: test-time augmentation.
        device: ``"cuda"``, ``"cpu"`` or ``"mps"``.
        on_device: keep the results on the device.
        verbose: let nnU-Net talk.
        progress: show progress bars.
        save_probabilities: also write the probabilities.
        overwrite: predict cases again that are there.
        preprocessing_processes, export_processes: workers; both 0 for none at all.
        previous_stage: folder of a previous stage's predictions (cascade).
        num_parts, part_id: this call does every ``num_parts``-th case from ``part_id`` on.
    """

    folds: Sequence[int | str] = (0, 1, 2, 3, 4)
    checkpoint: str = "checkpoint_final.pth"
    step_size: float = 0.5
    mirroring: bool = True
    device: str = "cuda"
    on_device: bool = True
    verbose: bool = False
    progress: bool = True
    save_probabilities: bool = False
    overwrite: bool = True
    preprocessing_processes: int = 3
    export_processes: int = 3
    previous_stage: str | None = None
    num_parts: int = 1
    part_id: int = 0


def usable_cores() -> int:
    """Cores that this process may run on: a share of the machine under taskset, Slurm or a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else multiprocessing.cpu_count()


def pick_device(name: str) -> torch.device:
    """The torch device, with nnU-Net's choice of threads for it; but of the cores only those that are ours.

    Raises:
        InputError: unknown, or not on this machine.
    """
    if name == "cpu":
        torch.set_num_threads(usable_cores())
    elif name == "cuda":
        if not torch.cuda.is_available():
            raise InputError("there is no CUDA device here; use -device cpu")
        torch.set_num_threads(1)
    elif name != "mps":
        raise InputError(f"-device must be cuda, cpu or mps, not {name!r}")
    elif not torch.backends.mps.is_available():
        raise InputError("there is no MPS device here; use -device cpu")
    return torch.device(name)


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Turn SIGTERM (a batch system's time limit) into an exit that cleans up, while the context lasts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_parts(settings: Settings) -> None:
    """Refuse a part that does not exist.

    Raises:
        InputError: ``part_id`` is not below ``num_parts``.
    """
    if not 0 <= settings.part_id < settings.num_parts:
        raise InputError(f"-part_id must lie in 0..{settings.num_parts - 1}, not {settings.part_id}")


def predictor_arguments(settings: Settings) -> dict[str, Any]:
    """The settings as ``nnUNetPredictor`` takes them.

    Raises:
        InputError: see :func:`pick_device`.
    """
    return {
        "tile_step_size": settings.step_size,
        "use_mirroring": settings.mirroring,
        "perform_everything_on_device": settings.on_device,
        "device": pick_device(settings.device),
        "verbose": settings.verbose,
        "verbose_preprocessing": settings.verbose,
        "allow_tqdm": settings.progress,
    }


def predict_folder(
    model: str,
    source: str,
    output: str,
    settings: Settings,
    *,
    missing: Sequence[str] | None = None,
    available: Sequence[str] | None = None,
) -> None:
    """Predict all cases of a folder with a trained model; see :meth:`MMKDPredictor.predict_from_files`.

    Raises:
        InputError: anything wrong with model, input, output or selection.
    """
    check_parts(settings)
    predictor = MMKDPredictor(**predictor_arguments(settings), missing=missing, available=available)
    predictor.initialize_from_trained_model_folder(model, tuple(settings.folds), settings.checkpoint)
    for name, reason in predictor.excluded().items():
        log.info("%s: %s", name, reason)
    if settings.preprocessing_processes == settings.export_processes == 0:
        with orderly_termination():
            predictor.predict_from_files_sequential(
                source, output, settings.save_probabilities, settings.overwrite, settings.previous_stage
            )
        return
    with orderly_termination():
        predictor.predict_from_files(
            source,
            output,
            settings.save_probabilities,
            settings.overwrite,
            max(1, settings.preprocessing_processes),
            max(1, settings.export_processes),
            settings.previous_stage,
            settings.num_parts,
            settings.part_id,
        )
