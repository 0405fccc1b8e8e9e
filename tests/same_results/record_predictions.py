"""`mmkd evaluate` and `mmkd predict` with trained models."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from same_results.exact_values import digest
from same_results.tried_trainings import META_KD, MODALITY_DROPOUT, SECOND_FOLD, SPECIALIST
from same_results.value_record import INTERNAL
from same_results.workbench import HOW, INLINE, QUICK, Bench, seed


def record_evaluate(bench: Bench) -> None:
    """``mmkd evaluate`` of trained models, and what ``mmkd predict`` then says to expect."""
    with bench.part("evaluate/models"):
        models = [bench.copy_of(training) for training in (MODALITY_DROPOUT, META_KD, SPECIALIST)]
        out = bench.new("evaluated")
        names = ["--names", "ModalityDropout", "MetaKD", "Specialist"]
        how = [*HOW, *QUICK, "-np", 1, "-nps", 0]
        more = ["--metrics", "dice", "hd95", "--specialists", "Specialists", "--improvement", "MetaKD"]
        bench.run("evaluate/models", "evaluate", "-o", out, "-m", *models, *names, "-f", 0, *how, *more)
        bench.record.add_folder("evaluate/models", out, INTERNAL)
        for model, name in zip(models, names[1:], strict=True):
            bench.record.add_file(f"evaluate/models/dataset.json of {name}", model / "dataset.json")
        images = bench.images(META_KD, "case_3", without={"case_3": [1]})
        bench.predict("evaluate/expected", models[1], images, *QUICK)
    with bench.part("evaluate/images"):
        bench.train(MODALITY_DROPOUT)
        bench.train(SECOND_FOLD)
        model = bench.copy_of(SECOND_FOLD)
        labels = bench.new("labels")
        images = bench.images(MODALITY_DROPOUT, "case_2", "case_4", without={"case_4": [1]})
        raw = bench.home.raw / bench.data(*MODALITY_DROPOUT.data)
        for case in ("case_2", "case_4"):
            shutil.copy(raw / "labelsTr" / f"{case}.nii.gz", labels)
        out = bench.new("evaluated")
        what = ["-m", model, "-f", 0, 1, "-i", images, "-l", labels, "--metrics", "dice", "-np", 1, "-nps", 0]
        bench.run("evaluate/images", "evaluate", "-o", out, *what, *HOW, *QUICK)
        bench.record.add_folder("evaluate/images", out, INTERNAL)


def record_predict(bench: Bench) -> None:
    """``mmkd predict``, and nnU-Net's own predictor."""
    for training in (MODALITY_DROPOUT, META_KD):
        name = f"predict/{training.trainer}"
        with bench.part(name):
            model = bench.copy_of(training)
            mixed = bench.images(
                training, "case_2", "case_3", "case_4", without={"case_3": [0], "case_4": [1, 2]}
            )  # each lacks something else
            whole = bench.images(training, "case_2")
            bench.predict(f"{name}/mirroring", model, whole, "--save_probabilities")
            bench.predict(f"{name}/files absent", model, mixed, *QUICK, "--save_probabilities")
            bench.predict(f"{name}/missing", model, mixed, *QUICK, "--missing", "t1c", "--save_probabilities")
            available = ["--available", "t2w", "T1"]
            bench.predict(f"{name}/available", model, whole, *QUICK, *available, "--save_probabilities")
            best = ["-step_size", 0.7, "-chk", "checkpoint_best.pth"]
            bench.predict(f"{name}/best", model, whole, "--disable_tta", *best, "--save_probabilities")
            bad = ["-o", bench.new("predicted"), "-f", 0, *HOW, *INLINE]
            what = ["predict", "-m", model, "-i", whole, *bad]
            bench.run(f"{name}/refused/unknown modality", *what, "--missing", "pd", expected=1)
            bench.run(f"{name}/refused/nothing left", *what, "--missing", "t1", "t1ce", "t2", expected=1)
            nnunet_predict(bench, f"{name}/nnU-Net", model, whole)
    with bench.part("predict/models"):
        models = [bench.copy_of(training) for training in (META_KD, SPECIALIST)]
        mixed = bench.images(META_KD, "case_2", "case_3", without={"case_3": [1]})
        out = bench.new("predicted")
        what = ["--models", *models, "-i", mixed, "-o", out, "-f", 0, "--save_probabilities"]
        bench.run("predict/models", "predict", *what, *HOW, *QUICK, *INLINE)
        bench.record.add_folder("predict/models", out, ["dataset.json"])
    with bench.part("predict/folds"):
        bench.train(MODALITY_DROPOUT)
        bench.train(SECOND_FOLD)
        images = bench.images(MODALITY_DROPOUT, "case_2", "case_3", without={"case_3": [1]})
        out = bench.new("predicted")
        what = ["-d", bench.data(*SECOND_FOLD.data), "-c", "3d_fullres", "-tr", SECOND_FOLD.class_name]
        what += ["-i", images, "-o", out, "-f", 0, 1, "--save_probabilities"]
        bench.run("predict/folds", "predict", *what, *HOW, *QUICK, *INLINE)
        bench.record.add_folder("predict/folds", out, ["dataset.json"])


def nnunet_predict(bench: Bench, name: str, model: Path, images: Path) -> None:
    """Probabilities from nnU-Net's predictor: all modalities, one named by the variable, one detected as zero."""
    files = [str(file) for file in sorted(images.glob("*.nii.gz"))]
    voxels, properties = SimpleITKIO().read_images(files)
    for how in ("all", "variable", "zero"):
        data = voxels.copy()
        if how == "zero":
            data[2] = 0
        predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        seed()
        with bench.variables(**({"nnUNet_missing_modalities": "t1ce"} if how == "variable" else {})):
            predictor.initialize_from_trained_model_folder(str(model), (0,))
            _, probabilities = predictor.predict_single_npy_array(data, properties, None, None, True)
        bench.record.add(f"{name}/{how}", digest(probabilities))
