"""What the demo shows while it works: a title and one bar per stage; everything nnU-Net says goes to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from statistics import mean
from time import monotonic
from typing import Any

from tqdm import tqdm

from nnunetv2_mmkd.benchmark.environment import PeriodicUpdate

UPDATES = {"meta": "meta-update of the modality weights", "election": "election of the teachers"}
"""Kind of periodic update -> what it is called here."""


class Stages:
    """Announces the stages and keeps nnU-Net's output in a file, line by line.

    Args:
        file: where standard output goes meanwhile.
        titles: of the stages.
        say: shows a line.
    """

    def __init__(self, file: Path, titles: tuple[str, ...], say: Callable[[str], None]) -> None:
        self.file, self.titles, self.say = file, titles, say
        self.done = 0
        file.unlink(missing_ok=True)

    @contextmanager
    def next(self) -> Iterator[None]:
        """The next stage."""
        title = self.titles[self.done]
        self.done += 1
        self.say(f"[{self.done}/{len(self.titles)}] {title}")
        with self.file.open("a", buffering=1, encoding="utf-8") as sink, redirect_stdout(sink):
            sink.write(f"\n==== {title}\n")
            yield


class _Clock:
    """How long a training will still take, from what its parts took so far."""

    def __init__(self, trainer: Any, update: PeriodicUpdate | None) -> None:
        self.trainer = trainer
        self.interval = None if update is None else update.interval
        self.total = trainer.num_epochs * trainer.num_iterations_per_epoch
        self.steps: list[float] = []  # seconds: of iterations, of those with an update, of what lies between epochs
        self.updates: list[float] = []
        self.ends: list[float] = []

    @property
    def iteration(self) -> int:
        """Number of the next iteration, from 0."""
        return len(self.steps) + len(self.updates)

    @property
    def updating(self) -> bool:
        """Whether the next iteration begins with an update."""
        return self.interval is not None and self.iteration % self.interval == 0

    def left(self) -> str:
        """Estimate for the reader."""
        if not self.steps:
            return "?"
        step = mean(self.steps)
        updates = 0 if self.interval is None else (self.total - 1) // self.interval + 1 - len(self.updates)
        end = mean(self.ends) if self.ends else step * self.trainer.num_val_iterations_per_epoch
        seconds = (self.total - self.iteration - updates) * step + updates * mean(self.updates or [step])
        return str(tqdm.format_interval(seconds + (self.trainer.num_epochs - len(self.ends)) * end))


@contextmanager
def training_bar(trainer: Any, update: PeriodicUpdate | None, show: bool) -> Iterator[None]:
    """Follow a training: a bar of its iterations that announces epochs, validations and meta-updates.

    The time left is the sum of what iterations, meta-updates, and validations with checkpoints will take.

    Args:
        trainer: nnU-Net's, about to train.
        update: what its method does once in a while.
        show: show the bar.
    """
    clock = _Clock(trainer, update)
    layout = "training: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
    bar = tqdm(total=clock.total, disable=not show, bar_format=layout)
    step, validate, epoch_end = trainer.train_step, trainer.validation_step, trainer.on_epoch_end
    began = [0.0]

    def say(text: str, *, now: bool = False) -> None:
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.num_epochs}"
        bar.set_postfix_str(f"{clock.left()} left, {epoch}{text}", refresh=now)

    def train(batch: Any) -> Any:
        updating, start = clock.updating, monotonic()
        if updating and update is not None:
            say(f": {UPDATES[update.kind]}", now=True)
        result = step(batch)
        (clock.updates if updating else clock.steps).append(monotonic() - start)
        say("")
        bar.update()
        return result

    def check(batch: Any) -> Any:
        if not began[0]:
            began[0] = monotonic()
            say(": validation", now=True)
        return validate(batch)

    def end() -> None:
        epoch_end()
        clock.ends.append(monotonic() - (began[0] or monotonic()))
        began[0] = 0.0

    trainer.train_step, trainer.validation_step, trainer.on_epoch_end = train, check, end
    with bar:
        try:
            yield
        finally:
            del trainer.train_step, trainer.validation_step, trainer.on_epoch_end
            bar.set_postfix_str("")
