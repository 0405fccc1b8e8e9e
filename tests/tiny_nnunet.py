"""Tiny data sets that real nnU-Net plans and preprocesses, shrunken plans, and trainers on them.

Nothing of nnU-Net is replaced. Only its process pools run in this process where a test says so (``inline_pools``),
because every spawned worker imports torch anew.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nested_differences import differences as differences
from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

import nnunetv2_mmkd.trainer_variants as variants

NAMES = ("T1", "T1ce", "T2", "FLAIR", "PD")
LABELS: Mapping[str, Mapping[str, Any]] = {
    "classes": {"background": 0, "whole": 1, "core": 2},
    "regions": {"background": 0, "whole": [1, 2], "core": 2},
    "classes_ignore": {"background": 0, "whole": 1, "core": 2, "ignore": 3},
    "regions_ignore": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
}
CASES = tuple(f"case_{number}" for number in range(6))
PLAIN, RESIDUAL = "nnUNetPlans", "nnUNetResEncUNetMPlans"
PLANNERS = {PLAIN: "ExperimentPlanner", RESIDUAL: "nnUNetPlannerResEncM"}
SHAPE = (20, 16, 15)
"""Two windows along the first axis, one along the others: a quarter of the time of two along each."""
PATCH, FEATURES = 16, [4, 6, 8]

Trainer = Any


class InlinePool:
    """A ``multiprocessing.Pool`` that works at once, in this process."""

    _pool: tuple[Any, ...] = ()

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def starmap(self, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
        return [function(*row) for row in arguments]

    def starmap_async(self, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Done:
        return Done(self.starmap(function, arguments))


class Done:
    """A result that is ready."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def ready(self) -> bool:
        return True

    def get(self) -> Any:
        return self.value


class InlineContext:
    """The "spawn" context with :class:`InlinePool` for its pool."""

    Pool = InlinePool

    def __init__(self, context: Any) -> None:
        self.context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self.context, name)


def inline_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nnU-Net's pools work in this process."""
    original = multiprocessing.get_context
    monkeypatch.setattr("nnunetv2.utilities.utils.Pool", InlinePool)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: InlineContext(original(method)))


def write_raw(
    folder: Path,
    name: str,
    modalities: int,
    labels: str,
    missing: Mapping[str, list[str]],
    channel_name: str = "",
    shape: tuple[int, int, int] = SHAPE,
) -> None:
    """Write a data set in nnU-Net's raw format: two nested balls in noise, brighter from channel to channel."""
    for part in ("imagesTr", "labelsTr"):
        (folder / name / part).mkdir(parents=True)
    names = [channel_name or NAMES[channel] for channel in range(modalities)]
    for number, case in enumerate(CASES):
        rng = np.random.default_rng(number)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        distance = np.linalg.norm(grid - (8 + rng.integers(0, 5, 3)), axis=-1)
        truth = (distance < 6).astype(np.uint8) + (distance < 3.5)
        if labels.endswith("ignore"):
            truth[:, :5] = 3
        _write(folder / name / "labelsTr" / f"{case}.nii.gz", truth)
        for channel in range(modalities):
            image = 50 + 10 * (channel + 1) * (truth % 3) + rng.normal(0, 3, shape)
            image[:2] = 0
            if NAMES[channel] in missing.get(case, ()):
                image[:] = 0
            _write(folder / name / "imagesTr" / f"{case}_{channel:04d}.nii.gz", image.astype(np.float32))
    dataset = {
        "channel_names": {str(channel): channel_name for channel, channel_name in enumerate(names)},
        "labels": LABELS[labels],
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
        "missing_modalities": missing,
    }
    if labels.startswith("regions"):
        dataset["regions_class_order"] = [1, 2]
    (folder / name / "dataset.json").write_text(json.dumps(dataset))


def _write(file: Path, array: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array), str(file))


def shrink(plans: dict[str, Any]) -> dict[str, Any]:
    """Plans with the same kinds of layers, but three stages of a few features and small patches."""
    plans = copy.deepcopy(plans)
    for configuration in plans["configurations"].values():
        if "architecture" not in configuration:
            continue
        dimensions = len(configuration["patch_size"])
        configuration["patch_size"] = [PATCH] * dimensions
        configuration["batch_size"] = 2
        arguments = configuration["architecture"]["arch_kwargs"]
        arguments.update(
            n_stages=3,
            features_per_stage=FEATURES,
            kernel_sizes=[[3] * dimensions] * 3,
            strides=[[1] * dimensions, [2] * dimensions, [2] * dimensions],
            n_conv_per_stage_decoder=[1, 1],
        )
        arguments["n_blocks_per_stage" if "n_blocks_per_stage" in arguments else "n_conv_per_stage"] = [1, 1, 1]
    return plans


