"""Timed costs: real steps of real trainers, interleaved with the stock trainer's in the same run.

Legend: M modalities.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_mmkd.benchmark.count import set_recomputed
from nnunetv2_mmkd.benchmark.environment import (
    alone,
    feed,
    kept,
    make_batch,
    make_trainer,
    of_one_subset,
    periodic_update,
    quiet_iteration,
)
from nnunetv2_mmkd.benchmark.plan import Plan
from nnunetv2_mmkd.inference.all_subsets import MultiSubsetNetwork
from nnunetv2_mmkd.modalities import all_subsets
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

WARMUP_ROUNDS = 1


@dataclass
class Paired:
    """Seconds of something, each paired with those of the stock trainer's counterpart run just before it."""

    own: list[float] = field(default_factory=list)
    stock: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Median."""
        return median(self.own)

    @property
    def ratio(self) -> float:
        """Median of the ratios to the stock trainer."""
        return median(own / stock for own, stock in zip(self.own, self.stock, strict=True))


@dataclass(frozen=True)
class TrainerTimes:
    """Timed costs of a trainer.

    Attributes:
        steps: modalities kept -> a whole ``train_step``, optimiser included.
        event: a periodic update paired with one stock step; None if the method has none.
        forward: modalities available -> a forward pass of one sample in eval mode.
        subsets: all 2^M - 1 subsets of one sample at once, as ``mmkd evaluate`` predicts.
        peak_bytes: most device memory of a step with all modalities beyond what was allocated before it, stock
            trainer's first; None without CUDA.
    """

    steps: Mapping[int, Paired]
    event: Paired | None
    forward: Mapping[int, Paired]
    subsets: Paired
    peak_bytes: tuple[int, int] | None


def time_trainers(
    trainer_classes: Mapping[str, type[nnUNetTrainerMMKD]],
    plan: Plan,
    sizes: Sequence[int],
    *,
    rounds: int = 3,
    recomputed_stages: int | None = 0,
    device: torch.device | str = "cpu",
    cpu_time: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, TrainerTimes]:
    """Time trainers against the stock one; call it in a temporary nnU-Net environment.

    Args:
        trainer_classes: name -> class.
        plan: what they train on.
        sizes: numbers of modalities kept for which steps are timed.
        rounds: timed rounds; one untimed round goes before.
        recomputed_stages: None is each trainer's own number on this device.
        device: where.
        cpu_time: count the seconds that this process computes instead of those that pass (for a busy CPU; best with
            one thread).
        progress: told what is going on.
    """
    device = torch.device(device)
    with _as_in_training(device):
        stock = make_trainer(nnUNetTrainer, plan, device)
        batch = make_batch(stock, plan)
        trainers = {name: make_trainer(found, plan, device) for name, found in trainer_classes.items()}
        for trainer in trainers.values():
            feed(trainer, batch)
            if recomputed_stages is not None:
                set_recomputed(trainer, recomputed_stages)
        timer = _Timer(stock, batch, device, time.process_time if cpu_time else time.perf_counter)
        steps = {name: {size: Paired() for size in sizes} for name in trainers}
        events = {name: Paired() if periodic_update(trainer) else None for name, trainer in trainers.items()}
        sizes_predicted = sorted({max(1, plan.n_modalities // 2), plan.n_modalities})
        forward = {name: {size: Paired() for size in sizes_predicted} for name in trainers}
        subsets = {name: Paired() for name in trainers}
        for number in range(-WARMUP_ROUNDS, rounds):
            progress(f"timing, round {number + 1} of {rounds}" if number >= 0 else "timing, warm-up round")
            for size in sizes:
                timer.steps(trainers, {name: steps[name][size] for name in trainers}, size, keep=number >= 0)
            for name, trainer in trainers.items():
                timer.event(trainer, events[name], keep=number >= 0)
            for size in sizes_predicted:
                timer.forward(trainers, {name: forward[name][size] for name in trainers}, size, keep=number >= 0)
            timer.subsets(trainers, subsets, keep=number >= 0)
        return {
            name: TrainerTimes(steps[name], events[name], forward[name], subsets[name], timer.peaks(trainer))
            for name, trainer in trainers.items()
        }


def _as_in_training(device: torch.device) -> AbstractContextManager[Any]:
    """nnU-Net trains with cuDNN's benchmark mode."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True) if device.type == "cuda" else nullcontext()


