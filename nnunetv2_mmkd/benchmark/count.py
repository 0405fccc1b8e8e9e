"""Counted costs: FLOPs and bytes of steps, on fake tensors, so that any size can be counted on any machine.

Everything is float32 and as on a CPU: fake tensors carry shapes only, nothing is computed. FLOPs are those of
``torch.utils.flop_counter`` (convolutions and matrix products).

Legend: M modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_mmkd.benchmark.counters import LiveBytes
from nnunetv2_mmkd.benchmark.environment import (
    PeriodicUpdate,
    alone,
    feed,
    kept,
    make_batch,
    make_trainer,
    of_one_subset,
    periodic_update,
)
from nnunetv2_mmkd.benchmark.plan import Plan
from nnunetv2_mmkd.inference.all_subsets import MultiSubsetNetwork
from nnunetv2_mmkd.modalities import all_subsets
from nnunetv2_mmkd.training.multi_stream import STAGES_RECOMPUTED_ON_CUDA
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

CPU = torch.device("cpu")


@dataclass(frozen=True)
class StepCount:
    """Cost of one step, forward and backward, without the optimiser and what a method does after it.

    Attributes:
        flops: multiplications and additions of convolutions and matrix products.
        saved_bytes: held for backward when the forward pass is over, parameters excluded.
        peak_bytes: most bytes alive at once besides parameters and batch: activations, gradients and what is
            recomputed.
    """

    flops: int
    saved_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class StockCount:
    """Cost of the stock trainer.

    Attributes:
        step: one step.
        encoder_flops: share of the step's FLOPs that is the encoder's.
        forward_flops: one forward pass in eval mode.
        forward_encoder_flops: share of it that is the encoder's.
        parameters: of the network, in numbers.
    """

    step: StepCount
    encoder_flops: int
    forward_flops: int
    forward_encoder_flops: int
    parameters: int


@dataclass(frozen=True)
class TrainerCount:
    """Cost of a trainer of this package.

    Attributes:
        flops: of a step with 1, 2, ..., M modalities, nothing recomputed unless asked for.
        recomputed: number of recomputed stages -> a step with all modalities.
        default_recomputed: the number of recomputed stages that the trainer takes on CUDA.
        forward_flops: a forward pass in eval mode with 1, 2, ..., M modalities.
        subsets_flops: predicting with all 2^M - 1 subsets at once, as ``mmkd evaluate`` does; None for a trainer of
            one subset, whose other numbers are all of its own.
        event: the method's periodic update, or None.
        event_flops: of one update, all its inner steps; 0 without.
        multi_stream: whether the network has an encoder pass per modality.
        parameters: of the network that is deployed.
        parameters_besides: of what the method has besides: teachers, decoders, discriminators.
    """

    flops: tuple[int, ...]
    recomputed: dict[int, StepCount]
    default_recomputed: int
    forward_flops: tuple[int, ...]
    subsets_flops: int | None
    event: PeriodicUpdate | None
    event_flops: int
    multi_stream: bool
    parameters: int
    parameters_besides: int


def count_stock(plan: Plan) -> StockCount:
    """Count the stock trainer; call it in :func:`~nnunetv2_mmkd.benchmark.environment.temporary_environment`."""
    trainer, batch = _fake(nnUNetTrainer, plan)
    network = trainer.network

    def encoder() -> Tensor:
        return torch.stack([features.sum() for features in network.encoder(batch["data"])]).sum()

    step = _count_step([network], batch, lambda: trainer.loss(network(batch["data"]), batch["target"]))
    return StockCount(
        step,
        _count_flops(network, encoder),
        _count_forward(network, batch["data"]),
        _count_forward(network.encoder, batch["data"]),
        _parameters(network),
    )


def count_trainer(
    trainer_class: type[nnUNetTrainerMMKD], plan: Plan, recomputed_stages: int | None = 0
) -> TrainerCount:
    """Count a trainer; call it in :func:`~nnunetv2_mmkd.benchmark.environment.temporary_environment`.

    Args:
        trainer_class: from :func:`~nnunetv2_mmkd.training.preflight.find_own_trainer`.
        plan: what it trains on.
        recomputed_stages: for :attr:`TrainerCount.flops`; None is the trainer's own number on CUDA.
    """
    trainer, batch = _fake(trainer_class, plan)
    feed(trainer, batch)
    network = trainer.bare_network
    sizes = range(1, plan.n_modalities + 1)

    def loss(size: int) -> Callable[[], Tensor]:
        prepared = trainer.prepare(batch, trainer.cases.training_present, kept(trainer, size))
        return lambda: trainer.method.step(network, prepared, trainer.loss)["loss"]

    default = default_recomputed(trainer)
    set_recomputed(trainer, default if recomputed_stages is None else recomputed_stages)
    flops = tuple(_count_flops(network, loss(size)) for size in sizes)
    levels = sorted({0, default, most_recomputed(trainer)})
    recomputed = {}
    for stages in levels:
        set_recomputed(trainer, stages)
        recomputed[stages] = _count_step(_modules(trainer), batch, loss(plan.n_modalities))
    set_recomputed(trainer, 0)
    present = torch.ones(plan.batch_size, plan.n_modalities, dtype=torch.bool)
    forward = tuple(_count_forward(network, batch["data"], available=kept(trainer, size)(present)) for size in sizes)
    bank = MultiSubsetNetwork(network, all_subsets(plan.n_modalities))
    event = periodic_update(trainer)
    return TrainerCount(
        flops=flops,
        recomputed=recomputed,
        default_recomputed=default,
        forward_flops=forward,
        subsets_flops=None if of_one_subset(trainer) else _count_forward(bank, batch["data"]),
        event=event,
        event_flops=0 if event is None else _count_event(trainer, network, event, batch["data"][:1]),
        multi_stream=hasattr(network, "encode"),
        parameters=_parameters(network),
        parameters_besides=_parameters(*_modules(trainer)[1:]),
    )


def set_recomputed(trainer: nnUNetTrainerMMKD, stages: int) -> None:
    """Switch recomputation of a network, and of a method, that has it."""
    network, method = trainer.bare_network, trainer.method
    if hasattr(network, "recomputed_stages"):
        network.recomputed_stages = stages  # type: ignore[assignment]
    if type(method).recomputes is None:
        method.recomputes = stages > 0


def default_recomputed(trainer: nnUNetTrainerMMKD) -> int:
    """The number of stages that a trainer recomputes on CUDA; 0 if it has no recomputation."""
    if hasattr(trainer.bare_network, "recomputed_stages"):
        own = getattr(trainer, "recomputed_stages", None)
        return STAGES_RECOMPUTED_ON_CUDA if own is None else int(own)
    return most_recomputed(trainer)


def most_recomputed(trainer: nnUNetTrainerMMKD) -> int:
    """The number of stages that can be recomputed: the encoder's, or all of a second network's."""
    network: Any = trainer.bare_network
    if hasattr(network, "recomputed_stages"):
        return int(network.n_scales)
    return len(network.encoder.stages) if type(trainer.method).recomputes is None else 0


def _fake(trainer_class: type[nnUNetTrainer], plan: Plan) -> tuple[Any, dict[str, Any]]:
    """A trainer and a batch of fake tensors; masks made later are real, so that subsets can be looked at."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    trainer = make_trainer(trainer_class, plan, CPU)
    trainer.optimizer = None
    for module in _modules(trainer):
        _make_fake(module, mode)
    with mode:
        batch = make_batch(trainer, plan)
    return trainer, batch


