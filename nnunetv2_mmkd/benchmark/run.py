"""The benchmark: counts and times of trainers, as ratios to the stock trainer on the same plan in the same run.

Legend: M modalities.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nnunetv2_mmkd.benchmark.count import StockCount, TrainerCount, count_stock, count_trainer
from nnunetv2_mmkd.benchmark.dropout_expectation import arithmetic_bound, expectation, size_probabilities
from nnunetv2_mmkd.benchmark.environment import temporary_environment
from nnunetv2_mmkd.benchmark.plan import Plan
from nnunetv2_mmkd.benchmark.report import BenchmarkReport, StockCost, TrainerCost, UpdateCost
from nnunetv2_mmkd.benchmark.timing import TrainerTimes, time_trainers
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.names import modality_names
from nnunetv2_mmkd.networks.architecture import check_patch
from nnunetv2_mmkd.training.preflight import find_own_trainer
from nnunetv2_mmkd.training.specialist import nnUNetTrainerSubset

OWN = "own"
LARGEST_CPU_EDGE = 64
"""Patches are cut to this many voxels per axis for timed steps on a CPU; counts are always at the full size."""


@dataclass(frozen=True)
class BenchmarkSettings:
    """What to measure.

    Attributes:
        trainers: names of trainers.
        distribution: name of a modality dropout distribution, or ``"own"`` for each trainer's own after its warm-up.
        steps: timed rounds; 0 times nothing.
        timed_patch: patch of the timed steps; None: the plan's, on a CPU cut to :data:`LARGEST_CPU_EDGE`.
        recomputed_stages: encoder stages recomputed in backward; None is the trainer's own number (for counts: that
            on CUDA).
        device: of the timed steps.
        compiles: nnU-Net's ``nnUNet_compile`` for both sides.
        cpu_time: time by the seconds that this process computes, not those that pass (for a busy CPU).
    """

    trainers: tuple[str, ...]
    distribution: str = "uniform"
    steps: int = 3
    timed_patch: tuple[int, ...] | None = None
    recomputed_stages: int | None = 0
    device: str = "cpu"
    compiles: bool = False
    cpu_time: bool = False


def run_benchmark(
    plan: Plan, settings: BenchmarkSettings, progress: Callable[[str], None] = lambda text: None
) -> BenchmarkReport:
    """Measure.

    Args:
        plan: from :mod:`~nnunetv2_mmkd.benchmark.plan`.
        settings: what to measure.
        progress: told what is going on.

    Raises:
        InputError: unknown trainer or distribution, no such device, a patch that does not fit the network.
    """
    distribution = None if settings.distribution == OWN else ModalityDropoutConfig(settings.distribution)
    for option, value in {"--steps": settings.steps, "--recomputed_stages": settings.recomputed_stages or 0}.items():
        if value < 0:
            raise InputError(f"{option} {value}: expected 0 or more")
    if settings.cpu_time and settings.device != "cpu":
        raise InputError("computing time of the process says nothing about a GPU; use -device cpu with --cpu_time")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here; use -device cpu")
    strides = plan.architecture["strides"]
    check_patch(plan.patch, strides)
    timed_plan = plan.resized(settings.timed_patch or _timed_patch(plan, settings.device))
    check_patch(timed_plan.patch, strides, "--timed_patch: patch")
    with temporary_environment(compiles=False):
        classes = {name: find_own_trainer(name) for name in settings.trainers}
        progress("counting nnUNetTrainer")
        stock = count_stock(plan)
        counts: dict[str, TrainerCount] = {}
        for name, found in classes.items():
            progress(f"counting {name}")
            counts[name] = count_trainer(found, plan, settings.recomputed_stages)
    distributions = {
        name: found.modality_dropout if distribution is None or issubclass(found, nnUNetTrainerSubset) else distribution
        for name, found in classes.items()
    }
    names = modality_names(plan.dataset_json)
    chances = {name: size_probabilities(distributions[name], names) for name in classes}
    times: dict[str, TrainerTimes] = {}
    if settings.steps > 0:
        sizes = [size + 1 for size in range(plan.n_modalities) if any(each[size] for each in chances.values())]
        with temporary_environment(settings.compiles):
            times = time_trainers(
                {name: find_own_trainer(name) for name in classes},
                timed_plan,
                sizes,
                rounds=settings.steps,
                recomputed_stages=settings.recomputed_stages,
                device=settings.device,
                cpu_time=settings.cpu_time,
                progress=progress,
            )
    rows = tuple(
        _row(name, distributions[name], chances[name], stock, counts[name], times.get(name)) for name in classes
    )
    return BenchmarkReport(
        plan=plan.description,
        patch=plan.patch,
        batch_size=plan.batch_size,
        n_modalities=plan.n_modalities,
        timed_patch=timed_plan.patch if times else None,
        steps=settings.steps,
        recomputed_stages=settings.recomputed_stages,
        device=_device_name(settings.device),
        compiles=settings.compiles,
        cpu_time=settings.cpu_time,
        torch_version=torch.__version__,
        threads=torch.get_num_threads(),
        stock=StockCost(
            flops=stock.step.flops,
            encoder_share=stock.encoder_flops / stock.step.flops,
            saved_bytes=stock.step.saved_bytes,
            peak_bytes=stock.step.peak_bytes,
            seconds=_stock_seconds(times),
        ),
        rows=rows,
    )


def _timed_patch(plan: Plan, device: str) -> tuple[int, ...]:
    return plan.patch if device != "cpu" else tuple(min(edge, LARGEST_CPU_EDGE) for edge in plan.patch)


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"{device} ({platform.machine()})"


def _stock_seconds(times: dict[str, TrainerTimes]) -> float | None:
    for each in times.values():
        stock = sorted(second for paired in each.steps.values() for second in paired.stock)
        return stock[len(stock) // 2]
    return None


def _subsets_bound(n_modalities: int, stock: StockCount, multi_stream: bool) -> float:
    """M encodings and 2^M - 1 decodings of the stock network, over one stock prediction."""
    subsets = 2**n_modalities - 1
    if not multi_stream:
        return float(subsets)
    encoder, whole = stock.forward_encoder_flops, stock.forward_flops
    result: float = (n_modalities * encoder + subsets * (whole - encoder)) / whole
    return result


def _row(
    name: str,
    distribution: ModalityDropoutConfig,
    chances: tuple[float, ...],
    stock: StockCount,
    count: TrainerCount,
    times: TrainerTimes | None,
) -> TrainerCost:
    kept = expectation(range(1, len(chances) + 1), chances)
    streams = kept if count.multi_stream else 1.0
    flops = expectation(count.flops, chances) / stock.step.flops
    time_ratio = None
    if times is not None:
        ratios = [times.steps[size].ratio if size in times.steps else 0.0 for size in range(1, len(chances) + 1)]
        time_ratio = expectation(ratios, chances)
    event = None
    if count.event is not None:
        timed = None if times is None or times.event is None else times.event.ratio
        event = UpdateCost(count.event.interval, count.event.steps, count.event_flops / stock.step.flops, timed)
    return TrainerCost(
        trainer=name,
        distribution=distribution.name,
        streams=streams,
        bound=arithmetic_bound(stock.encoder_flops, stock.step.flops, streams).ratio,
        flops_ratio=flops,
        flops_ratio_by_size=tuple(value / stock.step.flops for value in count.flops),
        time_ratio=time_ratio,
        time_ratio_by_size={} if times is None else {size: each.ratio for size, each in times.steps.items()},
        default_recomputed=count.default_recomputed,
        saved_ratio={key: each.saved_bytes / stock.step.saved_bytes for key, each in count.recomputed.items()},
        peak_ratio={key: each.peak_bytes / stock.step.peak_bytes for key, each in count.recomputed.items()},
        recomputed_flops_ratio={key: each.flops / stock.step.flops for key, each in count.recomputed.items()},
        event=event,
        forward_flops_ratio=tuple(value / stock.forward_flops for value in count.forward_flops),
        forward_time_ratio={} if times is None else {size: each.ratio for size, each in times.forward.items()},
        subsets_bound=_subsets_bound(len(chances), stock, count.multi_stream),
        subsets_flops_ratio=None if count.subsets_flops is None else count.subsets_flops / stock.forward_flops,
        subsets_time_ratio=None if times is None or not times.subsets.own else times.subsets.ratio,
        parameters_ratio=count.parameters / stock.parameters,
        besides_ratio=count.parameters_besides / stock.parameters,
        device_peak_ratio=times.peak_bytes[1] / times.peak_bytes[0] if times and times.peak_bytes else None,
        device_peak_bytes=times.peak_bytes if times else None,
    )
