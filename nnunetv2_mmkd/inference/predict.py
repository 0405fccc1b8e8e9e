"""One call: a trained model and the images of one case -> its segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunetv2_mmkd.inference.predictor import MMKDPredictor
from nnunetv2_mmkd.names import indices


def predict(
    model: str | Path | MMKDPredictor,
    *,
    output: str | Path | None = None,
    properties: Mapping[str, Any] | None = None,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: str | torch.device | None = None,
    mirroring: bool = True,
    trust: bool = False,
    **images: str | Path | np.ndarray | None,
) -> np.ndarray:
    """Segment one case with whatever modalities it has.

    Example::

        from nnunetv2_mmkd import predict

        segmentation = predict(model_folder, t1="t1.nii.gz", t1ce=None, t2="t2.nii.gz", flair="flair.nii.gz")

    Args:
        model: nnU-Net's model folder (``.../nnUNetTrainerX__nnUNetPlans__3d_fullres``), or a predictor with a loaded
            model, which saves the loading where there are many cases.
        output: also write the segmentation there, with the geometry of the images (files only).
        properties: for arrays: ``{"spacing": (z, y, x) in mm}``.
        folds: to average; None: all that are trained.
        checkpoint: file name of the checkpoints.
        device: None: the GPU if torch can use one, else the CPU.
        mirroring: nnU-Net's test-time augmentation.
        trust: also load checkpoints that hold more than tensors and numbers, which may run any code of their author's.
        **images: modality, by name or alias -> file, or array ``[z, y, x]``, or None. One that is None or not given is
            missing. A name that is no Python identifier goes in a dictionary: ``**{"adc map": "adc.nii.gz"}``.

    Returns:
        The segmentation ``[z, y, x]`` (labels) in the grid of the images.

    Raises:
        InputError: anything wrong with the model, a name, an image or the output; nothing has been written then.
    """
    if not isinstance(model, MMKDPredictor):
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(device)
        on_gpu = device.type == "cuda"
        predictor = MMKDPredictor(
            use_mirroring=mirroring, perform_everything_on_device=on_gpu, device=device, allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(model), folds, checkpoint, trust=trust)
        model = predictor
    indices(images, model.modalities)  # a wrong name is refused, whether or not it comes with an image
    return model.predict_case(images, output, properties=properties)
