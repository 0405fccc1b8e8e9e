"""nnU-Net's planning and preprocessing of the demo's data set, with a network that a CPU trains in a minute."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from tqdm import tqdm

from nnunetv2_mmkd.files import write_json
from nnunetv2_mmkd.nnunet_json import read_plans

PLANS = "nnUNetPlans"
WORKERS = "nnUNet_n_proc_DA"
"""nnU-Net's variable with the number of processes that augment; 0: none, so that seeds hold."""

INTENSITIES = 100_000
"""Voxels that the fingerprint's intensities are drawn from. nnU-Net's hundred million serve CT data sets and would take
half a minute; the statistics of MRI are not used."""

STAGES_2D, PATCH_2D, BATCH_2D = 3, 56, 6
"""Of the 2d network: nnU-Net's plan, cut down."""


def plan_and_preprocess(dataset_id: int, configuration: str, features: int, *, progress: bool) -> None:
    """Fingerprint, plan, a smaller network, preprocessing of one configuration.

    Args:
        dataset_id: of the raw data set.
        configuration: ``"2d"`` or ``"3d_fullres"``.
        features: width of the network's first stage (nnU-Net plans 32).
        progress: show a progress bar.
    """
    extractor = DatasetFingerprintExtractor(dataset_id, 1)
    extractor.show_progress_bar = False
    extractor.num_foreground_voxels_for_intensitystats = INTENSITIES
    extractor.run(overwrite_existing=True)
    with threads_for_planning():
        plan_experiments([dataset_id])
    folder = Path(os.environ["nnUNet_preprocessed"]) / extractor.dataset_name
    plans = read_plans(folder / f"{PLANS}.json").content
    _shrink(plans["configurations"][configuration], features)
    write_json(folder / f"{PLANS}.json", plans)
    _preprocess(PlansManager(plans), extractor.dataset_name, extractor.dataset_json, folder, configuration, progress)


@contextmanager
def threads_for_planning() -> Iterator[None]:
    """nnU-Net's planner takes the number of processes that augment for a number of threads, which cannot be 0."""
    workers = os.environ[WORKERS]
    os.environ[WORKERS] = str(max(1, int(workers)))
    try:
        yield
    finally:
        os.environ[WORKERS] = workers


def _preprocess(
    plans: PlansManager, name: str, dataset_json: dict[str, Any], folder: Path, configuration: str, progress: bool
) -> None:
    """nnU-Net's preprocessing case by case in this process: a worker would take longer to start than the work takes."""
    manager = plans.get_configuration(configuration)
    preprocessor = manager.preprocessor_class(verbose=False)
    output, truth = folder / manager.data_identifier, folder / "gt_segmentations"
    for each in (output, truth):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    dataset = get_filenames_of_train_images_and_targets(str(Path(os.environ["nnUNet_raw"]) / name), dataset_json)
    for case, files in tqdm(dataset.items(), "preprocessing", unit="case", disable=not progress):
        preprocessor.run_case_save(str(output / case), files["images"], files["label"], plans, manager, dataset_json)
        shutil.copy(files["label"], truth)


def _shrink(plan: dict[str, Any], features: int) -> None:
    """A narrower network; in 2d, also fewer stages, a patch they divide, and a smaller batch."""
    architecture = plan["architecture"]["arch_kwargs"]
    if len(plan["patch_size"]) == 2:
        plan["batch_size"] = BATCH_2D
        stages = min(STAGES_2D, architecture["n_stages"])
        for key in ("kernel_sizes", "strides", "n_conv_per_stage"):
            architecture[key] = architecture[key][:stages]
        architecture["n_conv_per_stage_decoder"] = architecture["n_conv_per_stage_decoder"][: stages - 1]
        architecture["n_stages"] = stages
        plan["patch_size"] = [min(PATCH_2D, int(edge)) for edge in plan["patch_size"]]
    widest = max(architecture["features_per_stage"])
    architecture["features_per_stage"] = [min(features * 2**stage, widest) for stage in range(architecture["n_stages"])]
