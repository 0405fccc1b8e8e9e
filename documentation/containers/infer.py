"""Entry point of a container: predict a folder of BraTS-named cases with the model in the image.

    python infer.py [infer] [--data_path /input] [--output_path /output]

This is how the BraTS challenges and the ``brats`` package call a container: with ``infer`` and both paths until 2024,
without any in 2025, when the folders are mounted at the defaults. A case is a folder with its images, of which any may
be absent, named as the edition names them. ``<output_path>/<case>.nii.gz`` is its segmentation, with the header of its
images and the labels of the edition; nothing else is written there.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from nnunetv2_mmkd.cli.last_resort import unexpected
from nnunetv2_mmkd.editions.catalogue import get_edition
from nnunetv2_mmkd.editions.discover import source_root, walk
from nnunetv2_mmkd.editions.recognise import recognise
from nnunetv2_mmkd.editions.spec import EditionSpec, Platform
from nnunetv2_mmkd.errors import InputError, one_line
from nnunetv2_mmkd.files import atomic_write
from nnunetv2_mmkd.inference.inputs import InputImages
from nnunetv2_mmkd.inference.model_folder import read_model, trained_folds
from nnunetv2_mmkd.inference.run import PredictionSettings, predict_folder
from nnunetv2_mmkd.output_folders import check_apart, check_writable
from nnunetv2_mmkd.submission.write import write_submission

CHECKPOINT = "checkpoint_final.pth"

log = logging.getLogger("nnunetv2_mmkd.infer")


def main(argv: Sequence[str] | None = None) -> int:
    """Predict all cases; returns the exit code."""
    parser = argparse.ArgumentParser("infer", description="Segment a folder of BraTS-named cases.")
    parser.add_argument("command", nargs="?", choices=["infer"], help="may be left out")
    parser.add_argument("--data_path", type=Path, default=Path("/input"), help="folder of cases (default: /input)")
    parser.add_argument("--output_path", type=Path, default=Path("/output"), help="default: /output")
    parser.add_argument("--model", type=Path, default=os.environ.get("MMKD_MODEL", "/model"), help="default: /model")
    parser.add_argument("--edition", default=os.environ.get("MMKD_EDITION"), help="default: the model's, or recognised")
    parser.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, less accurate")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        infer(args.data_path, args.output_path, str(args.model), args.edition, mirroring=not args.disable_tta)
    except InputError as error:
        sys.stderr.write(f"infer: error: {one_line(error)}\n")
        return 1
    except Exception as error:  # nnU-Net and its readers raise whatever they like
        sys.stderr.write(f"infer: error: {unexpected(error, sys.argv[1:])}\n")
        return 1
    return 0


def infer(data: Path, output: Path, model: str, edition: str | None = None, *, mirroring: bool = True) -> None:
    """Predict all cases of a folder.

    Args:
        data: folder of cases.
        output: folder for the segmentations; made if absent.
        model: nnU-Net's model folder; all folds in it are averaged.
        edition: whose names and labels the data have; None: the model's, if the names are its own, else recognised.
        mirroring: nnU-Net's test-time augmentation.

    Raises:
        InputError: anything wrong with data, output or model.
    """
    check_apart(output, data, model)
    check_writable(str(output))
    dataset = read_model(model).dataset_json
    spec = edition_of(data, dataset.content.get("edition"), edition)
    settings = PredictionSettings(
        folds=trained_folds(model, CHECKPOINT),
        checkpoint=CHECKPOINT,
        mirroring=mirroring,
        device="cuda" if torch.cuda.is_available() else "cpu",
        progress=False,
        preprocessing_processes=0,  # workers need shared memory, of which containers have little
        export_processes=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        for handler in logging.getLogger().handlers:  # what lies there is gone at the end
            handler.addFilter(lambda record: folder not in record.getMessage())
        predictions, submission = Path(folder, "predictions"), Path(folder, "submission")
        predict_folder(model, InputImages(str(data), edition=spec.name), str(predictions), settings)
        spec = replace(spec, platform=Platform("the caller"))  # which takes any grid
        write_submission(spec, predictions, [data], submission, file_name="{case}.nii.gz", show_progress=False)
        files = sorted(submission.glob("*.nii.gz"))
        for file in files:
            atomic_write(output / file.name, file.read_bytes())
    log.info("%d segmentation%s in %s", len(files), "s" * (len(files) != 1), output)


def edition_of(data: Path, models: str | None, given: str | None) -> EditionSpec:
    """The edition whose names and labels the data have.

    Raises:
        InputError: no such edition, or it cannot be told.
    """
    if given:
        return get_edition(given)
    spec = get_edition(models) if models else None
    if spec is not None and any(spec.is_case(folder.name) for folder in walk(source_root(data), spec.is_case)):
        return spec
    return recognise([data]).spec


if __name__ == "__main__":
    sys.exit(main())
