"""What the benchmark found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunetv2_mmkd.files import write_text

GIB = 2**30


@dataclass(frozen=True)
class UpdateCost:
    """A periodic update, in stock steps.

    Attributes:
        interval: iterations between two.
        steps: inner steps in each.
        flops_ratio: FLOPs of one update over those of a stock step.
        time_ratio: time of one update over that of a stock step; None if not timed.
    """

    interval: int
    steps: int
    flops_ratio: float
    time_ratio: float | None

    @property
    def amortised_flops(self) -> float:
        """Stock steps' worth of FLOPs that updates add to each iteration."""
        return self.flops_ratio / self.interval

    @property
    def amortised_time(self) -> float | None:
        """Stock steps' worth of time that updates add to each iteration."""
        return None if self.time_ratio is None else self.time_ratio / self.interval


@dataclass(frozen=True)
class StockCost:
    """The stock trainer's step: what all ratios are relative to.

    Attributes:
        flops: forward and backward, at the counted patch.
        encoder_share: share of the FLOPs that is the encoder's.
        saved_bytes: held for backward, float32.
        peak_bytes: alive at once besides parameters and batch, float32.
        seconds: median at the timed patch; None if not timed.
    """

    flops: int
    encoder_share: float
    saved_bytes: int
    peak_bytes: int
    seconds: float | None


@dataclass(frozen=True)
class TrainerCost:
    """A trainer's cost; every ratio is to the stock trainer.

    Attributes:
        trainer: name.
        distribution: modality dropout distribution of the step ratios.
        streams: expected encoder passes per sample.
        bound: stock encoder once per stream, stock decoder unchanged, over the stock step.
        flops_ratio: of a step, expected over the distribution, periodic updates apart.
        flops_ratio_by_size: the same for 1, 2, ..., M modalities.
        time_ratio: of a step, expected over the distribution of the medians per size, periodic updates apart;
            None if not timed.
        time_ratio_by_size: modalities kept -> median ratio.
        default_recomputed: encoder stages that the trainer recomputes on CUDA by default.
        saved_ratio: recomputed stages -> bytes saved for backward, all modalities available.
        peak_ratio: recomputed stages -> most bytes alive at once, all modalities available.
        recomputed_flops_ratio: recomputed stages -> FLOPs of a step, all modalities available.
        event: the method's periodic update, or None.
        forward_flops_ratio: of predicting with 1, 2, ..., M modalities.
        forward_time_ratio: modalities available -> time of predicting.
        subsets_bound: stock encoder once per modality and stock decoder once per subset, over the stock forward pass;
            one forward pass per subset for an early-fusion network.
        subsets_flops_ratio: of predicting with all 2^M - 1 subsets at once, to one stock prediction; None for a
            trainer of one subset.
        subsets_time_ratio: the same in time; None if not timed.
        device_peak_ratio: device memory of a step with all modalities; None without CUDA.
        device_peak_bytes: the stock trainer's and this trainer's; None without CUDA.
        parameters_ratio: of the deployed network.
        besides_ratio: of what the method has besides, over those of the stock network.
    """

    trainer: str
    distribution: str
    streams: float
    bound: float
    flops_ratio: float
    flops_ratio_by_size: tuple[float, ...]
    time_ratio: float | None
    time_ratio_by_size: Mapping[int, float]
    default_recomputed: int
    saved_ratio: Mapping[int, float]
    peak_ratio: Mapping[int, float]
    recomputed_flops_ratio: Mapping[int, float]
    event: UpdateCost | None
    forward_flops_ratio: tuple[float, ...]
    forward_time_ratio: Mapping[int, float]
    subsets_bound: float
    subsets_flops_ratio: float | None
    subsets_time_ratio: float | None
    device_peak_ratio: float | None
    device_peak_bytes: tuple[int, int] | None
    parameters_ratio: float
    besides_ratio: float

    @property
    def iteration_flops_ratio(self) -> float:
        """FLOPs of a step and its share of the periodic updates."""
        return self.flops_ratio + (0.0 if self.event is None else self.event.amortised_flops)

    @property
    def iteration_time_ratio(self) -> float | None:
        """Time of a step and its share of the periodic updates; None if not timed."""
        updates = 0.0 if self.event is None else self.event.amortised_time
        return None if self.time_ratio is None or updates is None else self.time_ratio + updates