class _Timer:
    def __init__(
        self, stock: nnUNetTrainer, batch: dict[str, Any], device: torch.device, clock: Callable[[], float]
    ) -> None:
        self.clock = clock
        self.stock = stock
        self.batch = batch
        self.device = device
        self.sample = batch["data"][:1].to(device)

    def seconds(self, function: Callable[[], Any]) -> float:
        """Time of a call, the device's queue empty before and after."""
        self._synchronise()
        start = self.clock()
        function()
        self._synchronise()
        return self.clock() - start

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def _step(self, trainer: Any, size: int | None = None) -> float:
        if size is not None:
            trainer.sampler = kept(trainer, size)
            trainer.run.iteration = quiet_iteration(trainer)
        taken = self.seconds(lambda: trainer.train_step(self.batch))
        trainer.optimizer.zero_grad(set_to_none=True)  # the trainers share the device's memory
        return taken

    def steps(self, trainers: Mapping[str, Any], into: Mapping[str, Paired], size: int, keep: bool) -> None:
        """A stock step, then one of each trainer with ``size`` modalities."""
        stock = self._step(self.stock)
        for name, trainer in trainers.items():
            own = self._step(trainer, size)
            if keep:
                into[name].own.append(own)
                into[name].stock.append(stock)

    def event(self, trainer: Any, into: Paired | None, keep: bool) -> None:
        """A stock step, then the update's inner steps on one batch, counted as often as the update has batches."""
        event = periodic_update(trainer)
        if into is None or event is None:
            return
        stock = self._step(self.stock)
        if event.kind == "election":
            own = event.steps * self._forward(MultiSubsetNetwork(trainer.bare_network, alone(self.sample.shape[1])))
        else:
            method = copy(trainer.method)
            steps = max(1, event.steps // event.batches)
            method.config = replace(method.config, meta_steps=steps, meta_batches=1)
            iteration = event.interval * (quiet_iteration(trainer) // event.interval)
            update = self.seconds(lambda: method.start_iteration(trainer.bare_network, trainer.loss, iteration))
            own = update * event.steps / steps
        if keep:
            into.own.append(own)
            into.stock.append(stock)

    def forward(self, trainers: Mapping[str, Any], into: Mapping[str, Paired], size: int, keep: bool) -> None:
        """A forward pass of the stock network, then one of each trainer's with ``size`` modalities."""
        stock = self._forward(self.stock.network)
        there = torch.ones(1, self.sample.shape[1], dtype=torch.bool)
        for name, trainer in trainers.items():
            mask = kept(trainer, size)(there)
            own = self._forward(trainer.bare_network, available=mask)
            if keep:
                into[name].own.append(own)
                into[name].stock.append(stock)

    def subsets(self, trainers: Mapping[str, Any], into: Mapping[str, Paired], keep: bool) -> None:
        """A forward pass of the stock network, then one with all subsets of each trainer's."""
        stock = self._forward(self.stock.network)
        for name, trainer in trainers.items():
            if of_one_subset(trainer):
                continue
            own = self._forward(MultiSubsetNetwork(trainer.bare_network, all_subsets(self.sample.shape[1])))
            if keep:
                into[name].own.append(own)
                into[name].stock.append(stock)

    def _forward(self, network: Any, **keywords: Any) -> float:
        cuda = self.device.type == "cuda"
        network.eval()
        with torch.no_grad(), torch.autocast("cuda") if cuda else nullcontext():
            taken = self.seconds(lambda: network(self.sample, **keywords))
        network.train()
        return taken

    def peaks(self, trainer: Any) -> tuple[int, int] | None:
        """Peak device memory of a step with all modalities: the stock trainer's and this trainer's."""
        if self.device.type != "cuda":
            return None
        peaks = []
        for each, size in ((self.stock, None), (trainer, self.sample.shape[1])):
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            self._step(each, size)
            peaks.append(torch.cuda.max_memory_allocated(self.device) - before)
        return peaks[0], peaks[1]