class QuickFingerprint(DatasetFingerprintExtractor):
    """nnU-Net's fingerprint from fewer samples of the intensities than a hundred million."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.num_foreground_voxels_for_intensitystats = 10_000


class Home:
    """``nnUNet_raw`` and ``nnUNet_preprocessed`` of a test session; data sets are made when first asked for."""

    def __init__(self, root: Path) -> None:
        self.raw, self.preprocessed = root / "raw", root / "preprocessed"
        self.raw.mkdir()
        self.preprocessed.mkdir()
        self.numbers: dict[tuple[int, str, tuple[int, int, int]], int] = {}

    def dataset(self, modalities: int = 3, labels: str = "classes", shape: tuple[int, int, int] = SHAPE) -> str:
        """Name of a planned and preprocessed data set. Its case_1 has no T2 if it has three modalities."""
        key = (modalities, labels, shape)
        known = key in self.numbers
        number = self.numbers.setdefault(key, 901 + len(self.numbers))
        name = f"Dataset{number}_M{modalities}{labels.replace('_', '')}"
        if known:
            return name
        write_raw(self.raw, name, modalities, labels, {"case_1": ["T2"]} if modalities == 3 else {}, shape=shape)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("nnUNet_n_proc_DA", "1")  # the planner wants a thread
            inline_pools(patch)
            self._prepare(number)
        return name

    def _prepare(self, number: int) -> None:
        nnunet.extract_fingerprint_dataset(number, QuickFingerprint, num_processes=1, show_progress_bar=False)
        for identifier, planner in PLANNERS.items():
            assert nnunet.plan_experiments([number], planner) == identifier
            (file,) = self.preprocessed.glob(f"Dataset{number}_*/{identifier}.json")
            file.write_text(json.dumps(shrink(json.loads(file.read_text()))))
        nnunet.preprocess([number], PLAIN, ("2d", "3d_fullres"), (1, 1), show_progress_bar=False)

    def json(self, name: str, file: str = "dataset.json") -> dict[str, Any]:
        """A JSON of a preprocessed data set."""
        return json.loads((self.preprocessed / name / file).read_text())

    def trainer(
        self,
        trainer_class: type,
        dataset: str | None = None,
        configuration: str = "3d_fullres",
        fold: int | str = 0,
        identifier: str = PLAIN,
        edit_plans: Callable[[dict[str, Any]], None] | None = None,
        **dataset_json: Any,
    ) -> Trainer:
        """A trainer on the CPU, not initialised."""
        dataset = dataset or self.dataset()
        plans = {**self.json(dataset, f"{identifier}.json"), "continue_training": False}
        if edit_plans is not None:
            edit_plans(plans)
        return trainer_class(
            plans, configuration, fold, {**self.json(dataset), **dataset_json}, device=torch.device("cpu")
        )


@contextmanager
def environment(home: Home, results: Path) -> Iterator[None]:
    """nnU-Net's variables and pools in this process, for fixtures of a module."""
    with pytest.MonkeyPatch.context() as patch:
        set_variables(patch, home, results)
        inline_pools(patch)
        yield


def untrained(trainer: Trainer, seed: int) -> Path:
    """The folder of a model whose network is as initialised: nothing is learned."""
    torch.manual_seed(seed)
    start(trainer).save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    return Path(trainer.output_folder_base)


def log_of(trainer: Trainer) -> str:
    """What a trainer has written to its log file."""
    return Path(trainer.log_file).read_text()


def start(trainer: Trainer) -> Trainer:
    """As nnU-Net starts a training: network, data loaders, everything that is written at the start."""
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return trainer


def steps(trainer: Trainer, batches: Iterable[dict[str, Any]]) -> list[float]:
    """Train on given batches; returns the losses."""
    trainer.network.train()
    return [float(trainer.train_step(copy.deepcopy(batch))["loss"]) for batch in batches]


def same_start(first: Trainer, second: Trainer) -> None:
    """Give the second trainer's network the weights of the first one's."""
    second.network.load_state_dict(first.network.state_dict())


def set_variables(monkeypatch: pytest.MonkeyPatch, home: Home, results: Path) -> None:
    """nnU-Net's environment variables."""
    monkeypatch.setenv("nnUNet_raw", str(home.raw))
    monkeypatch.setenv("nnUNet_preprocessed", str(home.preprocessed))
    monkeypatch.setenv("nnUNet_results", str(results))
    monkeypatch.setenv("nnUNet_extTrainer", os.path.dirname(str(variants.__file__)))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    for variable in ("nnUNet_missing_modalities", "nnUNet_compile", "nnUNet_wandb_enabled", "nnUNet_mmkd_bf16"):
        monkeypatch.delenv(variable, raising=False)
