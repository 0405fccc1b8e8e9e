"""Slices of phantom brains as small networks take them, and the plan of such a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import Tensor

from nnunetv2_mmkd.phantom.case import PhantomConfig, make_brain_case

SIZE = 32
"""Voxels of a phantom along each axis."""


class Slices(NamedTuple):
    """Slices with tumour: images ``[n, M, H, W]``, label maps ``[n, H, W]``, number of the case ``[n]``."""

    images: Tensor
    labels: Tensor
    case: Tensor

    def of(self, first: int, last: int) -> Slices:
        """The slices of the cases with these numbers, the last one left out."""
        return Slices(*(part[(self.case >= first) & (self.case < last)] for part in self))


def tumour_slices(config: PhantomConfig, cases: int, names: Sequence[str]) -> Slices:
    """Slices of the first cases; an image has mean 0 and standard deviation 1 within the brain, and is 0 outside."""
    parts = []
    for index in range(cases):
        case = make_brain_case(config, index)
        brain = case.images["t1"] > 0
        volumes = [case.images[name].astype(np.float32) for name in names]
        images = np.stack([np.where(brain, (each - each[brain].mean()) / each[brain].std(), 0) for each in volumes])
        chosen = np.flatnonzero(case.seg.any((0, 1)))
        labels = torch.from_numpy(case.seg[..., chosen].astype(np.int64)).permute(2, 0, 1)
        parts.append(
            Slices(
                torch.from_numpy(images[..., chosen]).float().permute(3, 0, 1, 2),
                labels,
                torch.full((len(chosen),), index),
            )
        )
    return Slices(*(torch.cat(part) for part in zip(*parts, strict=True)))


def plan() -> ConfigurationManager:
    """Three stages of 8, 16, 32 features, instance norm, as nnU-Net writes it."""
    return ConfigurationManager(
        {
            "patch_size": [SIZE] * 2,
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": 3,
                    "features_per_stage": [8, 16, 32],
                    "conv_op": "torch.nn.modules.conv.Conv2d",
                    "kernel_sizes": [[3, 3]] * 3,
                    "strides": [[1, 1], [2, 2], [2, 2]],
                    "n_conv_per_stage": [2, 2, 2],
                    "n_conv_per_stage_decoder": [1, 1],
                    "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
    )
