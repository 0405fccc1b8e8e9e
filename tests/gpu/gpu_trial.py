"""A trial of one trainer on a device: steps, validation, a checkpoint that is gone on with, all subsets predicted."""

from __future__ import annotations

import gc
import itertools
import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from nested_differences import differences
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_mmkd.benchmark.environment import (
    CASE,
    feed,
    make_batch,
    make_trainer,
    quiet_iteration,
    temporary_environment,
)
from nnunetv2_mmkd.benchmark.plan import Plan
from nnunetv2_mmkd.files import write_json
from nnunetv2_mmkd.inference.all_subsets import AllSubsetsPredictor
from nnunetv2_mmkd.modalities import all_subsets, mask_of
from nnunetv2_mmkd.training.preflight import find_own_trainer

STOCK = "nnUNetTrainer"
UNTIMED = 5
"""First steps, in which kernels are chosen and graphs compiled."""


@dataclass(frozen=True)
class Trial:
    """What came of a trial.

    Attributes:
        trainer: its name.
        compiled: whether ``nnUNet_compile`` was on.
        seconds: median of a step; None if it did not come to that.
        peak: most bytes of device memory, of all that training needs; None without CUDA.
        note: empty if all went well.
    """

    trainer: str
    compiled: bool
    seconds: float | None = None
    peak: int | None = None
    note: str = ""


