"""What is measured: a synthetic plan of BraTS topology, or the plan of a user's data set."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError, one_line
from nnunetv2_mmkd.inference.planned import check_data_set, check_planned, check_trainable
from nnunetv2_mmkd.nnunet_json import read_dataset_json, read_plans
from nnunetv2_mmkd.paths import require_variables

TOPOLOGIES = ("plain", "resenc")
"""nnU-Net's default U-Net, and the residual-encoder one of its ResEnc planners."""

FEATURES = (32, 64, 128, 256, 320, 320)
BLOCKS = (1, 3, 4, 6, 6, 6)
"""Residual blocks per encoder stage of nnU-Net's ResEnc planners."""

PATCH = (128, 128, 128)
MEDIAN_SIZE = (137, 170, 138)
"""Of the cropped images of BraTS, which says how many windows a case has."""

MODALITIES = ("T1", "T1ce", "T2", "FLAIR")
NAME = "Dataset501_Benchmark"
ARCHITECTURES = "dynamic_network_architectures.architectures.unet"


@dataclass(frozen=True)
class Plan:
    """A plan to measure on.

    Attributes:
        plans: content of nnU-Net's plans file.
        dataset_json: content of ``dataset.json``; without an ignore label.
        configuration: e.g. ``"3d_fullres"``.
        description: for the report.
    """

    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    configuration: str
    description: str

    @property
    def patch(self) -> tuple[int, ...]:
        """Patch size in voxels."""
        return tuple(int(edge) for edge in self._value("patch_size"))

    @property
    def batch_size(self) -> int:
        """Samples per step."""
        return int(self._value("batch_size"))

    @property
    def n_modalities(self) -> int:
        """M."""
        return len(self.dataset_json["channel_names"])

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of the planned network."""
        return dict(self._value("architecture")["arch_kwargs"])

    def resized(self, patch: Sequence[int] | None = None, batch_size: int | None = None) -> Plan:
        """The same plan for another patch or batch size; None keeps what is planned.

        Raises:
            InputError: the patch has another number of axes than the plan's, or a size is below 1.
        """
        plans = deepcopy(self.plans)
        entry = plans["configurations"][self.configuration]
        if patch is not None:
            if len(patch) != len(self.patch) or min(patch) < 1:
                raise InputError(f"patch {tuple(patch)}: this plan needs {len(self.patch)} sizes of at least 1 voxel")
            entry["patch_size"] = [int(edge) for edge in patch]
        if batch_size is not None:
            if batch_size < 1:
                raise InputError(f"the batch size must be at least 1, not {batch_size}")
            entry["batch_size"] = int(batch_size)
        return Plan(plans, self.dataset_json, self.configuration, self.description)

    def _value(self, key: str) -> Any:
        name: str | None = self.configuration
        while name is not None:
            entry = self.plans["configurations"][name]
            if key in entry:
                return entry[key]
            name = entry.get("inherits_from")
        raise InputError(f"the plans' configuration {self.configuration!r} has no {key}")


def synthetic_plan(topology: str = "plain", features_scale: float = 1.0, batch_size: int = 2) -> Plan:
    """A plan as nnU-Net makes it for BraTS: 128^3 patch, 6 stages, 4 modalities, 3 regions.

    Args:
        topology: ``"plain"`` (two convolutions per stage) or ``"resenc"`` (residual encoder, one in the decoder).
        features_scale: factor on the feature maps per stage, for small machines.
        batch_size: samples per step.

    Raises:
        InputError: unknown topology, scale not above 0.
    """
    if topology not in TOPOLOGIES:
        raise InputError(f"unknown topology {topology!r}: choose from {', '.join(TOPOLOGIES)}")
    if not 0 < features_scale < math.inf:
        raise InputError(f"the scale of the features must be a number above 0, not {features_scale}")
    stages = len(FEATURES)
    architecture: dict[str, Any] = {
        "n_stages": stages,
        "features_per_stage": [max(1, round(features * features_scale)) for features in FEATURES],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    if topology == "plain":
        network, convolutions = "PlainConvUNet", 2
        architecture["n_conv_per_stage"] = [2] * stages
    else:
        network, convolutions = "ResidualEncoderUNet", 1
        architecture["n_blocks_per_stage"] = list(BLOCKS)
    architecture["n_conv_per_stage_decoder"] = [convolutions] * (stages - 1)
    resampling: dict[str, Any] = {}
    for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        name, arguments = f"resampling_fn_{kind}", {"is_seg": kind == "seg", "order": order, "order_z": 0}
        resampling[name] = "resample_data_or_seg_to_shape"
        resampling[f"{name}_kwargs"] = {**arguments, "force_separate_z": None}
    configuration = {
        **resampling,
        "data_identifier": "benchmark_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch_size,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": list(MEDIAN_SIZE),
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * len(MODALITIES),
        "use_mask_for_norm": [True] * len(MODALITIES),
        "architecture": {
            "network_class_name": f"{ARCHITECTURES}.{network}",
            "arch_kwargs": architecture,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    plans = {
        "dataset_name": NAME,
        "plans_name": "benchmark",
        "image_reader_writer": "SimpleITKIO",
        "foreground_intensity_properties_per_channel": {str(number): {} for number in range(len(MODALITIES))},
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "label_manager": "LabelManager",
    }
    dataset_json = {
        "channel_names": {str(number): name for number, name in enumerate(MODALITIES)},
        "labels": {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [2, 3], "enhancing_tumor": [3]},
        "regions_class_order": [1, 2, 3],
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    return Plan(plans, dataset_json, "3d_fullres", f"synthetic BraTS plan, {network}")


def dataset_plan(dataset: str, configuration: str, plans_name: str = "nnUNetPlans") -> Plan:
    """The plan of a preprocessed data set; only its plans and ``dataset.json`` are read.

    The ignore label, if any, is dropped: the synthetic targets have none.

    Args:
        dataset: name or id.
        configuration: e.g. ``"3d_fullres"``.
        plans_name: plans identifier.

    Raises:
        InputError: nnU-Net's variable, the data set, its plans or the configuration does not exist.
    """
    require_variables(["nnUNet_preprocessed"])
    base = os.environ["nnUNet_preprocessed"]
    pattern = f"Dataset{int(dataset):03d}_*" if dataset.isdecimal() and len(dataset) < 5 else one_line(dataset, 100)
    found = sorted(path for path in Path(base).glob("Dataset*") if path.is_dir() and fnmatchcase(path.name, pattern))
    if len(found) != 1:
        raise InputError(
            f"data set {dataset!r}: {len(found)} folders {pattern} in {base}; give the full name of one, or run "
            f"`nnUNetv2_plan_and_preprocess -d {dataset}`"
        )
    file = found[0] / f"{plans_name}.json"
    if not file.is_file():
        raise InputError(f"{file} does not exist; plan the data set, or choose other plans with -p")
    plans = read_plans(file)
    if configuration not in plans.configurations:
        raise InputError(f"{file} has no configuration {configuration!r}; it has {', '.join(plans.configurations)}")
    dataset_json = read_dataset_json(found[0] / "dataset.json").content
    check_data_set(plans.content, str(file), found[0].name)
    ready = check_planned(plans.content, configuration, len(dataset_json["channel_names"]), str(file))
    check_trainable(ready, f"{file}, configurations, {configuration}")
    dataset_json["labels"] = {name: value for name, value in dataset_json["labels"].items() if name != "ignore"}
    dataset_json.pop("missing_modalities", None)
    return Plan(plans.content, dataset_json, configuration, f"{found[0].name} {plans_name} {configuration}")