def _modules(trainer: Any) -> list[nn.Module]:
    """The network, and what the method has of modules."""
    owned = vars(trainer.method).values() if isinstance(trainer, nnUNetTrainerMMKD) else ()
    return [trainer.network, *(each for each in owned if isinstance(each, nn.Module))]


def _parameters(*modules: nn.Module) -> int:
    """How many numbers; what is shared counts once."""
    return sum({id(p): p.numel() for module in modules for p in module.parameters()}.values())


def _make_fake(module: nn.Module, mode: FakeTensorMode) -> None:
    """Replace parameters and buffers by fake ones; what was shared stays shared."""
    fakes: dict[int, Tensor] = {}
    for child in module.modules():
        for tensors in (child._parameters, child._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in fakes:
                    fake = mode.from_tensor(tensor.detach())
                    fakes[id(tensor)] = nn.Parameter(fake) if isinstance(tensor, nn.Parameter) else fake
                tensors[name] = fakes[id(tensor)]  # type: ignore[assignment]


def _targets(batch: dict[str, Any]) -> list[Tensor]:
    return list(batch["target"]) if isinstance(batch["target"], list) else [batch["target"]]


def _count_flops(network: nn.Module, loss: Callable[[], Tensor]) -> int:
    """FLOPs of ``loss().backward()``."""
    network.zero_grad(set_to_none=True)
    with FlopCounterMode(display=False) as flops:
        loss().backward()
    network.zero_grad(set_to_none=True)
    return int(flops.get_total_flops())


def _count_step(modules: Sequence[nn.Module], batch: dict[str, Any], loss: Callable[[], Tensor]) -> StepCount:
    """FLOPs and bytes of ``loss().backward()``, in two passes: the FLOP counter keeps activations alive."""
    total = _count_flops(modules[0], loss)
    parameters = [parameter for module in modules for parameter in module.parameters()]
    live = LiveBytes([*parameters, batch["data"], *_targets(batch)])
    for module in modules:
        module.zero_grad(set_to_none=True)
    with live:
        value = loss()
        held = live.now
        value.backward()
    for module in modules:
        module.zero_grad(set_to_none=True)
    return StepCount(total, held, live.peak)


def _count_forward(network: nn.Module, data: Tensor, **keywords: Any) -> int:
    training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        network(data, **keywords)
    network.train(training)
    return int(flops.get_total_flops())


def _count_event(trainer: nnUNetTrainerMMKD, network: nn.Module, event: PeriodicUpdate, sample: Tensor) -> int:
    if event.kind == "election":
        return event.steps * _count_forward(MultiSubsetNetwork(network, alone(sample.shape[1])), sample)
    method: Any = trainer.method
    network.eval()
    with FlopCounterMode(display=False) as flops:
        features = method.held_out_features(network)
        encoding = int(flops.get_total_flops())
        method.meta_gradient(network, trainer.loss, features)
    network.train()
    return event.batches * encoding + event.steps * (int(flops.get_total_flops()) - encoding)
