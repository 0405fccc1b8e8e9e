"""Plans of a small U-Net, and the ``dataset.json`` of their data set."""

from __future__ import annotations

from typing import Any

Plans = dict[str, Any]
DATASET = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}


def plans_for(features: int) -> Plans:
    """Plans of a small U-Net."""
    kwargs = {
        "n_stages": 2, "features_per_stage": [features, features], "conv_op": "torch.nn.Conv3d",
        "kernel_sizes": [[3] * 3] * 2, "strides": [[1] * 3, [2] * 3], "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1], "conv_bias": True, "norm_op": "torch.nn.InstanceNorm3d",
        "norm_op_kwargs": {"affine": True}, "nonlin": "torch.nn.LeakyReLU",
    }  # fmt: skip
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": kwargs,
        "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "ready", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "batch_dice": False,
        "patch_size": [16, 16, 16], "spacing": [1.0, 1.0, 1.0], "architecture": architecture,
        "normalization_schemes": ["ZScoreNormalization"] * 2, "use_mask_for_norm": [False] * 2,
    }  # fmt: skip
    for what in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = {"is_seg": what == "seg"}
    return {
        "dataset_name": "Dataset007_X", "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO", "label_manager": "LabelManager",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {}, "configurations": {"3d_fullres": configuration},
    }  # fmt: skip