def try_trainer(name: str, plan: Plan, device: torch.device, compiled: bool, iterations: int) -> Trial:
    """Try a trainer; whatever goes wrong becomes the note."""
    trial = Trial(name, compiled)
    try:
        with temporary_environment(compiled):
            trainer = started(name, plan, device)
            batch = on_host(make_batch(trainer, plan), device)
            trial = replace(trial, **steps(trainer, batch, device, iterations))
            if name != STOCK:
                validate(trainer, batch)
                save_and_go_on(trainer, name, plan, device, batch)
                predict(trainer, device)
    except Exception as error:
        trial = replace(trial, note=f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    finally:
        trainer = batch = None
        gc.collect()
        if device.type == "cuda":
            torch._dynamo.reset()
            torch.cuda.empty_cache()
    return trial


def started(name: str, plan: Plan, device: torch.device) -> Any:
    """A trainer on noise, one case of which is held out for what methods hold out."""
    trainer = make_trainer(nnUNetTrainer if name == STOCK else find_own_trainer(name), plan, device)
    if name != STOCK:
        feed(trainer, {})
        trainer.cases = replace(trainer.cases, held_out=[CASE])
        trainer.cases.validation_present.update(trainer.cases.training_present)
        shape, generator = plan.patch, np.random.default_rng(0)
        data = generator.normal(size=(plan.n_modalities, *shape)).astype(np.float32)
        labels = generator.integers(0, 4, (1, *shape)).astype(np.int16)
        case = Path(trainer.preprocessed_dataset_folder) / CASE
        for file in case.parent.glob("*.b2nd"):
            file.unlink()
        nnUNetDatasetBlosc2.save_case(data, labels, {}, str(case), data.shape, data.shape, labels.shape, labels.shape)
    return trainer


def on_host(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch in pinned memory, as nnU-Net's loaders give it for a GPU."""

    def pin(value: Any) -> Any:
        if isinstance(value, list):
            return [pin(each) for each in value]
        return value.pin_memory() if isinstance(value, torch.Tensor) else value

    return {key: pin(value) for key, value in batch.items()} if device.type == "cuda" else batch


def steps(trainer: Any, batch: dict[str, Any], device: torch.device, iterations: int) -> dict[str, Any]:
    """Train: first with the periodic update, then, timed, after the warm-up."""
    cuda = device.type == "cuda"
    if cuda:
        torch.backends.cudnn.benchmark = True  # as nnU-Net trains
        torch.cuda.reset_peak_memory_stats(device)
    own = hasattr(trainer, "run")
    if own:
        trainer.dataloader_meta = itertools.repeat(batch)
        trainer.run.iteration = 0
    seconds = []
    for number in range(iterations):
        if own and number == 1:
            trainer.run.iteration = quiet_iteration(trainer)
        begun = time.perf_counter()
        loss = float(trainer.train_step(batch)["loss"])  # waits for the device
        seconds.append(time.perf_counter() - begun)
        scaler = trainer.grad_scaler  # its first scales may overflow
        if not math.isfinite(loss) and scaler is None:
            raise RuntimeError(f"the loss of step {number} is {loss}")
    if not math.isfinite(loss):
        raise RuntimeError(f"the loss of the last step is {loss}")
    weights = trainer.network.state_dict().values()
    if not all(bool(weight.isfinite().all()) for weight in weights):
        raise RuntimeError("not all weights are finite")
    timed = seconds[min(UNTIMED, iterations - 1) :]
    return {"seconds": median(timed), "peak": torch.cuda.max_memory_allocated(device) if cuda else None}


def validate(trainer: Any, batch: dict[str, Any]) -> None:
    """A step of the online validation."""
    trainer.network.eval()
    trainer.on_validation_epoch_start()
    with torch.no_grad():
        loss = float(trainer.validation_step(batch)["loss"])
    trainer.network.train()
    if not math.isfinite(loss):
        raise RuntimeError(f"the loss of the validation is {loss}")


def save_and_go_on(trainer: Any, name: str, plan: Plan, device: torch.device, batch: dict[str, Any]) -> None:
    """Save; another trainer takes it up, has the same state, and goes on."""
    folder = Path(trainer.output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = str(folder / "checkpoint_final.pth")
    trainer.method.end_epoch(trainer.bare_network, 0)
    trainer.save_checkpoint(file)
    second = started(name, plan, device)
    second.load_checkpoint(file)
    second.dataloader_meta = itertools.repeat(batch)
    for state in ("trained_module", "method", "optimizer", "grad_scaler"):
        pair = [getattr(each, state) for each in (trainer, second)]
        wrong = [] if pair[0] is None else differences(*[to_cpu(each.state_dict()) for each in pair], state)
        if wrong:
            raise RuntimeError(f"not restored from the checkpoint: {', '.join(wrong[:3])}")
    if not math.isfinite(float(second.train_step(batch)["loss"])):
        raise RuntimeError("no finite loss after the checkpoint was taken up")


def to_cpu(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.cpu()
    if isinstance(state, dict):
        return {key: to_cpu(value) for key, value in state.items()}
    return [to_cpu(value) for value in state] if isinstance(state, (list, tuple)) else state


def predict(trainer: Any, device: torch.device) -> None:
    """Predict a case with all subsets, of a specialist with its own, from the saved model."""
    folder = Path(trainer.output_folder_base)
    write_json(folder / "plans.json", trainer.plans_manager.plans)
    write_json(folder / "dataset.json", trainer.dataset_json)
    predictor = AllSubsetsPredictor(use_mirroring=False, device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    subset, names = getattr(trainer, "subset", None), trainer.modalities
    subsets = mask_of(names, available=subset)[None] if subset else all_subsets(len(names))
    patch = trainer.configuration_manager.patch_size
    logits = predictor.predict_subsets(torch.randn(len(names), *patch), subsets)
    if len(logits) != len(subsets) or not bool(logits.isfinite().all()):
        raise RuntimeError("not all predictions are finite")
    shutil.rmtree(folder)


def rank(number: int, world: int, names: list[str], plan: Plan, store: str) -> None:
    """One of several processes, a GPU each: a few steps of some trainers, then the same weights on all."""
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", f"file://{store}", rank=number, world_size=world)
    try:
        for name in names:
            with temporary_environment(False):
                trainer = started(name, plan, device)
                share = plan.resized(batch_size=trainer.batch_size)
                steps(trainer, on_host(make_batch(trainer, share), device), device, 3)
                own = torch.stack([weight.double().sum() for weight in trainer.trained_module.state_dict().values()])
                others = [torch.empty_like(own) for _ in range(world)]
                dist.all_gather(others, own)
                if not all(torch.equal(own, other) for other in others):
                    raise RuntimeError(f"{name}: the ranks have not the same weights")
    finally:
        dist.destroy_process_group()