@dataclass(frozen=True)
class BenchmarkReport:
    """Everything one run found, and under which conditions.

    Attributes:
        plan: what the plan is.
        patch: of the counts (FLOPs and bytes).
        batch_size: samples per step.
        n_modalities: M.
        timed_patch: of the timed steps; None if nothing was timed.
        steps: timed rounds.
        recomputed_stages: during the step ratios; None is each trainer's own number.
        device: of the timed steps.
        compiles: ``nnUNet_compile`` of both sides.
        cpu_time: whether seconds are those of the process's computing, not those that passed.
        torch_version: PyTorch's.
        threads: PyTorch's on the CPU.
        stock: what the ratios are relative to.
        rows: one per trainer.
    """

    plan: str
    patch: tuple[int, ...]
    batch_size: int
    n_modalities: int
    timed_patch: tuple[int, ...] | None
    steps: int
    recomputed_stages: int | None
    device: str
    compiles: bool
    cpu_time: bool
    torch_version: str
    threads: int
    stock: StockCost
    rows: tuple[TrainerCost, ...]

    def to_json(self) -> str:
        """JSON, amortised costs included."""
        content = asdict(self)
        for entry, row in zip(content["rows"], self.rows, strict=True):
            entry["law"] = entry.pop("distribution")  # the key of files written so far
            if row.event is not None:
                entry["event"]["amortised_flops"] = row.event.amortised_flops
                entry["event"]["amortised_time"] = row.event.amortised_time
        return json.dumps(content, indent=2)

    def write(self, path: Path) -> None:
        """Write JSON whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        write_text(path, self.to_json() + "\n")

    def table(self) -> str:
        """A table for people."""
        stock, most = self.stock, self.n_modalities
        half = max(1, most // 2)
        lines = [
            f"{self.plan}: patch {_product(self.patch)}, batch {self.batch_size}, {most} modalities",
            f"stock nnUNetTrainer: {stock.flops / 1e12:.2f} TFLOP a step, {stock.encoder_share:.1%} in the encoder; "
            f"{stock.saved_bytes / GIB:.2f} GiB saved for backward, {stock.peak_bytes / GIB:.2f} GiB at the peak "
            "(float32, counted)",
        ]
        if self.timed_patch is not None and stock.seconds is not None:
            unit = "CPU s" if self.cpu_time else "s"
            lines.append(
                f"timed on {self.device}, {self.threads} CPU threads, patch {_product(self.timed_patch)}, "
                f"{self.steps} rounds, nnUNet_compile={self.compiles}: a stock step takes {stock.seconds:.3g} {unit}"
            )
        lines += ["", "Ratios to the stock trainer:"]
        header = ["", *(row.trainer for row in self.rows)]
        recomputed = "its own number of" if self.recomputed_stages is None else str(self.recomputed_stages)
        body = [
            ["modality dropout distribution", *(row.distribution for row in self.rows)],
            ["streams, expected", *(f"{row.streams:.2f}" for row in self.rows)],
            ["bound of a step (encoder per stream + decoder)", *(f"{row.bound:.3f}" for row in self.rows)],
            [f"step FLOPs, {recomputed} stages recomputed", *(_of_bound(row.flops_ratio, row) for row in self.rows)],
            ["+ meta-updates or elections", *(_event(row, "amortised_flops") for row in self.rows)],
            ["= FLOPs per iteration", *(_number(row.iteration_flops_ratio) for row in self.rows)],
            [f"step time, {recomputed} stages recomputed", *(_of_bound(row.time_ratio, row) for row in self.rows)],
            ["+ meta-updates or elections", *(_event(row, "amortised_time") for row in self.rows)],
            ["= time per iteration", *(_number(row.iteration_time_ratio) for row in self.rows)],
        ]
        levels = sorted({level for row in self.rows for level in row.saved_ratio})
        for level in levels:
            tag = f"all {most} modalities, {level} stages recomputed"
            body += [
                [f"saved bytes, {tag}", *(_level(row.saved_ratio, level, row) for row in self.rows)],
                [f"peak bytes, {tag}", *(_level(row.peak_ratio, level, row) for row in self.rows)],
                [f"step FLOPs, {tag}", *(_level(row.recomputed_flops_ratio, level, row) for row in self.rows)],
            ]
        if any(row.device_peak_ratio is not None for row in self.rows):
            body.append(
                [f"device memory, all {most} modalities", *(_number(row.device_peak_ratio) for row in self.rows)]
            )
        for size in sorted({half, most}):
            tag = f"{size} of {most} modalities"
            flops = (_number(row.forward_flops_ratio[size - 1]) for row in self.rows)
            body.append([f"predicting FLOPs, {tag}", *flops])
            body.append([f"predicting time, {tag}", *(_number(row.forward_time_ratio.get(size)) for row in self.rows)])
        tag = f"all {2**most - 1} subsets"
        bounds = [row.subsets_bound for row in self.rows]
        body += [
            [f"bound of predicting with {tag}", *(f"{bound:.2f}" for bound in bounds)],
            [f"predicting FLOPs, {tag}", *(_of(row.subsets_flops_ratio, row.subsets_bound) for row in self.rows)],
            [f"predicting time, {tag}", *(_of(row.subsets_time_ratio, row.subsets_bound) for row in self.rows)],
        ]
        body += [
            ["parameters, deployed", *(_number(row.parameters_ratio) for row in self.rows)],
            ["parameters, only in training", *(_number(row.besides_ratio) for row in self.rows)],
        ]
        lines += _aligned([header, *body])
        lines += ["", "* the trainer's own number of recomputed stages on CUDA"]
        return "\n".join(lines) + "\n"


def _product(patch: Sequence[int]) -> str:
    return "x".join(map(str, patch))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _of_bound(value: float | None, row: TrainerCost) -> str:
    return _of(value, row.bound)


def _of(value: float | None, bound: float) -> str:
    return "-" if value is None else f"{value:.3f} ({value / bound:.2f} x bound)"


def _event(row: TrainerCost, name: str) -> str:
    if row.event is None:
        return "-"
    value = getattr(row.event, name)
    return "-" if value is None else f"+{value:.3f} ({row.event.steps} steps / {row.event.interval})"


def _level(values: Mapping[int, float], level: int, row: TrainerCost) -> str:
    if level not in values:
        return "-"
    return f"{values[level]:.3f}" + ("*" if level == row.default_recomputed else "")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
