"""Phantom cases as small networks take them, and the plan of such a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunetv2_mmkd.phantom.case import PhantomCase

SIZE = 32
"""Voxels of a phantom along each axis."""


def standardised(case: PhantomCase, names: Sequence[str]) -> np.ndarray:
    """Images ``[M, *spatial]`` of a brain with mean 0 and standard deviation 1 within it, 0 outside."""
    brain = case.images["t1"] > 0
    volumes = [case.images[name].astype(np.float32) for name in names]
    return np.stack([np.where(brain, (each - each[brain].mean()) / each[brain].std(), 0) for each in volumes])


def plan() -> ConfigurationManager:
    """Three stages of 8, 16, 32 features, instance norm, as nnU-Net writes it."""
    return ConfigurationManager(
        {
            "patch_size": [SIZE] * 3,
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": 3,
                    "features_per_stage": [8, 16, 32],
                    "conv_op": "torch.nn.modules.conv.Conv3d",
                    "kernel_sizes": [[3, 3, 3]] * 3,
                    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
                    "n_conv_per_stage": [2, 2, 2],
                    "n_conv_per_stage_decoder": [1, 1],
                    "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
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
