"""The files of a tiny untrained model that nnU-Net's own machinery loads, and tiny images for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

TRAINER = "nnUNetTrainerTinyForTests"
MODALITIES = ("t1", "t1ce", "t2")

TRAINER_FILE = '''
import torch
from torch import nn
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

SEEN = []


class TinyNet(nn.Module):
    """Mean over the available modalities of one convolution each. Without a mask it refuses."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.streams = nn.ModuleList(nn.Conv3d(1, 4, 3, padding=1) for _ in range(n_in))
        self.head = nn.Conv3d(4, n_out, 1)
        self.seen = []

    def forward(self, x, available=None):
        assert available is not None, "no mask"
        self.seen.append(tuple(bool(flag) for flag in available.reshape(-1)))
        rows = [stream(x[:, i : i + 1]) for i, stream in enumerate(self.streams) if available.reshape(-1)[i]]
        return self.head(torch.tanh(sum(rows) / len(rows)))


class nnUNetTrainerTinyForTests(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(
        plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ):
        return TinyNet(num_input_channels, num_output_channels)
'''


def plans() -> dict:
    """Its plans.json. Its trainer does not build the network that they plan."""
    architecture = {
        "n_stages": 2, "features_per_stage": [2, 2], "conv_op": "torch.nn.Conv3d", "kernel_sizes": [[3, 3, 3]] * 2,
        "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1], "n_conv_per_stage_decoder": [1],
        "conv_bias": True, "norm_op": "torch.nn.InstanceNorm3d", "norm_op_kwargs": {"affine": True},
        "nonlin": "torch.nn.LeakyReLU",
    }  # fmt: skip
    resample = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "tiny",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 16, 16],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * 3,
        "use_mask_for_norm": [True] * 3,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": architecture,
            "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
        },
    }
    for what in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = {**resample, "is_seg": what == "seg"}
    return {
        "dataset_name": "Dataset999_Tiny",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(3)},
        "configurations": {"3d_fullres": configuration},
        "mmkd": {"modalities": list(MODALITIES)},
    }


def image_of(case: str, channel: int, shape: tuple[int, int, int] = (14, 20, 22)) -> np.ndarray:
    """A smooth random image ``[z, y, x]`` with a zero border, the same at every call."""
    rng = np.random.default_rng([channel, *case.encode()])
    image = rng.normal(100 + 50 * channel, 20, shape).astype(np.float32)
    image[:2] = image[:, :2] = image[:, :, :3] = 0
    return image


def write(file: Path, array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.5)) -> Path:
    """Write an image with a geometry that is not the default one."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-10.0, 20.0, 5.0))
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))
    return file


def write_case(folder: Path, case: str, channels: tuple[int, ...] = (0, 1, 2)) -> list[Path]:
    """Write some channels of a case in nnU-Net's naming."""
    return [write(folder / f"{case}_{channel:04d}.nii.gz", image_of(case, channel)) for channel in channels]


def read(file: Path) -> np.ndarray:
    """The voxels of an image file."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
